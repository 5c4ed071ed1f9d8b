"""From a standing verdict to what the gateway is told, through crashes, refusals and guards."""

import json
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from eventlog import MemoryLog
from monitor.action_store import ActionStore, answer_waiting
from monitor.admin import AdminError, AdminRefused
from monitor.automation import Automation
from monitor.core.deployment import Deployment, parse_deployment
from monitor.core.guards import Action, Guards
from monitor.core.judge import Kind
from monitor.documents import block_document, verdict_document
from monitor.engine import Closed, Engine
from monitor.store import BlockRow, Store
from monitor.trainings import Due
from monitor.triggers.command import OUTPUT_TAIL, CommandTrigger
from monitor.triggers.core.request import Request
from monitor.triggers.core.retry import Attempt, Fate
from monitor.triggers.core.schedule import Schedule
from monitor.triggers.dataset import Without
from monitor.triggers.hooks import HookEnded, RetrainHooks
from tests.monitor_world import (
    BLOCK_NS,
    CODEC,
    MODEL,
    SETTINGS,
    START_NS,
    Profiles,
    Traffic,
    Version,
)

GOOD, BETTER, BAD = Version("1"), Version("2"), Version("3", accuracy=0.5)
PROFILES = Profiles(GOOD, BETTER, BAD)
S = 10**9
GUARDS = Guards(
    rollback_cooldown_ns=100 * S,
    retrain_cooldown_ns=200 * S,
    actions_per_day_max=2,
    rows_min=100,
    bake_ns=20 * S,
    lag_max_ns=30 * S,
)


class FakeGateway:
    """Accepts every command once by its id; fails on demand."""

    def __init__(self) -> None:
        self.applied: dict[str, dict[str, Any]] = {}
        self.attempts: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.crash_after: bool = False
        self.frozen = False
        self.state: dict[str, Any] = {"model": MODEL, "phase": "STABLE"}

    def deployment(self, model: str) -> Deployment:
        if self.failure is not None:
            raise self.failure
        return parse_deployment(self.state | ({"frozen": True} if self.frozen else {}))

    def apply(self, command: dict[str, Any], wait_ms: int = 0) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        self.attempts.append(command)
        self.applied.setdefault(command["id"], command)
        self.frozen = self.frozen or command["verb"] == "FREEZE"
        if self.crash_after and command["verb"] != "NOTE":
            raise Crash
        return {"accepted": True, "accepted_ns": "5", "applied_ns": "6", "undo": "undo it"}

    def verbs(self) -> list[str]:
        return [c["verb"] for c in self.applied.values() if c["verb"] != "NOTE"]


class Crash(BaseException):
    """The process dies here."""


EVIDENCE = {"model": MODEL, "window_start_ns": 0, "window_end_ns": 1, "features": []}


def command_hooks(argv: tuple[str, ...], path: Path, timeout_s: float) -> RetrainHooks:
    trigger = CommandTrigger(argv, path, timeout_s) if argv else None
    return RetrainHooks(trigger, Without("not here"), give_up_ns=3600 * S)


