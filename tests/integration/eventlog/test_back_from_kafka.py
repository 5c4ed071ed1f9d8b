"""A log that went on to Kafka for a while and ends here again: no row is unexplained."""

import json
from pathlib import Path
from typing import Any

import pytest

from eventlog import ConsumedTally, LogSettings, SqliteLog, ledger, record_elsewhere
from eventlog.balance import LedgerLine
from eventlog.elsewhere import NAME
from eventlog.kafka.shipped import Shipped, starting_point
from eventlog.positions import (
    MONITOR_GROUP,
    SHIPPER_GROUP,
    Consumed,
    publish_position,
    read_position,
)
from eventlog.retention import enforce_retention, remove_delivered
from eventlog.verify import verify_spool
from tests.integration.eventlog.log_commands import run
from tests.shipping import Producer

A, B, C = "aaaaaa", "bbbbbb", "cccccc"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path


def ship(directory: Path, records: int = 10_000) -> None:
    """Send on what is there, and let go of it."""
    shipped, log = Shipped(directory), SqliteLog(directory)
    for stored in log.read(shipped.consumed.position, records):
        shipped.add(stored)
    log.close()
    shipped.publish(shipped.consumed)
    remove_delivered(directory, SHIPPER_GROUP)


def monitor_reads(directory: Path, records: int = 10_000) -> None:
    """As the monitor: it notes where it begins, then takes what there is."""
    record_elsewhere(directory)
    tally = ConsumedTally(read_position(directory, MONITOR_GROUP) or Consumed())
    log = SqliteLog(directory)
    for stored in log.read(tally.consumed().position, records):
        tally.add(stored)
    log.close()
    publish_position(directory, MONITOR_GROUP, tally.consumed())


def lines(state: Path) -> dict[str, LedgerLine]:
    return {line.producer: line for line in ledger(state / "log")}


def producer(state: Path, name: str) -> Producer:
    return Producer(state / "log", name, segment_bytes=20_000)


def test_rows_that_went_to_kafka_are_elsewhere_and_stay_so(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = state / "log"
    early, middle, late = producer(state, A), producer(state, B), producer(state, C)
    early.write(60)
    monitor_reads(log, 30)  # before there was Kafka
    middle.write(90)
    ship(log)
    early.write(40)
    ship(log, 20)  # shipped in part, and some of it is still here
    for one in (early, middle):
        one.end()
    before = lines(state)  # log.kafka is unset; the monitor has not begun
    assert {name: line.unexplained for name, line in before.items()} == {A: 0, B: 0, C: 0}
    assert before[A].elsewhere > 0
    assert before[A].delivered > 0
    assert before[A].spooled > 0
    assert before[B].elsewhere > 0
    late.write(50)
    monitor_reads(log, 15)
    monitor_reads(log)
    after = lines(state)
    for name in (A, B):
        assert after[name].unexplained == 0
        assert after[name].elsewhere == before[name].elsewhere
        assert after[name].gaps == before[name].gaps
        assert after[name].spooled == 0
    assert after[C].elsewhere == 0
    assert after[C].delivered + sum(after[C].gaps.values()) == late.rows
    code, document = stats(state, capsys)
    assert code == 0
    assert document["total"]["elsewhere"] == after[A].elsewhere + after[B].elsewhere
    assert run(state, "stats") == 0
    assert "elsewhere" in capsys.readouterr().out
    late.crash()
    settings = LogSettings(retention_s=1e9, retention_bytes=0)
    monitor_reads(log)
    assert enforce_retention(log, settings, 0)
    assert not list(log.glob("*.db"))
    assert {line.unexplained for line in lines(state).values()} == {0}
    assert [verdict.missing for verdict in verify_spool(log, LogSettings(), 0.0)] == [()] * 3


def stats(state: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    code = run(state, "stats", "--verify", "-o", "json")
    return code, json.loads(capsys.readouterr().out)


def test_what_is_missing_beyond_the_shippers_position_stays_unexplained(state: Path) -> None:
    log = state / "log"
    made = producer(state, A)
    made.write(60)
    made.end()
    ship(log, 20)
    names = sorted(log.glob("*.db"))
    assert len(names) > 4
    monitor_reads(log, 1)
    shipped = lines(state)[A].elsewhere
    for path in names[:-1]:
        path.unlink()
    monitor_reads(log)
    (line,) = lines(state).values()
    assert line.elsewhere == shipped
    assert line.unexplained > 0


def test_a_whole_log_that_went_and_a_damaged_note_of_it(state: Path) -> None:
    log = state / "log"
    made = producer(state, A)
    made.write(60)
    made.end()
    ship(log)
    assert not list(log.glob("*.db"))
    monitor_reads(log)
    (line,) = lines(state).values()
    assert (line.delivered, line.spooled, line.unexplained) == (0, 0, 0)
    assert line.elsewhere + sum(line.gaps.values()) == made.rows
    (log / NAME).write_text("{")
    assert lines(state)[A].elsewhere == line.elsewhere  # it can still be told
    monitor_reads(log)
    assert json.loads((log / NAME).read_text()) == {A: [line.elsewhere, dict(line.gaps)]}


def test_back_on_kafka_what_the_monitor_read_meanwhile_counts_as_delivered(state: Path) -> None:
    log = state / "log"
    first, second = producer(state, A), producer(state, B)
    first.write(40)
    first.end()
    ship(log)
    second.write(40)
    second.end()
    monitor_reads(log)
    enforce_retention(log, LogSettings(retention_s=1e9, retention_bytes=0), 0)
    assert starting_point(log).rows(B) == second.rows
    ship(log)
    assert [line.unexplained for line in ledger(log, SHIPPER_GROUP)] == [0, 0]
