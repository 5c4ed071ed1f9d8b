"""Deployment tools ask over HTTP: Argo Rollouts by JSON, Flagger by status."""

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftgate.cli import main
from monitor.core.judge import Kind
from monitor.http_api import BODY_BYTES_MAX, MonitorServer
from monitor.published import Published, Snapshot
from tests.conftest import ROOT
from tests.trigger_receiver import receiver

NOW_NS = 10**18
EXAMPLES = ROOT / "docs" / "examples"


def state(model: str, kind: Kind) -> dict[str, Any]:
    """As `monitor.documents.state_document` makes it, of a rollout from 1 to 2."""
    feature = {"name": "amount", "tensor": "x", "index": 0, "named": True}
    return {
        "model": model, "verdict": kind.value, "verdict_id": "v", "reason": f"it is {kind.value}",
        "end_ns": NOW_NS, "evidence_s": 1.0, "threshold_s": 2.0, "warn_threshold_s": 1.0,
        "groups_s": {}, "loss": {}, "features": [{**feature, "ks": 0.1, "psi": 0.2, "js": 0.3}],
        "stable": {"version": "1", "digest": "d" * 64, "has_reference": True},
        "candidate": {"version": "2", "rows": 500, "stable_rows": 900, "e_value": 3.5},
    }  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    models = {
        "good": state("good", Kind.HEALTHY),
        "bad": state("bad", Kind.ROLLBACK),
        "odd": state("odd", Kind.UPSTREAM),
    }
    published = Published(Snapshot(ready=True, overall={}, models=models))
    home = tmp_path_factory.mktemp("monitor")
    server = MonitorServer(
        "127.0.0.1", 0, published, home / "monitor.db", clock=lambda: NOW_NS + 10**9
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, body, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("model", "verdict"), [("good", "pass"), ("bad", "fail"), ("odd", "inconclusive")]
)
def test_a_verdict_is_told_with_its_evidence(url: str, model: str, verdict: str) -> None:
    status, document = ask(f"{url}/v1/verdict?model={model}")
    assert (status, document["verdict"], document["e_value"]) == (200, verdict, 3.5)
    assert document["evidence"]["candidate"]["rows"] == 500
    assert document["reason"]


@pytest.mark.parametrize(
    ("hook", "answered"),
    [
        ("rollback", {"bad"}),
        ("confirm-rollout", {"good"}),
        ("confirm-traffic-increase", {"good"}),
        ("confirm-promotion", {"good"}),
    ],
)
def test_flagger_is_answered_200_only_where_it_should_act(
    url: str, hook: str, answered: set[str]
) -> None:
    page = f"{url}/v1/flagger/{hook}"
    for model in ("good", "bad", "odd"):
        told = {
            "name": "canary",
            "namespace": "ml",
            "phase": "Progressing",
            "checksum": "85d557f47",
        }
        body = json.dumps({**told, "metadata": {"model": model}}).encode()
        expected = 200 if model in answered else 409
        assert ask(page, body)[0] == expected
        assert ask(f"{page}?model={model}", b"{}")[0] == expected
        assert ask(page, json.dumps({"name": model}).encode())[0] == expected


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/verdict", None, 400),
        ("/v1/verdict?model=none", None, 404),
        ("/v1/flagger/rollback", b"", 400),
        ("/v1/flagger/rollback", b"[]", 400),
        ("/v1/flagger/rollback", b"not json", 400),
        ("/v1/flagger/rollback", b'{"metadata": {"model": 5}}', 400),
        ("/v1/flagger/rollback", b'{"name": "none"}', 404),
        ("/v1/flagger/rollback", b" " * (BODY_BYTES_MAX + 1), 413),
        ("/v1/flagger/event", b"{}", 404),
        ("/v1/verdict", b"{}", 404),
    ],
)
def test_what_cannot_be_answered_never_rolls_back(
    url: str, path: str, body: bytes | None, status: int
) -> None:
    found, document = ask(url + path, body)
    assert found == status
    assert document["error"]


