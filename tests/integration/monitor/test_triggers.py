"""Asking for a training over HTTP: what arrives, what answers do, and what is never reached."""

import base64
import dataclasses
import hashlib
import hmac
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from eventlog.settings import KafkaSettings
from monitor.triggers import hooks as hooks_module
from monitor.triggers import http_client
from monitor.triggers.compose import make_trigger
from monitor.triggers.core.request import make_request, request_id
from monitor.triggers.core.retry import Fate
from monitor.triggers.dataset import Without
from monitor.triggers.hooks import HookEnded, RetrainHooks
from monitor.triggers.settings import RetrainSettings
from monitor.triggers.trigger import Trigger
from tests.broker.authority import Authority
from tests.trigger_receiver import Receiver, receiver, wait_for
from tests.unit.monitor.triggers.evidence import EVIDENCE

S = 10**9
KEY = "monitor:fraud:retrain:d:0"
SECRET = b"k" * 32
REQUEST = make_request(KEY, EVIDENCE, None, "off")


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def settings(there: Receiver, tmp_path: Path) -> RetrainSettings:
    """Of a template to the receiver, which is allowed to be reached."""
    (tmp_path / "token").write_text("sesame\n")
    return RetrainSettings(
        trigger="http",
        url=f"{there.url}/train/{{model}}",
        token_file=str(tmp_path / "token"),
        plaintext=True,
        allow_networks=("127.0.0.1",),
        timeout_s=20.0,
    )


def trigger(settings: RetrainSettings, **fields: Any) -> Trigger:
    changed = dataclasses.replace(settings, **fields)
    made = make_trigger(changed, (), Path("/nowhere"), ("", KafkaSettings()))
    assert made is not None
    return made


def hooks(made: Trigger, give_up_s: float = 3600) -> RetrainHooks:
    return RetrainHooks(made, Without("off"), round(give_up_s * S))


def ending(asking: RetrainHooks) -> HookEnded:
    (ended,) = wait_for("it has ended", asking.ended)
    return ended


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "backoff_s", lambda key, attempt: 0.001)


def test_a_template_is_sent_with_its_token_and_its_id(
    there: Receiver, settings: RetrainSettings
) -> None:
    there.answers = [(201, {"Location": "/queue/7"}, b'{"run": "r1", "echo": "sesame c2VzYW1l"}')]
    attempt = trigger(settings).attempt(REQUEST)
    assert attempt.fate is Fate.DONE
    assert attempt.detail == {
        "status": 201,
        "answer": '{"run": "r1", "echo": "(a secret) (a secret)"}',
        "location": "/queue/7",
    }
    (received,) = there.received
    assert (received.method, received.path) == ("POST", "/train/fraud")
    assert received.headers["authorization"] == "Bearer sesame"
    assert received.headers["idempotency-key"] == request_id(KEY)
    assert received.headers["host"] == f"127.0.0.1:{there.port}"
    assert json.loads(received.body) == dict(REQUEST.document)


def test_a_webhook_is_a_signed_cloud_event(
    there: Receiver, settings: RetrainSettings, tmp_path: Path
) -> None:
    """Checked as a receiver would, without our code."""
    path = tmp_path / "secret"
    path.write_text("whsec_" + base64.b64encode(SECRET).decode())
    made = trigger(settings, trigger="webhook", secret_file=str(path), token_file="")
    assert made.attempt(REQUEST).fate is Fate.DONE
    (received,) = there.received
    headers = received.headers
    assert headers["content-type"] == "application/cloudevents+json"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    digest = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 120
    event = json.loads(received.body)
    assert event["id"] == headers["webhook-id"] == request_id(KEY)
    assert event["data"]["features"] == EVIDENCE["features"]
    assert base64.b64encode(SECRET).decode() not in made.show(REQUEST)


def test_what_passes_is_tried_again_under_the_same_id(
    there: Receiver, settings: RetrainSettings, no_waits: None
) -> None:
    there.answers = [(503, {}, b""), (429, {"Retry-After": "0"}, b""), (202, {}, b"ok")]
    asking = hooks(trigger(settings))
    asking.start(KEY, EVIDENCE)
    ended = ending(asking)
    assert ended.good
    assert (ended.outcome["status"], ended.outcome["attempts"]) == (202, 3)
    assert {item.headers["idempotency-key"] for item in there.received} == {request_id(KEY)}
    assert len({item.body for item in there.received}) == 1