class World:
    """Engine, store and automation over a log in memory; the clock is the traffic's."""

    def __init__(self, path: Path, hook: tuple[str, ...] = ()) -> None:
        self.path = path
        self.traffic = Traffic(MemoryLog())
        self.gateway = FakeGateway()
        self.store = Store(path / "monitor.db", "test")
        self.log = ActionStore(path / "actions.db")
        self.hooks = command_hooks(hook, path, timeout_s=30.0)
        self.engine = Engine(
            self.traffic.log, CODEC.decode, PROFILES, SETTINGS, load_page=self.store.label_page
        )
        self.late_ns = 0
        self.options: dict[str, Any] = {"rollback": True, "undo": True, "advance": True}
        self.guards = GUARDS
        self.restart()

    def restart(self) -> None:
        self.automation = Automation(
            self.store,
            self.log,
            self.gateway,
            self.hooks,
            self.guards,
            retrain_window_ns=60 * S,
            clock=lambda: self.traffic.now_ns + self.late_ns,
            **self.options,
        )

    def closed(self, closed: Closed) -> None:
        summary, state = closed.summary, self.engine.models[closed.model]
        row = BlockRow(
            MODEL,
            summary.start_ns,
            summary.stable,
            summary.candidate,
            block_document(summary),
        )
        verdicts = [verdict_document(state, summary, 1)] if summary.raised else []
        self.store.commit(b"", [row], verdicts, {})

    def run(self, blocks: int, act: bool = True) -> None:
        for _ in range(blocks):
            self.traffic.step()
            while self.engine.read(100):
                self.engine.close_blocks(self.closed)
            if act:
                self.automation.step(self.engine.models)

    def roll_out(self, version: Version, weight: int) -> None:
        self.traffic.candidate, self.traffic.weight = version, weight / 100
        self.traffic.rollout = f"r{version.name}"
        self.gateway.state = {
            "model": MODEL, "phase": "PROGRESSING", "rollout": self.traffic.rollout,
            "weight": weight, "generation": "4", "stable": {"digest": GOOD.digest},
            "candidate": {"digest": version.digest}, "changed_ns": str(self.traffic.now_ns),
        }  # fmt: skip

    def close(self) -> None:
        self.store.close()
        self.log.close()

    @property
    def standing(self) -> Kind:
        return self.engine.models[MODEL].standing

    def actions(self) -> list[tuple[Action, str]]:
        return [(row.action, row.state) for row in reversed(self.log.actions(MODEL))]

    def acts(self) -> list[tuple[Action, str]]:
        """But for trainings, which are dry."""
        return [item for item in self.actions() if item[0] is not Action.RETRAIN]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_a_bad_candidate_is_rolled_back_once(world: World) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.run(40)
    assert world.gateway.verbs() == ["ROLLBACK"]
    assert world.actions() == [(Action.ROLLBACK, "done")]
    command = next(c for c in world.gateway.applied.values() if c["verb"] == "ROLLBACK")
    assert command["rollout"] == "r3"
    verdict = world.store.verdict(f"{MODEL}:rollback:r3:{evidence_of(command)['block_start_ns']}")
    assert (verdict["accepted_ns"], verdict["applied_ns"]) == (5, 6)


def evidence_of(command: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command["evidence_json"])
    return found


def test_killed_after_sending_it_sends_the_same_command_again(world: World) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.gateway.crash_after = True
    with pytest.raises(Crash):
        world.run(40)
    world.gateway.crash_after = False
    world.restart()
    world.run(5)
    sent = [c["id"] for c in world.gateway.attempts if c["verb"] == "ROLLBACK"]
    assert len(sent) == 2
    assert len(set(sent)) == 1
    assert world.actions() == [(Action.ROLLBACK, "done")]


def test_a_rollback_that_helped_is_said_to_have_helped(world: World) -> None:
    rolled_back(world)
    world.run(60)
    assert world.gateway.verbs() == ["ROLLBACK"]
    (row,) = world.log.actions(MODEL)
    assert row.data["verified"] == "confirmed"
    assert "where the candidate's was" in row.data["verification"]
    notes = [c for c in world.gateway.applied.values() if "confirmed" in c["reason"]]
    assert len(notes) == 1
    assert world.store.verdict(row.verdict)["verified"] == "confirmed"


def test_a_rollback_that_made_it_worse_is_taken_back_once(world: World) -> None:
    rolled_back(world)
    world.traffic.harm = 0.8  # of stable; the inputs are what they were
    world.run(60)
    assert world.gateway.verbs() == ["ROLLBACK", "UNDO"]
    command = next(c for c in world.gateway.applied.values() if c["verb"] == "UNDO")
    assert (command["rollout"], command["expected_generation"]) == ("r3", "5")
    assert "the rollback made it worse: loss" in command["reason"]
    world.restart()
    world.run(10)
    assert world.gateway.verbs() == ["ROLLBACK", "UNDO"]
    assert world.acts() == [(Action.ROLLBACK, "done"), (Action.UNDO, "done")]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"frozen": True}, "frozen"),
        ({"hold_until_ns": str(1 << 62)}, "holds"),
        ({"history": [{"verb": "PROMOTE", "actor": "ann", "ts_ns": str(1 << 62)}]}, "changed"),
    ],
    ids=["frozen", "held", "changed since"],
)
def test_what_an_operator_did_since_keeps_a_rollback(
    world: World, change: dict[str, Any], word: str
) -> None:
    rolled_back(world)
    world.gateway.state |= change
    world.traffic.harm = 0.8
    world.run(60)
    assert world.gateway.verbs() == ["ROLLBACK"]
    assert word in world.automation.withheld[MODEL]
    world.run(60)  # and it is not thought of for ever
    assert "made it worse" not in world.automation.withheld.get(MODEL, "")


