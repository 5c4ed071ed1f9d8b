"""`driftgate monitor replay`: the same verdicts from the same log, and what is said if not."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driftgate.cli import main
from driftgate.errors import Exit
from eventlog import (
    PREDICTIONS,
    MemoryLog,
    Record,
    RecordKind,
    SqliteLog,
    StoredRecord,
    decode_predictions,
    encode_predictions,
)
from monitor.core.agreement import Fate, first_difference
from monitor.published import Published
from monitor.replay import Replayed, read_stored, replay
from monitor.service import Monitor, core_settings
from monitor.settings import MonitorSettings
from monitor.task import open_parts
from registry_client import open_source
from tests.monitor_process import Home
from tests.monitor_world import BLOCK_NS, MODEL, START_NS, Traffic, Version
from tests.simulation.monitor.test_seasonal_engine import (
    FIRST_BLOCK,
    SHIFT,
    seasonal_profile,
    shift_at,
)

GOOD, BAD, NEXT = Version("1"), Version("2", accuracy=0.5), Version("3")
SETTINGS = MonitorSettings(
    tolerance=0.05, loss_tolerance=0.03, rows_min=100, window_blocks=20, recent_change_s=10.0
)
OPTIONS = [
    f"--monitor-{name.replace('_', '-')}={getattr(SETTINGS, name):g}"
    for name in ("tolerance", "loss_tolerance", "rows_min", "window_blocks", "recent_change_s")
]


def watch(home: Home, settings: MonitorSettings = SETTINGS) -> None:
    """Read all that is in the log with a monitor, and store it."""
    log = SqliteLog(home.log_dir)
    path = home.path / "monitor" / "monitor.db"
    source = open_source(home.path / "registry", "")
    parts = open_parts(path, core_settings(settings), log, home.ids.decode, source)
    monitor = Monitor(parts, home.log_dir, Published(), None)
    while monitor.round():
        pass
    stop = threading.Event()
    stop.set()
    monitor.run(stop)
    parts.close()
    log.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A bad candidate that is seen, then a new stable version whose inputs move."""
    home = Home(tmp_path_factory.mktemp("replay") / "state", GOOD, BAD, NEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.monitor_world.CODEC", home.ids)
        world = Traffic(MemoryLog(), append=home.append, stable=GOOD, rows_per_block=100)
        world.run(10)
        world.candidate, world.weight, world.rollout = BAD, 0.4, "r1"
        world.run(25)
        world.candidate, world.stable = None, NEXT
        world.block += 700  # so that nothing before it is remembered
        world.run(8)
        world.shift = 1.5
        world.run(24)
        watch(home)
    yield home
    home.close()


@pytest.fixture
def copy(watched: Home, tmp_path: Path) -> Path:
    """Its state directory, to be spoiled; the writers of the log are still at work."""
    return Path(shutil.copytree(watched.path, tmp_path / "copy"))


def replayed(capsys: pytest.CaptureFixture[str], state: Path, *words: str) -> tuple[int, Any]:
    code = main(["monitor", "replay", "--state-dir", str(state), *OPTIONS, *words, "-o", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else said.err


def change(state: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(state / "monitor" / "monitor.db")) as db, db:
        assert db.execute(statement, values).rowcount == 1


def verdict_of(state: Path, kind: str) -> dict[str, Any]:
    with closing(sqlite3.connect(state / "monitor" / "monitor.db")) as db:
        found = [json.loads(row[0]) for row in db.execute("SELECT data FROM verdicts")]
    return next(item for item in found if item["kind"] == kind)


def test_every_verdict_and_the_state_come_out_again(
    watched: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (watched.path / "monitor" / "monitor.db").read_bytes()
    code, document = replayed(capsys, watched.path)
    assert code == Exit.OK
    assert {item["fate"] for item in document["verdicts"]} == {"same"}
    assert {item["kind"] for item in document["verdicts"]} >= {"rollback", "annotate"}
    assert document["states"] == {MODEL: "same"}
    assert document["log_from_ns"] is None
    assert (watched.path / "monitor" / "monitor.db").read_bytes() == before


def test_one_verdict_one_model_and_a_time_can_be_asked_for(
    watched: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = verdict_of(watched.path, "rollback")
    code, document = replayed(capsys, watched.path, "--verdict", verdict["id"])
    assert [item["id"] for item in document["verdicts"]] == [verdict["id"]]
    end = "2023-11-14T22:13:20Z"  # the world's beginning
    _, document = replayed(capsys, watched.path, "--until", end)
    assert document["verdicts"] == []
    _, document = replayed(capsys, watched.path, "--since", end, "--model", "other")
    assert (document["verdicts"], document["states"]) == ([], {})
    code, said = replayed(capsys, watched.path, "--verdict", "none")
    assert code == Exit.FAILED
    assert "none" in said


@pytest.mark.parametrize(
    ("field", "value"),
    [("kind", "retrain"), ("reason", "because"), ("evidence_s", 1.0), ("features", ["f0"])],
)
def test_a_verdict_that_was_tampered_with_is_found(
    copy: Path, capsys: pytest.CaptureFixture[str], field: str, value: Any
) -> None:
    verdict = verdict_of(copy, "rollback")
    changed = json.dumps({**verdict, field: value})
    change(copy, "UPDATE verdicts SET data = ? WHERE id = ?", changed, verdict["id"])
    code, document = replayed(capsys, copy)
    assert code == Exit.FAILED
    found = [item for item in document["verdicts"] if item["fate"] == "different"]
    assert [item["id"] for item in found] == [verdict["id"]]
    assert found[0]["difference"].startswith(field)


def test_a_verdict_that_was_invented_or_taken_away_is_found(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = verdict_of(copy, "rollback")
    invented = {**verdict, "id": "m:page::1", "kind": "page"}
    change(
        copy, "UPDATE verdicts SET id = ?, data = ? WHERE id = ?",
        "m:page::1", json.dumps(invented), verdict["id"],
    )  # fmt: skip
    code, document = replayed(capsys, copy)
    assert code == Exit.FAILED
    found = {item["id"]: item["difference"] for item in document["verdicts"] if item["difference"]}
    assert "the log gives rollback" in found["m:page::1"]
    assert "not stored" in found[verdict["id"]]


def test_a_block_s_line_and_a_state_that_were_changed_are_found(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = verdict_of(copy, "rollback")
    at = (verdict["model"], verdict["block_start_ns"])
    with closing(sqlite3.connect(copy / "monitor" / "monitor.db")) as db, db:
        (data,) = db.execute(
            "SELECT data FROM blocks WHERE model = ? AND start_ns = ?", at
        ).fetchone()
        (state,) = db.execute("SELECT data FROM state").fetchone()
    block = json.dumps({**json.loads(data), "lost": 7})
    change(copy, "UPDATE blocks SET data = ? WHERE model = ? AND start_ns = ?", block, *at)
    # The last bytes are those of an array of the model's.
    change(copy, "UPDATE state SET data = ?", bytes(state[:-1]) + bytes([state[-1] ^ 1]))
    code, document = replayed(capsys, copy)
    assert code == Exit.FAILED
    found = [item["difference"] for item in document["verdicts"] if item["difference"]]
    assert found == ["block.lost: stored 7, from the log 0"]
    assert document["states"] == {MODEL: "different"}


class Other:
    """The log, with something done to what is read of it."""

    def __init__(
        self, log: SqliteLog, change: Callable[[StoredRecord], StoredRecord], beyond: int = 0
    ) -> None:
        """beyond: the records up to this offset are gone, of every partition."""
        self.log, self.change, self.beyond = log, change, beyond

    def read(self, after: Mapping[str, int], limit: int) -> list[StoredRecord]:
        at = {name: max(after.get(name, 0), self.beyond) for name in self.log.end()}
        return [self.change(stored) for stored in self.log.read(at, limit)]

    def end(self) -> dict[str, int]:
        return self.log.end()

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:
        return self.log.locate(producer, sequence, ts_ms)

    def close(self) -> None:
        self.log.close()

    def append(self, records: Sequence[Record]) -> None:
        raise NotImplementedError


def replay_of(
    state: Path,
    home: Home,
    change: Callable[[StoredRecord], StoredRecord],
    beyond: int = 0,
    watched: MonitorSettings = SETTINGS,
) -> Replayed:
    settings = core_settings(watched)
    stored = read_stored(state / "monitor" / "monitor.db", settings)
    with closing(SqliteLog(home.log_dir)) as log:
        return replay(Other(log, change, beyond), home.ids.decode, stored, settings)


def one_answer_less(stored: StoredRecord) -> StoredRecord:
    """The candidate's first row in block 12 was answered otherwise."""
    record = stored.record
    if record.kind is not RecordKind.DATA or record.stream != PREDICTIONS:
        return stored
    rows = decode_predictions(record)
    if rows.role != "candidate" or rows.ts_ns[0] // BLOCK_NS != START_NS // BLOCK_NS + 12:
        return stored
    said = rows.outputs["label"].copy()
    said[0] = (said[0] + 1) % 4
    changed = encode_predictions(
        replace(rows, outputs={"label": said}), record.producer, record.watermark_ns
    )
    return replace(stored, record=replace(changed, headers=record.headers))


def test_a_single_answer_that_was_changed_is_found(watched: Home) -> None:
    found = replay_of(watched.path, watched, one_answer_less)
    different = [item for item in found.findings if item.fate is Fate.DIFFERENT]
    assert "rollback" in {item.kind for item in different}


def test_what_rests_on_records_that_are_gone_cannot_be_replayed(copy: Path, watched: Home) -> None:
    """A version that began long after the log's beginning can, and is held to it."""
    later = verdict_of(copy, "annotate")
    changed = json.dumps({**later, "reason": "because"})
    change(copy, "UPDATE verdicts SET data = ? WHERE id = ?", changed, later["id"])
    found = replay_of(copy, watched, lambda stored: stored, beyond=30)
    fates = {item.kind: item.fate for item in found.findings}
    assert fates["rollback"] is Fate.GONE
    assert fates["annotate"] is Fate.DIFFERENT
    assert found.states == {MODEL: Fate.GONE}
    assert START_NS < found.log_from_ns < later["block_start_ns"]


WARM_UP = replace(
    SETTINGS, reference="warm-up", warm_up_rows=1000, warm_up_s=300.0, warm_up_skip_s=900.0
)


@pytest.fixture(scope="module")
def warmed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A version that is judged by its own first traffic, whose inputs then move."""
    home = Home(tmp_path_factory.mktemp("warm") / "state", GOOD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.monitor_world.CODEC", home.ids)
        world = Traffic(MemoryLog(), append=home.append, stable=GOOD, rows_per_block=20)
        world.run(5)
        world.block += 900
        world.run(330)
        world.shift = 2.0
        world.run(40)
        watch(home, WARM_UP)
    yield home
    home.close()


def test_a_verdict_by_a_version_s_own_first_traffic_comes_out_again(
    warmed_up: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("reference", "warm_up_rows", "warm_up_s", "warm_up_skip_s")
    options = [f"--monitor-{n.replace('_', '-')}={getattr(WARM_UP, n)}" for n in names]
    code, document = replayed(capsys, warmed_up.path, *options)
    assert code == Exit.OK
    assert {item["fate"] for item in document["verdicts"]} == {"same"}
    assert "annotate" in {item["kind"] for item in document["verdicts"]}
    assert document["states"] == {MODEL: "same"}
    assert verdict_of(warmed_up.path, "annotate")["reference"]["from"] == "warm-up"


def test_it_cannot_be_replayed_once_that_traffic_is_gone(warmed_up: Home) -> None:
    found = replay_of(warmed_up.path, warmed_up, lambda stored: stored, 20, WARM_UP)
    assert {item.fate for item in found.findings} == {Fate.GONE}


def test_other_settings_and_no_monitor_are_said(
    watched: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = replayed(capsys, watched.path, "--monitor-tolerance=0.2")
    assert code == Exit.FAILED
    assert "other monitor settings" in said
    (tmp_path / "log").mkdir()
    code, said = replayed(capsys, tmp_path)
    assert code == Exit.FAILED
    assert "no monitor has stored anything" in said


def test_a_difference_is_named_by_its_place() -> None:
    assert not first_difference({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})
    assert first_difference({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}).startswith("a.1.b: ")
    assert first_difference({"a": 1}, {"a": 1.0}).startswith("a: ")
    assert first_difference({"a": [1]}, {"a": [1, 2]}).startswith("a: ")
    assert first_difference({"a": 1, "b": 2}, {"a": 1}) == "b: only stored"


def test_what_was_judged_by_the_hour_of_the_week_comes_out_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the end of an hour, and then inputs that move."""
    profile = seasonal_profile()
    monkeypatch.setattr("tests.monitor_process.profile_of", lambda _: profile)
    home = Home(tmp_path / "state", GOOD)
    monkeypatch.setattr("tests.monitor_world.CODEC", home.ids)
    world = Traffic(MemoryLog(), append=home.append, stable=GOOD, block=FIRST_BLOCK)
    for _ in range(40):
        world.shift = shift_at(world.now_ns)
        world.step()
    world.shift = SHIFT - shift_at(world.now_ns)
    world.run(40)
    watch(home)
    code, document = replayed(capsys, home.path)
    home.close()
    assert code == Exit.OK
    assert document["verdicts"][-1]["kind"] == "annotate"
    assert {item["fate"] for item in document["verdicts"]} == {"same"}
    assert document["states"] == {MODEL: "same"}