@pytest.mark.parametrize(
    ("answer", "good", "word"),
    [
        ((409, {}, b"there"), True, "before"),
        ((400, {}, b"no"), False, "status 400"),
        ((307, {"Location": "http://169.254.169.254/"}, b""), False, "leads elsewhere"),
    ],
)
def test_a_final_answer_ends_it_at_once(
    there: Receiver, settings: RetrainSettings, answer: Any, good: bool, word: str
) -> None:
    there.answers = [answer]
    asking = hooks(trigger(settings))
    asking.start(KEY, EVIDENCE)
    ended = ending(asking)
    assert (ended.good, len(there.received)) == (good, 1)
    assert word in ended.sentence


def test_attempts_end_when_it_is_given_up_also_over_restarts(
    there: Receiver, settings: RetrainSettings, no_waits: None
) -> None:
    there.answers = [(503, {}, b"")] * 1000
    asking = hooks(trigger(settings), give_up_s=0.3)
    asking.start(KEY, EVIDENCE)
    ended = ending(asking)
    assert not ended.good
    assert ended.sentence.startswith("given up after")
    # Begun long ago by another run: one attempt, and no more.
    there.received.clear()
    later = hooks(trigger(settings), give_up_s=3600)
    assert later.resume(KEY, EVIDENCE, time.time_ns() - 4000 * S)
    assert "given up after 1 attempts" in ending(later).sentence
    assert len(there.received) == 1


def test_told_to_stop_while_it_waits_it_says_nothing_and_goes_on_at_the_next_start(
    there: Receiver, settings: RetrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks_module, "backoff_s", lambda key, attempt: 600.0)
    there.answers = [(503, {}, b"")]
    asking = hooks(trigger(settings))
    asking.start(KEY, EVIDENCE)
    wait_for("it was asked", lambda: there.received)
    asking.kill()
    wait_for("it has let go", lambda: "retrain" not in [t.name for t in threading.enumerate()])
    assert asking.ended() == []
    again = hooks(trigger(settings))
    assert again.resume(KEY, EVIDENCE, time.time_ns())
    assert ending(again).good
    assert [item.headers["idempotency-key"] for item in there.received] == [request_id(KEY)] * 2


def test_a_command_is_not_run_again_after_a_restart(tmp_path: Path) -> None:
    made = make_trigger(RetrainSettings(), ("true",), tmp_path, ("", KafkaSettings()))
    assert not hooks(made).resume(KEY, EVIDENCE, 0) if made else pytest.fail("no trigger")


def test_a_failure_of_our_own_ends_the_action_too(settings: RetrainSettings) -> None:
    class Broken:
        repeatable = True

        def attempt(self, request: Any) -> Any:
            raise ZeroDivisionError

    asking = RetrainHooks(Broken(), Without("off"), S)  # type: ignore[arg-type]
    asking.start(KEY, EVIDENCE)
    ended = ending(asking)
    assert (ended.good, ended.sentence) == (
        False, "asking for a training failed: ZeroDivisionError",
    )  # fmt: skip


def test_what_is_not_allowed_is_not_connected_to(
    there: Receiver, settings: RetrainSettings
) -> None:
    made = trigger(settings, allow_networks=())
    attempt = made.attempt(REQUEST)
    assert attempt.fate is Fate.FAILED
    assert "this machine" in attempt.sentence
    assert there.received == []
    assert "this machine" in made.check()


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:7f00:1]"])
def test_however_this_machine_is_written_it_is_not_reached(
    there: Receiver, settings: RetrainSettings, host: str
) -> None:
    url = f"http://{host}:{there.port}/"
    attempt = trigger(settings, url=url, allow_networks=()).attempt(REQUEST)
    assert attempt.fate is not Fate.DONE
    assert there.received == []