def test_where_the_data_moved_as_well_a_rollback_stays(world: World) -> None:
    rolled_back(world)
    world.traffic.harm, world.traffic.shift = 0.8, 3.0
    world.run(60)
    assert "UNDO" not in world.gateway.verbs()


def test_undoing_can_be_switched_off_and_can_ask(world: World) -> None:
    world.options["undo"] = False
    world.restart()
    rolled_back(world)
    world.traffic.harm = 0.8
    world.run(60)
    assert "switched off" in world.automation.withheld[MODEL]
    world.options["undo"] = True
    world.guards = replace(GUARDS, approve=frozenset({Action.UNDO}), approve_ns=1000 * S)
    world.restart()
    world.run(5)
    assert world.acts() == [(Action.ROLLBACK, "done"), (Action.UNDO, "waiting")]
    key = world.log.waiting()[0].key
    answer = {"answer": "approve", "answered_by": "ann", "answered_ns": world.traffic.now_ns}
    assert answer_waiting(world.path / "actions.db", key, answer)
    world.run(5)
    assert world.gateway.verbs() == ["ROLLBACK", "UNDO"]


def rolled_back(world: World) -> None:
    """A bad candidate came, and went by the monitor's own command."""
    world.run(10)
    world.roll_out(BAD, 20)
    world.run(40)
    assert world.gateway.verbs() == ["ROLLBACK"]
    world.traffic.candidate = None
    at_ns = world.log.actions(MODEL)[0].at_ns
    world.gateway.state = {
        "model": MODEL, "phase": "STABLE", "generation": "5", "stable": {"digest": GOOD.digest},
        "changed_ns": str(at_ns + 5),
        "history": [{"verb": "ROLLBACK", "actor": "monitor", "ts_ns": str(at_ns + 5)}],
    }  # fmt: skip


def test_a_gateway_that_is_down_gets_the_command_when_it_is_back(world: World) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.gateway.failure = AdminError("down")
    world.run(30)
    assert world.standing is Kind.ROLLBACK
    world.gateway.failure = None
    world.run(20)
    assert world.gateway.verbs() == ["ROLLBACK"]


def test_a_model_that_the_gateway_does_not_know_is_only_watched(world: World) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.gateway.deployment = refuse  # type: ignore[method-assign, assignment]
    world.run(30)
    assert world.gateway.verbs() == []


def refuse(model: str) -> Deployment:
    raise AdminRefused("no such model")


@pytest.mark.parametrize(
    ("state", "word"),
    [({"frozen": True}, "frozen"), ({"hold_until_ns": str(1 << 62)}, "holds")],
)
def test_an_operator_s_hold_and_a_freeze_are_respected(
    world: World, state: dict[str, Any], word: str
) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.gateway.state |= state
    world.run(30)
    assert world.gateway.verbs() == []
    assert word in world.automation.withheld[MODEL]


def test_with_rolling_back_switched_off_it_only_says_so(world: World) -> None:
    world.options["rollback"] = False
    world.restart()
    world.run(10)
    world.roll_out(BAD, 20)
    world.run(30)
    assert world.gateway.verbs() == []
    notes = [c["reason"] for c in world.gateway.applied.values() if c["verb"] == "NOTE"]
    assert world.standing is Kind.ROLLBACK
    assert "switched off" in world.automation.withheld[MODEL]
    assert notes == []  # notes are the main loop's to give


def test_old_statistics_are_not_acted_on(world: World) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.late_ns = 60 * S
    world.run(40)
    assert world.gateway.verbs() == []
    world.late_ns = 0
    world.run(2)
    assert world.gateway.verbs() == ["ROLLBACK"]


