"""The admin port: who gets in, what comes out. The matrix is made from the live route table."""

import http.client
import itertools
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.admin_client import AdminClient, AdminError, AdminUnreachableError
from serving.supervisor.admin import BODY_BYTES_MAX, ROUTES, Access, load_token

from .conftest import FakeGateway, eventually

METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
PATHS = sorted({route.path.replace("{model}", "digits") for route in ROUTES})
ALLOWED = {(route.method, route.path.replace("{model}", "digits")) for route in ROUTES}
BODIES = {"/v1/commands": json.dumps({"verb": "NOTE", "model": "digits", "reason": "matrix"})}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGateway]:
    gateway = FakeGateway(tmp_path_factory.mktemp("admin"), workers=1)
    gateway.push()
    gateway.push("other", champion=False)
    yield gateway.start()
    gateway.clean_up()


def ask(
    gateway: FakeGateway,
    method: str,
    path: str,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
    body: str | bytes | None = None,
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["admin"], timeout=10)
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    connection.putrequest(method, path, skip_host="Host" in sent)
    data = body.encode() if isinstance(body, str) else body
    if data is not None:
        connection.putheader("Content-Length", str(len(data)))
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(data)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_every_route_has_an_access_class() -> None:
    assert all(isinstance(route.access, Access) for route in ROUTES)


@pytest.mark.parametrize(("method", "path"), list(itertools.product(METHODS, PATHS)))
def test_only_the_routes_of_the_table_answer_and_only_with_the_token(
    served: FakeGateway, method: str, path: str
) -> None:
    body = BODIES.get(path)
    listed = any(route.method == method for route in ROUTES)
    refused = 401 if listed else 405
    for token in (None, "", "wrong", served.token[:-1], served.token + "x"):
        assert ask(served, method, path, token=token, body=body)[0] == refused
    allowed = 200 if (method, path) in ALLOWED else 405
    assert ask(served, method, path, token=served.token, body=body)[0] == allowed


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v1", "/v1/", "/v1/status/", "//v1/status", "/V1/STATUS", "/v1/status;x"),
        *("/v1/../v1/status", "/v1/%73tatus", "/v1/models/..%2f..%2fetc", "/v1/models/a/b"),
        *("/docs", "/openapi.json", "/metrics", "/v2/health/ready"),
    ],
)
def test_a_path_trick_finds_nothing(served: FakeGateway, path: str) -> None:
    assert ask(served, "GET", path)[0] in {401, 404}
    assert ask(served, "GET", path, token=served.token)[0] == 404


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost:1", "", "127.0.0.1@evil", "LOCALHOST#"],
)
def test_a_host_that_is_not_ours_is_refused_even_with_the_token(
    served: FakeGateway, host: str
) -> None:
    assert ask(served, "GET", "/v1/status", token=served.token, headers={"Host": host})[0] == 403


def test_a_request_from_a_browser_page_is_refused(served: FakeGateway) -> None:
    headers = {"Origin": "http://127.0.0.1"}
    assert ask(served, "GET", "/v1/status", token=served.token, headers=headers)[0] == 403


@pytest.mark.parametrize("value", ["Basic x", "Bearer", "bearer  x", "Token {token}", "{token}"])
def test_only_a_bearer_token_counts(served: FakeGateway, value: str) -> None:
    headers = {"Authorization": value.format(token=served.token)}
    assert ask(served, "GET", "/v1/status", headers=headers)[0] == 401


def test_a_method_override_header_overrides_nothing(served: FakeGateway) -> None:
    before = served.deployment()
    headers = {"X-HTTP-Method-Override": "POST"}
    ask(served, "GET", "/v1/commands", token=served.token, headers=headers)
    assert served.deployment() == before


def test_those_turned_away_are_audited_and_bounded(served: FakeGateway) -> None:
    def denied() -> list[dict[str, Any]]:
        return [item for item in all_entries(served) if item["kind"] == "denied"]

    time.sleep(1.1)  # the window of one entry per second has passed
    before = len(denied())
    for _ in range(50):
        ask(served, "GET", "/v1/status", token="wrong")
    assert 1 <= len(denied()) - before <= 10


def all_entries(gateway: FakeGateway) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    while page := gateway.admin.audit(after=len(entries), limit=1000):
        entries += page
    return entries


def test_the_token_file_is_this_users_alone(served: FakeGateway) -> None:
    mode = stat.S_IMODE((served.state / "admin.token").stat().st_mode)
    assert mode == 0o600
    assert stat.S_IMODE(served.state.stat().st_mode) & 0o077 == 0 or os.geteuid() == 0
    assert len(served.token) >= 40


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("", "not a command"),
        ("[]", "verb"),
        ('{"verb": "EXPLODE"}', "not a command"),
        ('{"verb": "NOTE", "model": "digits", "colour": 1}', "not a command"),
        ('{"verb": "NOTE", "model": "../etc"}', "name"),
        ('{"verb": "NOTE", "model": "digits", "origin": "alias"}', "door"),
        ('{"verb": "NOTE", "model": "digits", "origin": "supervisor"}', "door"),
        ('{"verb": "NOTE", "model": "digits", "origin": "nobody"}', "origin"),
        ('{"model": "digits"}', "verb"),
        ("[" * 100_000, "not a command"),
        (b"\xff\xfe", "not a command"),
    ],
)
def test_a_body_that_is_no_command_is_refused_in_one_sentence(
    served: FakeGateway, body: str | bytes, hint: str
) -> None:
    status, answer = ask(served, "POST", "/v1/commands", token=served.token, body=body)
    assert status == 400
    assert hint in json.loads(answer)["error"]
    assert len(answer) <= 512


