"""The monitor as a process: what it serves, what it does, and what a kill -9 changes (nothing)."""

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from eventlog import MONITOR_GROUP, MemoryLog, read_position
from monitor.__main__ import CANNOT_START
from monitor.settings import MonitorSettings
from tests.monitor_process import Admin, Home, Process, wait_for
from tests.monitor_world import BLOCK_NS, FEATURES, MODEL, START_NS, Traffic, Version

GOOD, BAD = Version("1"), Version("2", accuracy=0.5)
BLOCKS = 75
SETTINGS = MonitorSettings(
    port=0, tolerance=0.05, loss_tolerance=0.03, rows_min=100, lag_max_s=1e12, window_blocks=20
)


@pytest.fixture
def admin() -> Iterator[Admin]:
    found = Admin()
    yield found
    found.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = Home(tmp_path / "state", GOOD, BAD)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def _own_codec(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    monkeypatch.setattr("tests.monitor_world.CODEC", home.ids)


def stored_state(home: Home) -> bytes:
    with sqlite3.connect(home.path / "monitor" / "monitor.db") as database:
        return bytes(database.execute("SELECT data FROM state").fetchone()[0])


def has_read(process: Process, rows: int) -> bool:
    state = process.state()
    return bool(state and state["models"].get(MODEL, {}).get("rows", 0) >= rows)


def test_a_bad_candidate_is_rolled_back_once_and_everything_is_shown(
    home: Home, admin: Admin, promtool: str
) -> None:
    world = Traffic(MemoryLog(), append=home.append, stable=GOOD)
    world.run(15)
    world.candidate, world.weight, world.rollout = BAD, 0.2, "r1"
    world.run(BLOCKS - 15)
    admin.deployment = {
        "model": MODEL, "generation": "7", "phase": "PROGRESSING", "weight": 20,
        "rollout": "r1", "stable": {"digest": home.digests["1"]},
        "candidate": {"digest": home.digests["2"]}, "changed_ns": str(START_NS + 15 * BLOCK_NS),
    }  # fmt: skip
    process = Process(home, admin, SETTINGS).start()
    try:
        wait_for("the rollback is commanded", lambda: "ROLLBACK" in admin.verbs())
        history = wait_for("all is read and the verdict applied", lambda: applied(process))
        check_verdict(history, admin)
        check_pages(process, promtool)
    finally:
        assert process.stop() == 0
    assert admin.verbs().count("ROLLBACK") == 1


def applied(process: Process) -> dict[str, Any] | None:
    history: dict[str, Any] = json.loads(process.get(f"/v1/models/{MODEL}/history")[1])
    done = [v for v in history["verdicts"] if v["kind"] == "rollback" and v.get("applied_ns")]
    # The verdict may be applied before the records behind it have all been read.
    return history if done and len(history["blocks"]) == BLOCKS else None


def check_verdict(history: dict[str, Any], admin: Admin) -> None:
    verdict = next(v for v in history["verdicts"] if v["kind"] == "rollback")
    assert (verdict["version"], verdict["rollout"]) == ("2", "r1")
    assert verdict["candidate_rows"] >= SETTINGS.rows_min
    first = verdict["candidate_first_ns"] - START_NS
    assert 15 * BLOCK_NS <= first < 16 * BLOCK_NS
    assert verdict["decided_ns"] <= verdict["applied_ns"]
    assert history["actions"][0]["state"] == "done"
    command = next(c for c in admin.commands if c["verb"] == "ROLLBACK")
    assert (command["rollout"], command["origin"], command["actor"]) == ("r1", "monitor", "monitor")
    assert json.loads(command["evidence_json"])["candidate_rows"] == verdict["candidate_rows"]


def check_report(process: Process) -> None:
    """By the command, which finds the monitor of a state directory and waits long enough."""
    state_dir = process.home.path
    page = state_dir / "report.html"
    assert main(["report", MODEL, "--state-dir", str(state_dir), "-o", str(page)]) == 0
    text = page.read_text()
    assert "<strong>rollback</strong>" in text  # the verdict
    assert "<strong>action rollback</strong>: done" in text
    assert f"<dt>Features that moved</dt><dd>0 of {FEATURES}</dd>" in text


def check_drift(process: Process) -> None:
    status, body = process.get(f"/v1/models/{MODEL}/drift")
    features = json.loads(body)["features"]
    assert status == 200
    assert {item["name"] for item in features} >= {"f0"}
    (space,) = json.loads(body)["multivariate"]
    assert (space["features"], space["off"]) == (FEATURES, None)
    status, body = process.get(f"/v1/models/{MODEL}/drift?feature=f0")
    shown = {item["name"]: item for item in json.loads(body)["statistics"]}
    assert status == 200
    own = next(item for item in features if item["name"] == "f0")
    for name, item in shown.items():
        assert item["effect"] == pytest.approx(own["statistics"][name], nan_ok=True), name
    assert process.get(f"/v1/models/{MODEL}/drift?feature=none")[0] == 404
    assert process.get("/v1/models/none/drift")[0] == 404


def check_pages(process: Process, promtool: str) -> None:
    import subprocess

    assert process.get("/healthz")[0] == 200
    assert process.get("/nothing")[0] == 404
    assert process.get(f"/v1/models/{MODEL}/history?limit=x")[0] == 400
    status, body = process.get(f"/v1/models/{MODEL}/features/f0")
    feature = json.loads(body)
    assert status == 200
    assert len(feature["starts"]) == len(feature["reference"]) == len(feature["live"])
    assert process.get(f"/v1/models/{MODEL}/features/none")[0] == 404
    together = b"driftgate_monitor_multivariate_effect{"
    wait_for("features are compared", lambda: together in process.get("/metrics")[1])
    check_drift(process)
    check_report(process)
    metrics = process.get("/metrics")[1]
    assert f'driftgate_monitor_rows_total{{model="{MODEL}"}}'.encode() in metrics
    checked = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_killed_again_and_again_it_ends_in_the_same_state(home: Home, admin: Admin) -> None:
    world = Traffic(MemoryLog(), append=home.append, stable=GOOD, rows_per_block=100)
    process = Process(home, admin, replace(SETTINGS, advance=False, rollback=False))
    random = np.random.default_rng(11)
    process.start()
    for round_ in range(6):
        if round_ == 2:
            world.candidate, world.weight, world.rollout = BAD, 0.3, "r1"
        world.run(12)
        time.sleep(float(random.uniform(0.0, 0.8)))  # where it dies is left to chance
        process.kill()
        process.start()
    world.end()
    try:
        wait_for("everything was read", lambda: has_read(process, world.sent))
    finally:
        assert process.stop() == 0
    interrupted = stored_state(home)
    (home.path / "monitor").rename(home.path / "interrupted")
    process.start()
    try:
        wait_for("everything was read again", lambda: has_read(process, world.sent))
    finally:
        assert process.stop() == 0
    assert stored_state(home) == interrupted
    published = read_position(home.log_dir, MONITOR_GROUP)
    assert published is not None
    assert dict(published.delivered) == world.sequences


def test_a_damaged_database_is_set_aside_and_rebuilt(home: Home, admin: Admin) -> None:
    world = Traffic(MemoryLog(), append=home.append, stable=GOOD)
    world.run(10)
    process = Process(home, admin, SETTINGS).start()
    wait_for("the log was read", lambda: has_read(process, world.sent))
    assert process.stop() == 0
    before = stored_state(home)
    database = home.path / "monitor" / "monitor.db"
    database.write_bytes(b"this is no database" * 1000)
    for companion in ("-wal", "-shm"):
        database.with_name(database.name + companion).unlink(missing_ok=True)
    process.start()
    wait_for("the log was read again", lambda: has_read(process, world.sent))
    assert process.stop() == 0
    assert stored_state(home) == before
    lines = [line for line in process.said().splitlines() if "set aside" in line]
    assert len(lines) == 1
    assert len(list(database.parent.glob("*.corrupt"))) == 1


def test_a_second_monitor_on_the_same_state_is_refused(home: Home, admin: Admin) -> None:
    Traffic(MemoryLog(), append=home.append, stable=GOOD).run(2)
    first = Process(home, admin, SETTINGS).start()
    try:
        wait_for("the first is ready", first.state)
        second = Process(home, admin, SETTINGS).start()
        assert second.process is not None
        assert second.process.wait(60) == CANNOT_START
        assert "another monitor runs in" in second.said()
    finally:
        first.kill()


def test_an_unreachable_gateway_does_not_stop_the_statistics(home: Home, admin: Admin) -> None:
    world = Traffic(MemoryLog(), append=home.append, stable=GOOD)
    world.run(10)
    world.candidate, world.weight, world.rollout = BAD, 0.2, "r1"
    world.run(60)
    process = Process(home, admin, SETTINGS)
    process.document["admin_urls"] = ["http://127.0.0.1:9"]
    process.start()
    try:
        wait_for("everything was read", lambda: has_read(process, world.sent))
        state = process.state()
        assert state is not None
        assert state["models"][MODEL]["verdict"] == "rollback"
    finally:
        assert process.stop() == 0