def test_a_split_that_is_off_makes_the_verdict_inconclusive(world: World) -> None:
    world.run(10)
    world.roll_out(BAD, 20)
    world.gateway.state["weight"] = 60
    world.run(40)
    assert world.gateway.verbs() == []
    assert "split" in world.automation.withheld[MODEL]


@pytest.mark.parametrize("role", ["stable", "candidate"])
def test_a_split_is_right_though_the_log_samples_the_arms_differently(
    world: World, role: str
) -> None:
    """As logged the candidate has a share of 70 %, or of 6 %; 20 % are set and served."""
    world.traffic.rows_per_block = 2000
    world.traffic.one_in = {role: {"stable": 10, "candidate": 4}[role]}
    world.run(10)
    world.roll_out(BAD, 20)
    world.run(40)
    assert world.gateway.verbs() == ["ROLLBACK"]
    stable, candidate = world.store.rows_since(MODEL, 0)
    sampled = stable if role == "stable" else candidate
    assert sampled.stands_for == sampled.rows * world.traffic.one_in[role]


def test_a_healthy_candidate_goes_to_its_next_step_once_it_is_baked(world: World) -> None:
    world.run(10)
    world.roll_out(BETTER, 25)
    world.run(19)
    assert world.gateway.verbs() == []
    world.run(10)
    assert world.gateway.verbs() == ["ADVANCE"]
    world.run(30)
    assert world.gateway.verbs() == ["ADVANCE"]
    command = next(c for c in world.gateway.applied.values() if c["verb"] == "ADVANCE")
    assert (command["rollout"], command["expected_generation"]) == ("r2", "4")
    # The next step has to be earned from its own beginning.
    world.gateway.state |= {"step": 1, "generation": "5", "changed_ns": str(world.traffic.now_ns)}
    world.run(15)
    assert len(world.gateway.verbs()) == 1
    world.run(20)
    assert len(world.gateway.verbs()) == 2


def test_without_a_hook_a_retraining_is_a_dry_run(world: World) -> None:
    world.run(20)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.run(40)
    assert world.actions() == [(Action.RETRAIN, "dry run")]
    assert [past.dry for past in world.log.past(MODEL)] == [True]
    world.run(2)
    notes = [c["reason"] for c in world.gateway.applied.values() if c["verb"] == "NOTE"]
    assert any("dry run" in reason for reason in notes)


HOOK = """
import json, os, sys
evidence = json.load(sys.stdin)
names = ("DRIFTGATE_MODEL", "DRIFTGATE_STATE_DIR", "DRIFTGATE_WINDOW_START_NS",
         "DRIFTGATE_WINDOW_END_NS")
print("trained", flush=True)
with open(os.environ["DRIFTGATE_STATE_DIR"] + "/hook.json", "w") as out:
    json.dump({"evidence": evidence, "env": [os.environ[name] for name in names]}, out)
sys.exit(int(os.environ.get("HOOK_EXIT", "0")))
"""


@pytest.mark.parametrize("exit_code", [0, 3])
def test_the_hook_is_run_once_with_the_evidence(
    tmp_path: Path, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_EXIT", str(exit_code))
    world = World(tmp_path, (sys.executable, "-c", HOOK))
    world.run(20)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.run(25)
    finished = "done" if exit_code == 0 else "failed"
    deadline = time.monotonic() + 60
    while world.actions() != [(Action.RETRAIN, finished)] and time.monotonic() < deadline:
        time.sleep(0.05)
        world.automation.step(world.engine.models)
    world.run(5)
    assert world.actions() == [(Action.RETRAIN, finished)]
    told = json.loads((tmp_path / "hook.json").read_text())
    assert told["env"][:2] == [MODEL, str(tmp_path)]
    evidence = told["evidence"]
    assert evidence["window_end_ns"] - evidence["window_start_ns"] == 60 * S
    assert told["env"][2:] == [str(evidence["window_start_ns"]), str(evidence["window_end_ns"])]
    assert set(evidence["features"]) == {f"f{i}" for i in range(6)}
    assert START_NS + 19 * BLOCK_NS <= evidence["changed_after_ns"] <= START_NS + 30 * BLOCK_NS
    row = world.log.actions(MODEL)[0]
    assert row.data["exit_code"] == exit_code
    assert "trained" in row.data["output"]
    notes = [c for c in world.gateway.applied.values() if c["verb"] == "NOTE"]
    assert any(evidence_of(note).get("exit_code") == exit_code for note in notes)
    world.close()


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("/no/such/program",), "No such file"),
        ((sys.executable, "-c", "while True: pass"), "killed"),
    ],
)
def test_a_hook_that_cannot_run_or_end_is_reported(
    tmp_path: Path, argv: tuple[str, ...], word: str
) -> None:
    hooks = command_hooks(argv, tmp_path, timeout_s=0.3)
    hooks.start("k", EVIDENCE)
    deadline = time.monotonic() + 60
    ended = hooks.ended()
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
        ended = hooks.ended()
    assert ended[0].outcome["exit_code"] is None
    assert word in ended[0].outcome["output"]