def test_a_body_beyond_the_limit_is_refused(served: FakeGateway) -> None:
    reason = "x" * BODY_BYTES_MAX
    body = json.dumps({"verb": "NOTE", "model": "digits", "reason": reason})
    status, answer = ask(served, "POST", "/v1/commands", token=served.token, body=body)
    assert status == 400
    assert b"larger than" in answer


@pytest.mark.parametrize(
    "query", ["wait_ms=-1", "wait_ms=x", "dry_run=2", "wait_ms=9999999", f"wait_ms={1:05000}"]
)
def test_a_query_out_of_range_is_refused(served: FakeGateway, query: str) -> None:
    body = BODIES["/v1/commands"]
    path = f"/v1/commands?{query}"
    assert ask(served, "POST", path, token=served.token, body=body)[0] == 400


def test_a_dry_run_says_what_would_happen_and_does_nothing(served: FakeGateway) -> None:
    before = served.deployment()
    command = {"verb": "START", "model": "digits", "version": {"version": "2"}, "steps": [100]}
    result = served.admin.apply(command, dry_run=True)
    assert result["accepted"]
    assert result["dry_run"]
    assert result["after"]["stable"]["version"] == "2"
    assert served.deployment() == before


def test_a_stale_generation_is_a_409_and_a_refusal_a_422(served: FakeGateway) -> None:
    stale = {"verb": "FREEZE", "model": "digits", "expected_generation": 999}
    assert served.admin.apply(stale)["status"] == 409
    refused = served.admin.apply({"verb": "ADVANCE", "model": "digits"})
    assert refused["status"] == 422
    assert refused["error"] == "no rollout of digits is on its way"


def test_a_version_that_the_registry_lacks_is_a_422(served: FakeGateway) -> None:
    result = served.admin.apply({"verb": "START", "model": "digits", "version": {"version": "77"}})
    assert result["status"] == 422
    assert "77" in result["error"]


def test_an_alias_names_a_version(served: FakeGateway) -> None:
    command = {"verb": "START", "model": "digits", "version": {"version": "@nothing"}}
    assert "alias" in served.admin.apply(command)["error"]


def test_a_repeated_id_gets_the_first_answer(served: FakeGateway) -> None:
    first = served.admin.apply({"id": "once", "verb": "FREEZE", "model": "digits"})
    again = served.admin.apply({"id": "once", "verb": "FREEZE", "model": "digits"})
    assert again["accepted"]
    assert again["duplicate"]
    assert again["after"]["generation"] == first["after"]["generation"]
    assert served.admin.apply({"verb": "UNFREEZE", "model": "digits"})["accepted"]


def test_an_unknown_model_has_no_deployment(served: FakeGateway) -> None:
    assert served.admin.deployment("nobody") is None


def test_the_audit_pages_and_verifies(served: FakeGateway) -> None:
    served.admin.apply({"verb": "NOTE", "model": "digits", "evidence_json": '{"e": 1}'})
    entries = all_entries(served)
    assert [item["sequence"] for item in entries] == list(range(1, len(entries) + 1))
    assert {item["model"] for item in served.admin.audit("digits")} == {"digits"}
    verdict = served.admin.verify_audit()
    assert verdict["ok"]
    assert verdict["entries"] >= len(entries)


def test_the_ledger_lists_every_worker(served: FakeGateway) -> None:
    eventually(lambda: isinstance(served.admin.ledger(), list))


def test_a_client_with_a_wrong_token_is_told_so(served: FakeGateway) -> None:
    with pytest.raises(AdminError, match="token"):
        AdminClient(served.url, "wrong").status()


def test_a_client_of_a_closed_port_is_told_so() -> None:
    with pytest.raises(AdminUnreachableError, match="Connection refused"):
        AdminClient("http://127.0.0.1:1", "x").status()


def test_metrics_are_read_only_and_need_no_token(served: FakeGateway) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.ports["metrics"], timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "driftgate_workers 1" in text
    assert 'driftgate_rollout_weight_ratio{model="digits",version="1"} 1' in text
    assert 'driftgate_rollout_phase{model="digits",phase="stable"} 1' in text
    connection.request("POST", "/metrics", b"x")
    assert connection.getresponse().status == 405
    connection.close()
    assert ask_metrics(served, "/v1/status") == 404


def ask_metrics(gateway: FakeGateway, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.ports["metrics"], timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_nothing_secret_is_in_a_command_line(served: FakeGateway) -> None:
    for pid in [served.process.pid, *served.pids()]:
        assert served.token not in Path(f"/proc/{pid}/cmdline").read_text()


def test_a_token_file_that_is_no_text_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "admin.token"
    path.write_bytes(b"\xde\xad\xbe\xef")
    token = load_token(path)
    assert len(token) >= 32
    assert load_token(path) == token
    (aside,) = tmp_path.glob("admin.token.damaged-*")
    assert aside.read_bytes() == b"\xde\xad\xbe\xef"
    assert f"set aside as {aside.name}" in capsys.readouterr().err