def test_the_example_for_argo_rollouts_asks_what_is_answered(url: str) -> None:
    template = yaml.safe_load((EXAMPLES / "argo-rollouts-analysis.yaml").read_text())
    assert (template["apiVersion"], template["kind"]) == (
        "argoproj.io/v1alpha1", "AnalysisTemplate",
    )  # fmt: skip
    (metric,) = template["spec"]["metrics"]
    web = metric["provider"]["web"]
    assert web["jsonPath"] == "{$.verdict}"
    for name in re.findall(r"{{args\.(\w+)}}", web["url"]):
        assert {"name": name} in template["spec"]["args"]
    asked = web["url"].replace("{{args.model}}", "{model}").replace("{{args.version}}", "2")
    path = asked.partition(":8100")[2]
    answers = {m: ask(url + path.format(model=m))[1]["verdict"] for m in ("good", "bad", "odd")}
    conditions = metric["successCondition"], metric["failureCondition"]
    assert conditions == ('result == "pass"', 'result == "fail"')
    assert answers == {"good": "pass", "bad": "fail", "odd": "inconclusive"}


def test_the_example_for_flagger_asks_what_is_answered(url: str) -> None:
    canary = yaml.safe_load((EXAMPLES / "flagger-canary.yaml").read_text())
    assert (canary["apiVersion"], canary["kind"]) == ("flagger.app/v1beta1", "Canary")
    hooks = canary["spec"]["analysis"]["webhooks"]
    assert {hook["type"] for hook in hooks} == {
        "rollback", "confirm-traffic-increase", "confirm-promotion",
    }  # fmt: skip
    for hook in hooks:
        assert hook["url"].endswith(f"/v1/flagger/{hook['type']}")
        body = {"name": "fraud", "namespace": "ml", "phase": "Progressing"}
        path = hook["url"].partition(":8100")[2]
        acts_on, waits_on = ("bad", "good") if hook["type"] == "rollback" else ("good", "bad")
        for model, status in ((acts_on, 200), (waits_on, 409)):
            told = json.dumps({**body, "metadata": {**hook["metadata"], "model": model}}).encode()
            assert ask(url + path, told)[0] == status


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["monitor", "trigger", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_dry_run_prints_the_request_and_sends_nothing(
    url: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "token").write_text("sesame")
    with receiver() as there:
        words = [
            "good", "--url", url, "--state-dir", str(tmp_path), "--retrain-url", there.url,
            "--retrain-trigger", "airflow3", "--retrain-parameters", "dag_id=retrain_{model}",
            "--retrain-token-file", str(tmp_path / "token"), "--retrain-plaintext", "true",
            "--retrain-allow-networks", "127.0.0.1",
        ]  # fmt: skip
        code, out, _ = typed(capsys, *words, "--dry-run")
        assert (code, there.received) == (0, [])
        head, _, body = out.partition("\n\n")
        assert head.startswith(f"POST {there.url}/api/v2/dags/retrain_good/dagRuns\n")
        assert "Authorization: Bearer (a secret)" in head
        assert "sesame" not in out
        assert json.loads(body)["conf"]["features"] == ["amount"]
        code, out, _ = typed(capsys, *words)
        assert (code, out) == (0, "a training was asked for (status 200)\n")
        (received,) = there.received
        conf = json.loads(received.body)["conf"]
        assert (conf["cause"], conf["dataset"]) == ("operator", None)
        assert conf["dataset_missing"]
        there.answers = [(403, {}, b"no")]
        assert typed(capsys, *words)[0] == 1


def test_what_cannot_be_triggered_is_said(url: str, tmp_path: Path, capsys: Any) -> None:
    state_dir = ("--state-dir", str(tmp_path))
    code, _, err = typed(capsys, "good", "--url", url, *state_dir)
    assert (code, "no trigger is configured" in err) == (2, True)
    hook = (*state_dir, "--monitor-retrain-hook", "true")
    assert typed(capsys, "none", "--url", url, *hook, "--dry-run")[0] == 1
    assert typed(capsys, "good", "--url", "http://127.0.0.1:9", *hook, "--dry-run")[0] == 4
    code, _, err = typed(capsys, "good", *state_dir, "--retrain-trigger", "webhook")
    assert (code, "needs retrain.url" in err) == (2, True)