def run_hook(path: Path, program: str, timeout_s: float = 60.0) -> HookEnded:
    hooks = command_hooks((sys.executable, "-c", program), path, timeout_s=timeout_s)
    hooks.start("k", {**EVIDENCE, "more": "x" * 300_000})
    deadline = time.monotonic() + 120
    while not (ended := hooks.ended()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return ended[0]


def test_of_a_hook_that_talks_much_the_end_is_kept_and_no_more(tmp_path: Path) -> None:
    program = """
import resource, sys
for _ in range(200):
    sys.stdout.write("progress " * 100_000)
print("the end")
"""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = run_hook(tmp_path, program)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert (ended.good, len(ended.outcome["output"])) == (True, OUTPUT_TAIL)
    assert ended.outcome["output"].endswith("the end\n")
    assert grown_kib < 90_000  # it wrote 180 MB


def test_a_hook_is_over_when_its_process_is_though_a_child_holds_its_output(tmp_path: Path) -> None:
    program = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(40)"])
print("trained", flush=True)
"""
    started = time.monotonic()
    ended = run_hook(tmp_path, program, timeout_s=38.0)
    assert (ended.good, ended.outcome["output"]) == (True, "trained\n")
    assert time.monotonic() - started < 35


def test_a_hook_that_died_with_the_monitor_is_not_run_again(tmp_path: Path) -> None:
    world = World(tmp_path, ("unused",))
    world.hooks.start = lambda key, evidence: None  # type: ignore[method-assign, assignment]
    world.run(20)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.run(25)
    assert world.actions() == [(Action.RETRAIN, "running")]
    world.restart()
    world.run(10)
    assert world.actions() == [(Action.RETRAIN, "given up")]
    assert "cooling down" in world.automation.withheld[MODEL]
    world.close()


def test_automation_stops_itself_after_too_many_actions(world: World) -> None:
    world.run(10)
    for number in range(3):
        bad = replace(BAD, name=f"{number + 3}")
        PROFILES._found[bad.digest] = PROFILES._found[BAD.digest]
        world.roll_out(bad, 20)
        world.run(40)
        world.traffic.candidate = None
        world.gateway.state = {"model": MODEL, "phase": "STABLE"}
        world.run(110)
    assert world.gateway.verbs() == ["ROLLBACK", "ROLLBACK", "FREEZE"]
    # An operator unfreezes it: what was done before is forgiven.
    world.gateway.frozen = False
    world.roll_out(bad, 20)
    world.traffic.rollout = world.gateway.state["rollout"] = "once more"
    world.run(40)
    assert world.gateway.verbs() == ["ROLLBACK", "ROLLBACK", "FREEZE", "ROLLBACK"]


def test_a_rollback_that_crossed_an_operator_s_hold_is_done_once_the_hold_is_over(
    world: World,
) -> None:
    """The hold began between our look at the deployment and our command."""
    world.run(10)
    world.roll_out(BAD, 20)
    sound = world.gateway.apply

    def held(command: dict[str, Any], wait_ms: int = 0) -> dict[str, Any]:
        if command["verb"] == "ROLLBACK":
            world.gateway.state["hold_until_ns"] = str(world.traffic.now_ns + 20 * S)
            raise AdminRefused("held by an operator")
        return sound(command, wait_ms)

    world.gateway.apply = held  # type: ignore[method-assign]
    for _ in range(40):
        world.run(1 if not world.actions() else 0)
    world.run(5)
    assert world.actions() == [(Action.ROLLBACK, "refused")]
    assert "holds" in world.automation.withheld[MODEL]
    world.gateway.apply = sound  # type: ignore[method-assign]
    world.run(40)
    assert world.gateway.verbs() == ["ROLLBACK"]
    assert world.actions() == [(Action.ROLLBACK, "done")]


def test_statistics_that_are_rebuilt_do_not_retrain_again(world: World) -> None:
    world.run(20)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.run(40)
    assert world.actions() == [(Action.RETRAIN, "dry run")]
    world.store.close()
    (world.path / "monitor.db").unlink()
    world.store = Store(world.path / "monitor.db", "other settings")
    world.engine = Engine(
        world.traffic.log, CODEC.decode, PROFILES, SETTINGS, load_page=world.store.label_page
    )
    world.restart()
    world.run(20)
    assert world.standing is Kind.RETRAIN
    assert world.actions() == [(Action.RETRAIN, "dry run")]
    assert "cooling down" in world.automation.withheld[MODEL]


def test_when_the_record_of_actions_is_lost_a_retraining_waits(tmp_path: Path) -> None:
    path = tmp_path / "actions.db"
    path.write_bytes(b"nothing that SQLite knows" * 100)
    lost = ActionStore(path)
    (past,) = lost.past(MODEL)
    assert past.action is Action.RETRAIN
    lost.close()
    again = ActionStore(path)
    assert again.past(MODEL) == [past]
    again.close()
    assert len(list(tmp_path.glob("actions.db.*.corrupt"))) == 1


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[World]:
    """A monitor that asks before it rolls back or retrains; in a state directory."""
    made = World(tmp_path / "monitor", ("unused",))
    made.hooks.start = lambda key, evidence: None  # type: ignore[method-assign, assignment]
    made.guards = replace(
        GUARDS, approve=frozenset({Action.ROLLBACK, Action.RETRAIN}), approve_ns=60 * S
    )
    made.restart()
    made.run(10)
    yield made
    made.close()


def ask_for_a_rollback(world: World) -> str:
    world.roll_out(BAD, 20)
    for _ in range(60):
        if not world.log.waiting():
            world.run(1)
    world.run(1)
    assert world.gateway.verbs() == []
    assert world.actions() == [(Action.ROLLBACK, "waiting")]
    assert "under way" in world.automation.withheld[MODEL]
    (row,) = world.log.waiting()
    return row.key


def answer(world: World, key: str, word: str) -> bool:
    said = {"answer": word, "answered_by": "ann", "answered_ns": world.traffic.now_ns, "why": "so"}
    return answer_waiting(world.path / "actions.db", key, said)


def notes_of(world: World) -> list[str]:
    return [c["reason"] for c in world.gateway.applied.values() if c["verb"] == "NOTE"]


def test_what_waits_for_approval_is_done_once_it_is_approved(asking: World) -> None:
    key = ask_for_a_rollback(asking)
    assert answer(asking, key, "approve")
    assert not answer(asking, key, "deny")  # the first answer counts
    asking.restart()
    asking.run(3)
    assert asking.gateway.verbs() == ["ROLLBACK"]
    assert asking.actions() == [(Action.ROLLBACK, "done")]
    notes = notes_of(asking)
    assert len([note for note in notes if "waits for approval" in note]) == 1
    assert "the rollback was approved by ann (so)" in notes


@pytest.mark.ci
def test_what_is_denied_is_not_done_and_not_asked_again(asking: World) -> None:
    key = ask_for_a_rollback(asking)
    assert answer(asking, key, "deny")
    asking.run(110)
    assert asking.gateway.verbs() == []
    assert asking.actions() == [(Action.ROLLBACK, "denied")]
    assert "the rollback was denied by ann (so)" in notes_of(asking)


@pytest.mark.ci
def test_what_nobody_approves_expires_and_is_asked_again_after_its_cool_down(
    asking: World,
) -> None:
    key = ask_for_a_rollback(asking)
    asking.run(61)
    assert asking.actions() == [(Action.ROLLBACK, "expired")]
    assert any("nobody approved it within 60 s" in note for note in notes_of(asking))
    assert not answer(asking, key, "approve")
    asking.run(60)
    assert asking.actions() == [(Action.ROLLBACK, "waiting")]
    assert asking.gateway.verbs() == []


def test_an_answer_that_comes_too_late_approves_nothing(asking: World) -> None:
    key = ask_for_a_rollback(asking)
    asking.run(61, act=False)
    assert answer(asking, key, "approve")
    asking.run(1)
    assert asking.gateway.verbs() == []
    assert asking.actions() == [(Action.ROLLBACK, "expired")]


def test_an_approved_action_waits_for_an_operator_s_hold(asking: World) -> None:
    key = ask_for_a_rollback(asking)
    asking.gateway.state["hold_until_ns"] = str(asking.traffic.now_ns + 5 * S)
    assert answer(asking, key, "approve")
    asking.run(3)
    assert asking.gateway.verbs() == []
    asking.run(6)
    assert asking.gateway.verbs() == ["ROLLBACK"]


def test_an_approved_retraining_runs_its_hook_once(asking: World) -> None:
    started: list[str] = []
    asking.hooks.start = lambda key, evidence: started.append(evidence["kind"])  # type: ignore[method-assign, assignment]
    asking.traffic.shift, asking.traffic.harm = 1.0, 0.4
    asking.run(30)
    assert asking.actions() == [(Action.RETRAIN, "waiting")]
    assert started == []
    (row,) = asking.log.waiting()
    assert answer(asking, row.key, "approve")
    asking.run(3)
    assert started == ["retrain"]
    assert asking.actions() == [(Action.RETRAIN, "running")]


def test_an_operator_sees_what_waits_and_answers(
    asking: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ask_for_a_rollback(asking)
    now_ns = asking.traffic.now_ns
    monkeypatch.setattr("driftgate.commands.monitor_approve.time.time_ns", lambda: now_ns)
    place = ["--state-dir", str(asking.path.parent)]
    assert main(["monitor", "approve", *place, "-o", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["action"], shown["model"]) == (key, "rollback", MODEL)
    assert shown["waits_until_ns"] - shown["asked_ns"] == 60 * S
    assert main(["monitor", "deny", "other", *place]) == 1
    assert "nothing waits" in capsys.readouterr().err
    assert main(["monitor", "approve", key, "--reason", "seen", *place]) == 0
    monkeypatch.undo()
    asking.run(3)
    assert asking.gateway.verbs() == ["ROLLBACK"]
    assert any("(seen)" in note for note in notes_of(asking))
    capsys.readouterr()
    assert main(["monitor", "deny", *place]) == 0
    assert capsys.readouterr().out == "nothing waits for approval\n"


class FakeTrigger:
    """Asks nobody; every request stays under way."""

    def __init__(self, repeatable: bool = True) -> None:
        self.repeatable = repeatable
        self.asked: list[Request] = []
        self.fate: Fate | None = None  # None: no answer until `stop`
        self._stopped = threading.Event()

    def attempt(self, request: Request) -> Attempt:
        self.asked.append(request)
        if self.fate is None:
            self._stopped.wait(60)
        return Attempt(self.fate or Fate.RETRY, "asked")

    def check(self) -> str:
        return ""

    def show(self, request: Request) -> str:
        return ""

    def stop(self) -> None:
        self._stopped.set()


def triggered_by(world: World, trigger: FakeTrigger) -> FakeTrigger:
    world.hooks = RetrainHooks(trigger, Without("not here"), give_up_ns=1 << 62)
    world.restart()
    return trigger


def settle(world: World, state: str) -> None:
    deadline = time.monotonic() + 60
    while world.actions()[-1][1] != state and time.monotonic() < deadline:
        time.sleep(0.01)
        world.automation.step(world.engine.models)
    assert world.actions()[-1] == (Action.RETRAIN, state)


def test_a_request_that_was_under_way_is_sent_again_after_a_restart_under_its_key(
    world: World,
) -> None:
    first = triggered_by(world, FakeTrigger())
    world.run(20)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.run(25)
    assert world.actions() == [(Action.RETRAIN, "running")]
    world.hooks.kill()
    second = FakeTrigger()
    second.fate = Fate.DONE
    triggered_by(world, second)
    settle(world, "done")
    assert len(world.actions()) == 1
    assert [item.document for item in second.asked] == [item.document for item in first.asked]


def test_a_schedule_asks_once_and_again_after_its_period(world: World) -> None:
    trigger = FakeTrigger()
    trigger.fate = Fate.DONE
    world.options["schedule"] = Schedule(every_ns=210 * S)  # beyond the cool-down
    world.traffic.rows_per_block = 40
    triggered_by(world, trigger)
    world.run(209)
    assert world.actions() == []
    world.run(12)
    settle(world, "done")
    evidence = trigger.asked[0].document
    assert (evidence["cause"], evidence["kind"], evidence["verdict"]) == ("schedule", "healthy", "")
    assert evidence["version"] == GOOD.name
    assert evidence["window_end_ns"] - evidence["window_start_ns"] == 60 * S
    world.run(190)
    assert len(world.actions()) == 1
    world.run(35)
    settle(world, "done")
    assert len(world.actions()) == 2
    assert len({item.id for item in trigger.asked}) == 2


def test_evidence_of_a_schedule_has_the_fields_of_a_verdict_s(world: World) -> None:
    trigger = FakeTrigger()
    trigger.fate = Fate.DONE
    triggered_by(world, trigger)
    world.run(20)
    world.traffic.shift, world.traffic.harm = 1.0, 0.4
    world.run(25)
    settle(world, "done")
    state = world.engine.models[MODEL]
    scheduled = Due("it is time").evidence(state, 60 * S)
    assert scheduled.keys() <= trigger.asked[0].document.keys()
    drifted = trigger.asked[0].document.keys() - scheduled.keys()
    assert drifted == {"id", "key", "dataset", "dataset_missing", "features_left_out"}


def test_new_labels_ask_for_a_training_and_are_counted_from_the_last(world: World) -> None:
    trigger = FakeTrigger()
    trigger.fate = Fate.DONE
    world.options["schedule"] = Schedule(after_labels=400)
    world.traffic.rows_per_block = 40
    triggered_by(world, trigger)
    world.run(8)
    per_block = labelled(world) / 8
    while labelled(world) < 400:
        assert world.actions() == []
        world.run(1)
    world.run(6)  # a model is looked at every few seconds
    settle(world, "done")
    begun = int(world.log.actions(MODEL)[0].data["labelled"])
    assert 400 <= begun <= 400 + 8 * per_block
    # Within the cool-down there is no second, though labels go on.
    world.run(190)
    assert len(world.actions()) == 1
    world.run(20)
    settle(world, "done")
    assert len(world.actions()) == 2


def labelled(world: World) -> int:
    stable = world.engine.models[MODEL].stable
    assert stable is not None
    return stable.labelled


def test_a_schedule_is_held_back_by_what_holds_back_every_training(world: World) -> None:
    trigger = triggered_by(world, FakeTrigger())
    world.options["schedule"] = Schedule(every_ns=10 * S)
    world.restart()
    for state, word in (({"frozen": True}, "frozen"), ({"hold_until_ns": str(1 << 62)}, "holds")):
        world.gateway.state = {"model": MODEL, "phase": "STABLE", **state}
        world.run(20)
        assert word in world.automation.withheld[MODEL]
    world.gateway.state = {"model": MODEL, "phase": "STABLE"}
    world.roll_out(BETTER, 20)
    world.run(20)
    assert trigger.asked == []
    assert world.actions() in ([], [(Action.ADVANCE, "done")])


def test_a_schedule_does_not_learn_from_broken_data(world: World) -> None:
    trigger = triggered_by(world, FakeTrigger())
    world.traffic.spoil = lambda values: np.where(values > 0, np.nan, values)
    world.run(40)
    assert world.standing is Kind.UPSTREAM
    world.options["schedule"] = Schedule(every_ns=10 * S)
    world.restart()
    world.run(20)
    assert trigger.asked == []
