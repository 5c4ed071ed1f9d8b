"""`driftgate rollout`, `rollback`, `status` and `audit` as an operator types them."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from driftgate.cli import main

from .conftest import ROOT, FakeGateway, eventually

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ready(gateway: FakeGateway) -> FakeGateway:
    gateway.push()
    gateway.push("other", champion=False)
    gateway.push("cannot load", champion=False)
    return gateway.start()


@pytest.fixture
def driftgate(
    ready: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setattr("driftgate.cli.COMMANDS", ("status", "rollout", "audit"))
    monkeypatch.setenv("DRIFTGATE_STATE_DIR", str(ready.state))
    monkeypatch.setenv("DRIFTGATE_GATEWAY__ADMIN_PORT", str(ready.ports["admin"]))

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def told(driftgate: Run, *words: str) -> dict[str, Any]:
    code, out, err = driftgate(*words, "-o", "json")
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_the_monitor_takes_its_rollback_back_and_the_candidate_serves_again(
    driftgate: Run, ready: FakeGateway
) -> None:
    started = told(driftgate, "rollout", "start", "digits", "2", "--steps", "20,100")["after"]
    rollout = started["rollout"]
    monitor = {"origin": "monitor", "actor": "monitor", "rollout": rollout}
    rolled_back = ready.tell("ROLLBACK", id="monitor:digits:rollback:r", **monitor)
    generation = rolled_back["after"]["generation"]
    undo = {"id": "monitor:digits:undo:r", "expected_generation": generation, **monitor}
    for _ in range(2):  # it may be sent again after a crash
        ready.tell("UNDO", **undo)
    found = ready.deployment()
    assert (found["candidate"]["version"], found["weight"]) == ("2", 20)
    assert (found["phase"], found["quarantined"]) == ("PROGRESSING", [])
    eventually(lambda: ready.arms() == [{"1": 80, "2": 20}] * 2)
    verbs = [revision["verb"] for revision in found["history"]]
    assert verbs[-3:] == ["START", "ROLLBACK", "UNDO"]


def test_a_rollout_is_started_advanced_and_rolled_back(driftgate: Run, ready: FakeGateway) -> None:
    started = told(driftgate, "rollout", "start", "digits", "2", "--steps", "5,50,100")
    assert started["after"]["candidate"]["version"] == "2"
    assert started["after"]["history"][-1]["actor"]
    assert told(driftgate, "rollout", "promote", "digits")["after"]["weight"] == 50
    assert told(driftgate, "rollout", "set-weight", "digits", "30")["after"]["weight"] == 30
    assert told(driftgate, "rollout", "pause", "digits")["after"]["phase"] == "PAUSED"
    assert told(driftgate, "rollout", "resume", "digits")["after"]["phase"] == "PROGRESSING"
    done = told(driftgate, "rollout", "promote", "digits", "--full")
    assert done["after"]["stable"]["version"] == "2"
    back = told(driftgate, "rollback", "digits", "--reason", "complaints")
    assert back["after"]["stable"]["version"] == "1"
    assert back["workers"] == 2
    assert 0 < int(back["applied_ns"]) - int(back["accepted_ns"]) < 30e9
    assert ready.arms() == [{"1": 100}] * 2


def test_the_undo_line_that_is_printed_works_as_it_stands(
    driftgate: Run, ready: FakeGateway
) -> None:
    told(driftgate, "rollout", "start", "digits", "2", "--steps", "100")
    code, out, _ = driftgate("rollback", "digits")
    assert code == 0
    assert "live on all 2 workers after" in out
    line = next(line for line in out.splitlines() if line.startswith("undo with: driftgate "))
    code, out, err = driftgate(*line.removeprefix("undo with: driftgate ").split())
    assert code == 0, err
    assert ready.deployment()["stable"]["version"] == "2"


def test_a_hold_is_set_and_released(driftgate: Run) -> None:
    held = told(driftgate, "rollout", "hold", "digits", "--for", "10m")
    assert int(held["after"]["hold_until_ns"]) > 0
    released = told(driftgate, "rollout", "release", "digits")
    assert released["after"]["hold_until_ns"] == "0"
    assert "rollout hold digits --for 600s" in released["undo"]


def test_a_quarantined_version_is_released_by_number(driftgate: Run) -> None:
    told(driftgate, "rollout", "start", "digits", "2")
    told(driftgate, "rollback", "digits")
    code, _, err = driftgate("rollout", "start", "digits", "2")
    assert code == 1
    assert "quarantined" in err
    assert told(driftgate, "rollout", "release", "digits", "2")["after"]["quarantined"] == []
    assert told(driftgate, "rollout", "start", "digits", "2")["accepted"]
    assert told(driftgate, "rollout", "abort", "digits")["after"]["quarantined"] == []


def test_a_dry_run_changes_nothing_and_says_so(driftgate: Run, ready: FakeGateway) -> None:
    before = ready.deployment()
    code, out, _ = driftgate("rollout", "start", "digits", "2", "--dry-run")
    assert code == 0
    assert out.startswith("dry run: nothing was changed")
    assert ready.deployment() == before


def test_a_stale_generation_and_a_refusal_are_exit_code_1(driftgate: Run) -> None:
    code, _, err = driftgate("rollout", "start", "digits", "2", "--if-generation", "9")
    assert code == 1
    assert "is at generation 1, not 9" in err
    code, out, err = driftgate("rollback", "digits", "-o", "json")
    assert code == 1
    assert json.loads(out)["status"] == 422
    assert "no previous version" in err


def test_a_change_that_is_not_live_in_time_is_exit_code_3(
    driftgate: Run, ready: FakeGateway
) -> None:
    slow = ready.push("slow to load", champion=False)
    code, out, _ = driftgate("rollout", "start", "digits", slow, "--timeout", "1ms")
    assert code == 3
    assert "not yet live on all workers" in out


@pytest.mark.parametrize(
    "words",
    [
        ("rollout", "start", "digits", "2", "--steps", "five"),
        ("rollout", "set-weight", "digits", "101"),
    ],
)
def test_nonsense_is_a_usage_error(driftgate: Run, words: tuple[str, ...]) -> None:
    assert driftgate(*words)[0] == 2


def test_history_shows_who_and_why(driftgate: Run) -> None:
    told(driftgate, "rollout", "start", "digits", "2", "--reason", "quarterly update")
    code, out, _ = driftgate("rollout", "history", "digits")
    assert code == 0
    assert "quarterly update" in out.splitlines()[1]
    assert len(told_list(driftgate, "rollout", "history", "digits")) == 2
    assert driftgate("rollout", "history", "nobody")[0] == 1


def told_list(driftgate: Run, *words: str) -> list[Any]:
    _, out, _ = driftgate(*words, "-o", "json")
    document: list[Any] = json.loads(out)
    return document


def test_status_is_0_when_healthy_and_1_when_degraded(driftgate: Run, ready: FakeGateway) -> None:
    code, out, _ = driftgate("status")
    assert code == 0
    assert out.startswith("healthy: 2 of 2 workers ready, registry up")
    assert "version 1: loaded on 2 workers" in out
    assert driftgate("status", "digits")[0] == 0
    code, out, err = driftgate("status", "nobody")
    assert (code, out) == (1, "")  # the gateway itself is well
    assert "there is no deployment of nobody\n  caused by: this gateway serves digits" in err
    driftgate("rollout", "start", "digits", "3")
    eventually(lambda: ready.deployment()["quarantined"])
    code, out, _ = driftgate("status", "digits")
    assert code == 1
    assert "golden samples" in out


def test_status_waits_for_health_and_gives_up_in_time(driftgate: Run, ready: FakeGateway) -> None:
    assert driftgate("status", "--timeout", "5s")[0] == 0
    driftgate("rollout", "start", "digits", "3")
    eventually(lambda: ready.deployment()["quarantined"])
    assert driftgate("status", "--timeout", "100ms")[0] == 3
    assert driftgate("status", "--watch", "--timeout", "100ms")[0] == 3


def test_no_gateway_is_exit_code_4(driftgate: Run, ready: FakeGateway) -> None:
    assert ready.stop() == 0
    for words in (("status",), ("rollback", "digits"), ("audit",), ("rollout", "history", "m")):
        code, _, err = driftgate(*words)
        assert code == 4
        assert "no gateway answers" in err
        assert "hint:" in err


def test_audit_lists_and_verifies_even_when_the_gateway_is_down(
    driftgate: Run, ready: FakeGateway
) -> None:
    told(driftgate, "rollout", "start", "digits", "2", "--reason", "quarterly update")
    driftgate("rollout", "start", "digits", "2")
    code, out, _ = driftgate("audit", "digits")
    assert code == 0
    assert "start: quarterly update; generation 2" in out
    assert "is already on its way" in out
    assert told_list(driftgate, "audit", "--since", "1h")
    assert told_list(driftgate, "audit", "nobody") == []
    assert driftgate("audit", "--verify")[0] == 0
    ready.stop()
    code, out, _ = driftgate("audit", "--verify")
    assert code == 0
    assert "the chain is whole" in out
    tampered = sqlite3.connect(ready.state / "audit.db", isolation_level=None)
    tampered.execute("DELETE FROM entries WHERE sequence = 2")
    tampered.close()
    code, out, _ = driftgate("audit", "--verify", "-o", "json")
    assert code == 1
    assert not json.loads(out)["ok"]


def test_help_needs_no_gateway_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from driftgate import cli; cli.COMMANDS = ('status', 'rollout', 'audit'); "
        "cli.build_parser(); "
        "heavy = {'numpy', 'google.protobuf', 'starlette', 'asyncio'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
