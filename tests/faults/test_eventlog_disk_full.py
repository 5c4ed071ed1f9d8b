"""A disk that refuses: predictions go on, rows become gaps, and writing resumes by itself."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventlog import (
    GapReason,
    Label,
    LogSettings,
    PredictionWriter,
    RecordKind,
    SqliteLog,
    StorageError,
    close_books,
    fake_rows,
    ledger,
)
from eventlog import writer as writer_module
from eventlog.segment import connect

A = "aaaaaa"
PATIENCE_S = 30.0


class Disk:
    """Connections that fail on demand, before or after the commit took effect."""

    def __init__(self) -> None:
        self.full = False
        self.lie_once = False  # the commit is in the file, and reported as failed
        self.refused = 0

    def connect(self, path: Path) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if disk.full and sql.startswith(("BEGIN", "COMMIT", "PRAGMA journal_mode")):
                    disk.refused += 1
                    raise sqlite3.OperationalError("database or disk is full")
                cursor = super().execute(sql, *parameters)
                if disk.lie_once and sql == "COMMIT":
                    disk.lie_once = False
                    raise sqlite3.OperationalError("disk I/O error")
                return cursor

        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Connection
        )
        connection.execute("PRAGMA busy_timeout = 1000")
        return connection


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.02)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def offer(writer: PredictionWriter, count: int) -> None:
    writer.offer(fake_rows(writer.assign(count), count))


def test_rows_become_storage_gaps_and_writing_resumes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2), connect=disk.connect)
    offer(writer, 5)
    wait_for(lambda: writer.written == 5)
    disk.full = True
    for _ in range(20):
        offer(writer, 3)
        time.sleep(0.005)
    wait_for(lambda: disk.refused > 3 and writer.buffered_rows == 0)
    disk.full = False
    wait_for(lambda: writer.gap_rows == {"storage": 60})
    offer(writer, 7)
    assert writer.close(PATIENCE_S)
    assert writer.written == 12
    (line,) = ledger(tmp_path)
    assert (line.acknowledged, line.spooled, dict(line.gaps)) == (72, 12, {"storage": 60})
    assert line.unexplained == 0
    messages = [record.message for record in caplog.records]
    assert sum("rows become gaps" in message for message in messages) == 1
    assert sum("writing again" in message for message in messages) == 1


def test_callers_of_durable_rows_and_labels_are_told(tmp_path: Path) -> None:
    disk = Disk()
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2), connect=disk.connect)
    disk.full = True
    outcomes: list[Exception | None] = []
    writer.offer_durable(fake_rows(writer.assign(2), 2), outcomes.append)
    writer.offer_labels("m", [Label("id", 0, 0, 1.0)], outcomes.append)
    wait_for(lambda: len(outcomes) == 2)
    assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError]
    disk.full = False
    wait_for(lambda: writer.gap_rows == {"storage": 2})
    outcomes.clear()
    writer.offer_labels("m", [Label("id", 0, 0, 1.0)], outcomes.append)
    wait_for(lambda: outcomes == [None])
    assert writer.close(PATIENCE_S)
    assert ledger(tmp_path)[0].unexplained == 0


def test_a_commit_that_took_effect_though_it_failed_is_not_counted_as_a_gap(
    tmp_path: Path,
) -> None:
    disk = Disk()
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2), connect=disk.connect)
    offer(writer, 1)
    wait_for(lambda: writer.written == 1)
    writer.skip(writer.assign(2), 2, GapReason.SAMPLED, "m")
    disk.lie_once = True
    offer(writer, 4)
    wait_for(lambda: writer.written == 5)
    offer(writer, 1)
    assert writer.close(PATIENCE_S)
    assert (writer.written, writer.gap_rows) == (6, {"sampled": 2})
    (line,) = ledger(tmp_path)
    assert (line.spooled, dict(line.gaps), line.unexplained) == (6, {"sampled": 2}, 0)
    log = SqliteLog(tmp_path)
    offsets = [stored.offset for stored in log.read({}, 100)]
    log.close()
    assert offsets == list(range(1, len(offsets) + 1))


def test_an_end_record_that_took_effect_though_it_failed_is_the_only_one(tmp_path: Path) -> None:
    disk = Disk()
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=60_000), connect=disk.connect)
    outcomes: list[Exception | None] = []
    writer.offer_durable(fake_rows(writer.assign(1), 1), outcomes.append)
    wait_for(lambda: outcomes == [None])
    disk.lie_once = True
    assert writer.close(PATIENCE_S)
    log = SqliteLog(tmp_path)
    kinds = [stored.record.kind for stored in log.read({}, 100)]
    log.close()
    assert kinds == [RecordKind.HEARTBEAT, RecordKind.DATA, RecordKind.END]
    assert close_books(tmp_path) == []


def test_a_disk_that_is_full_from_the_start_costs_rows_alone(tmp_path: Path) -> None:
    disk = Disk()
    disk.full = True
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2), connect=disk.connect)
    offer(writer, 4)
    wait_for(lambda: disk.refused > 2)
    assert writer.assign(1) == 4
    disk.full = False
    wait_for(lambda: "storage" in writer.gap_rows)
    assert writer.close(PATIENCE_S)
    assert ledger(tmp_path)[0].unexplained == 0


def test_a_disk_that_stays_full_leaves_the_end_to_the_supervisor(tmp_path: Path) -> None:
    disk = Disk()
    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2), connect=disk.connect)
    offer(writer, 5)
    wait_for(lambda: writer.written == 5)
    disk.full = True
    offer(writer, 3)
    assert not writer.close(PATIENCE_S)
    (closed,) = close_books(tmp_path)
    assert dict(closed.gaps) == {"crash": 3}
    (line,) = ledger(tmp_path)
    assert (line.spooled, line.unexplained) == (5, 0)


def test_a_segment_that_cannot_be_created_is_a_refusal_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        patch.setattr("eventlog.segment.os.replace", refuse)
        writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2))
        offer(writer, 3)
        wait_for(lambda: writer.buffered_rows == 0)
    wait_for(lambda: writer.gap_rows == {"storage": 3})
    offer(writer, 2)
    assert writer.close(PATIENCE_S)
    assert (writer.written, ledger(tmp_path)[0].unexplained) == (2, 0)


def test_sqlites_own_full_is_survived(tmp_path: Path) -> None:
    """No injection: the file may have no more than so many pages, then it may."""
    limit = [40]

    def limited(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")
        return connection

    writer = PredictionWriter(tmp_path, A, LogSettings(flush_ms=2), connect=limited)
    for _ in range(60):
        offer(writer, 500)
        time.sleep(0.004)
    wait_for(lambda: writer.buffered_rows == 0)
    limit[0] = 1_000_000
    wait_for(lambda: writer.gap_rows.get("storage", 0) > 0)
    offer(writer, 1)
    assert writer.close(PATIENCE_S)
    (line,) = ledger(tmp_path)
    assert line.acknowledged == 30_001
    assert 0 < line.spooled < 30_001
    assert line.unexplained == 0