def test_a_name_that_leads_elsewhere_the_second_time_is_not_followed(
    there: Receiver, settings: RetrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: the name is resolved once, and the address that was judged is used."""
    asked = []

    def resolver(host: str, port: int, **more: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(http_client.socket, "getaddrinfo", resolver)
    attempt = trigger(settings, url=f"http://rebound.example:{there.port}/").attempt(REQUEST)
    assert attempt.fate is Fate.DONE
    assert [host for host in asked if host == "rebound.example"] == ["rebound.example"]
    assert there.received[0].headers["host"] == f"rebound.example:{there.port}"


def test_of_several_addresses_one_that_is_refused_refuses_all(
    there: Receiver, settings: RetrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolver(host: str, port: int, **more: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", port)), (*kind, ("169.254.169.254", port))]

    monkeypatch.setattr(http_client.socket, "getaddrinfo", resolver)
    attempt = trigger(settings, url=f"http://two.example:{there.port}/").attempt(REQUEST)
    assert attempt.fate is Fate.FAILED
    assert "metadata" in attempt.sentence
    assert there.received == []


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte at a time, so that no single read waits long."""
    try:
        for _ in range(6000):
            handler.wfile.write(b"H")
            time.sleep(0.01)
    except OSError:
        pass


def silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def nothing(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.mark.parametrize("respond", [drip, silence, nothing])
def test_no_answer_within_its_time_is_one_that_may_come_later(
    there: Receiver, settings: RetrainSettings, respond: Any
) -> None:
    there.respond = respond
    attempt = trigger(settings, timeout_s=0.3).attempt(REQUEST)
    assert attempt.fate is Fate.RETRY
    assert f"127.0.0.1:{there.port}" in attempt.sentence


def test_of_an_answer_without_end_the_beginning_is_kept(
    there: Receiver, settings: RetrainSettings
) -> None:
    there.answers = [(200, {}, b"x" * 5_000_000)]
    attempt = trigger(settings).attempt(REQUEST)
    assert attempt.fate is Fate.DONE
    assert attempt.detail["answer"] == "x" * 500


def test_plain_http_to_a_server_that_speaks_tls_and_back_is_no_answer(
    there: Receiver, settings: RetrainSettings
) -> None:
    attempt = trigger(settings, url=f"https://127.0.0.1:{there.port}/").attempt(REQUEST)
    assert attempt.fate is Fate.RETRY


def test_over_tls_the_certificate_is_of_the_name_and_of_a_trusted_authority(
    settings: RetrainSettings, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "authority").create()
    with receiver(authority.issue("server")) as there:
        at = f"https://127.0.0.1:{there.port}/"
        trusting = {"url": at, "plaintext": False, "ca_file": str(authority.ca)}
        assert trigger(settings, **trusting).attempt(REQUEST).fate is Fate.DONE
        elsewhere = trusting | {"url": at.replace("127.0.0.1", "localhost")}
        allowed = ("127.0.0.1", "::1")
        named = trigger(settings, **elsewhere, allow_networks=allowed).attempt(REQUEST)
        strange = trigger(settings, **trusting | {"ca_file": ""}).attempt(REQUEST)
        assert (named.fate, strange.fate) == (Fate.RETRY, Fate.RETRY)
        assert "certificate" in strange.sentence.lower()
        assert len(there.received) == 1


def test_a_token_comes_from_a_command_for_each_attempt(
    there: Receiver, settings: RetrainSettings, tmp_path: Path
) -> None:
    count = f"open({str(tmp_path / 'n')!r}, 'a').write('x')"
    program = f'{count}; print(f"token-{{len(open({str(tmp_path / "n")!r}).read())}}")'
    made = trigger(settings, token_file="", token_command=(sys.executable, "-c", program))
    for _ in range(2):
        assert made.attempt(REQUEST).fate is Fate.DONE
    tokens = [item.headers["authorization"] for item in there.received]
    assert tokens == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (("/no/such/program",), "No such file"),
        ((sys.executable, "-c", "print('two\\nlines')"), "one line"),
        ((sys.executable, "-c", "print('canary'); raise SystemExit(3)"), "ended with 3"),
    ],
)
def test_without_a_token_nothing_is_sent_and_the_reason_holds_none(
    there: Receiver, settings: RetrainSettings, command: tuple[str, ...], word: str
) -> None:
    attempt = trigger(settings, token_file="", token_command=command).attempt(REQUEST)
    assert attempt.fate is Fate.RETRY
    assert word in attempt.sentence
    assert "canary" not in attempt.sentence
    assert there.received == []


def test_no_secret_is_logged_stored_or_shown(
    there: Receiver,
    settings: RetrainSettings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    no_waits: None,
) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "token").write_text("canary-5a5a\n")
    there.answers = [(500, {}, b"canary-5a5a"), (403, {}, b"you said canary-5a5a")]
    made = trigger(settings)
    asking = hooks(made)
    asking.start(KEY, EVIDENCE)
    ended = ending(asking)
    assert there.received[0].headers["authorization"] == "Bearer canary-5a5a"
    said = caplog.text + repr(ended) + made.show(REQUEST) + repr(made)
    assert "canary-5a5a" not in said
    assert not ended.good


def test_proxies_of_the_environment_are_not_asked(
    there: Receiver, settings: RetrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:9")
    assert trigger(settings).attempt(REQUEST).fate is Fate.DONE
