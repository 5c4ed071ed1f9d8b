"""Closing the books of incarnations whose process is gone."""

import os
from pathlib import Path

import pytest

from eventlog import (
    Consumed,
    ConsumedTally,
    GapReason,
    LogSettings,
    PredictionWriter,
    RecordKind,
    SqliteLog,
    StoredRecord,
    allocate_incarnation,
    close_books,
    encode_predictions,
    fake_rows,
    ledger,
    parse_end,
    parse_gap,
    publish_position,
)
from eventlog.books import RESERVED_NS_MAX
from eventlog.slab import Slab, SlabState, SlabView

A = "aaaaaa"


def abandoned(directory: Path, written: int, acknowledged: int, producer: str = A) -> None:
    """What a killed worker leaves: rows in the spool, and more of them numbered."""
    log = SqliteLog(directory, producer=producer, settings=LogSettings())
    for first in range(written):
        log.append([encode_predictions(fake_rows(first, 1, ts_ns=first), producer, first)])
    assert log._slab is not None
    log._slab.acknowledged = acknowledged
    log.close()


def read_all(directory: Path) -> list[StoredRecord]:
    log = SqliteLog(directory)
    try:
        return log.read({}, 10_000)
    finally:
        log.close()


def test_what_was_numbered_and_not_written_is_a_crash_gap(tmp_path: Path) -> None:
    abandoned(tmp_path, written=5, acknowledged=9)
    (closed,) = close_books(tmp_path)
    assert (closed.producer, closed.acknowledged, dict(closed.gaps)) == (A, 9, {"crash": 4})
    assert not closed.uncertain
    *_, gap, end = read_all(tmp_path)
    assert (gap.record.first_sequence, parse_gap(gap.record).rows) == (5, 4)
    assert not parse_end(end.record).clean
    assert parse_end(end.record).next_sequence == 9
    (line,) = ledger(tmp_path)
    assert (line.spooled, dict(line.gaps), line.unexplained) == (5, {"crash": 4}, 0)


def test_closing_twice_changes_nothing(tmp_path: Path) -> None:
    abandoned(tmp_path, written=2, acknowledged=3)
    assert len(close_books(tmp_path)) == 1
    before = read_all(tmp_path)
    assert close_books(tmp_path) == []
    assert read_all(tmp_path) == before


def test_a_kill_between_the_end_record_and_its_mark_is_made_up_for(tmp_path: Path) -> None:
    abandoned(tmp_path, written=2, acknowledged=3)
    close_books(tmp_path)
    slab = Slab(tmp_path, A)
    slab.cells[1] = SlabState.OPEN
    slab.release()
    before = read_all(tmp_path)
    (closed,) = close_books(tmp_path)
    assert (closed.acknowledged, dict(closed.gaps)) == (3, {})
    assert read_all(tmp_path) == before
    assert SlabView(tmp_path, A).state == SlabState.CLOSED


def test_a_living_incarnation_is_left_alone(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, A, LogSettings())
    writer.assign(4)
    assert close_books(tmp_path) == []
    assert ledger(tmp_path)[0].live
    assert writer.close(30)


def test_an_incarnation_that_never_wrote_gets_an_end(tmp_path: Path) -> None:
    abandoned(tmp_path, written=0, acknowledged=7)
    close_books(tmp_path)
    kinds = [stored.record.kind for stored in read_all(tmp_path)]
    assert kinds == [RecordKind.GAP, RecordKind.END]
    assert ledger(tmp_path)[0].unexplained == 0


def test_a_segment_in_which_nothing_was_written_yet_does_not_hide_the_end(tmp_path: Path) -> None:
    producer = SqliteLog(tmp_path, producer=A, settings=LogSettings())
    assert producer._spool is not None
    assert producer._slab is not None
    producer._spool._open()
    producer._slab.acknowledged = 3
    reader = SqliteLog(tmp_path)
    assert reader.read({}, 10) == []  # and keeps what it has opened
    producer._slab.release()  # killed; its file and write-ahead log stay
    close_books(tmp_path)
    kinds = [stored.record.kind for stored in reader.read({}, 10)]
    reader.close()
    assert kinds == [RecordKind.GAP, RecordKind.END]
    assert [stored.record.kind for stored in read_all(tmp_path)] == kinds


def test_a_reserved_name_waits_for_its_worker_and_not_for_ever(tmp_path: Path) -> None:
    producer = allocate_incarnation(tmp_path)
    assert close_books(tmp_path) == []
    assert SlabView(tmp_path, producer).state == SlabState.RESERVED
    created_ns = SlabView(tmp_path, producer).created_ns
    assert close_books(tmp_path, clock=lambda: created_ns + RESERVED_NS_MAX + 1) == []
    assert not (tmp_path / f"{producer}.slab").exists()


def test_names_are_never_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["aaaaaa", "aaaaaa", "bbbbbb", "cccccc"])
    monkeypatch.setattr("secrets.token_hex", lambda size: next(names))
    assert allocate_incarnation(tmp_path) == "aaaaaa"
    assert allocate_incarnation(tmp_path) == "bbbbbb"
    abandoned(tmp_path, 1, 1, "cccccc")
    (tmp_path / "cccccc.slab").unlink()  # its segments still name it
    names = iter(["cccccc", "dddddd"])
    assert allocate_incarnation(tmp_path) == "dddddd"


def test_after_a_power_loss_the_missing_rows_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned(tmp_path, written=3, acknowledged=5)
    monkeypatch.setattr("eventlog.slab.boot_id", lambda: b"another boot, id")
    (closed,) = close_books(tmp_path)
    assert closed.uncertain
    assert dict(closed.gaps) == {"unknown": 2}
    (line,) = ledger(tmp_path)
    assert (line.uncertain, line.unexplained) == (True, 0)


def test_a_slab_older_than_the_spool_gives_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    abandoned(tmp_path, written=5, acknowledged=2)  # the page was not flushed, the rows were
    monkeypatch.setattr("eventlog.slab.boot_id", lambda: b"another boot, id")
    (closed,) = close_books(tmp_path)
    assert (closed.acknowledged, closed.uncertain) == (5, True)
    gap = next(s.record for s in read_all(tmp_path) if s.record.kind is RecordKind.GAP)
    assert (parse_gap(gap).reason, gap.rows, gap.first_sequence) == (GapReason.UNKNOWN, 0, 5)
    assert ledger(tmp_path)[0].unexplained == 0


@pytest.mark.parametrize("content", [b"", b"junk" * 1024, b"dgslab02" + bytes(4088), bytes(4096)])
def test_a_damaged_slab_is_set_aside_and_its_rows_are_unknown(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    abandoned(tmp_path, written=3, acknowledged=5)
    (tmp_path / f"{A}.slab").write_bytes(content)
    (closed,) = close_books(tmp_path)
    assert (closed.acknowledged, closed.uncertain) == (3, True)
    assert (tmp_path / f"{A}.slab.corrupt").exists()
    assert len(caplog.records) == 1
    assert ledger(tmp_path)[0].unexplained == 0
    assert close_books(tmp_path) == []


def test_a_flipped_header_bit_is_noticed(tmp_path: Path) -> None:
    abandoned(tmp_path, written=3, acknowledged=5)
    path = tmp_path / f"{A}.slab"
    for offset in range(36):
        page = bytearray(path.read_bytes())
        page[offset] ^= 1
        damaged = tmp_path / "b" / path.name
        damaged.parent.mkdir(exist_ok=True)
        damaged.write_bytes(page)
        with pytest.raises(Exception, match=A):
            SlabView(damaged.parent, A)


def test_segments_without_a_slab_are_closed_as_unknown(tmp_path: Path) -> None:
    abandoned(tmp_path, written=3, acknowledged=5)
    (tmp_path / f"{A}.slab").unlink()
    (closed,) = close_books(tmp_path)
    assert (closed.acknowledged, closed.uncertain) == (3, True)


def test_rows_that_a_reader_had_and_the_disk_lost_count_as_delivered(tmp_path: Path) -> None:
    abandoned(tmp_path, written=5, acknowledged=9)
    tally = ConsumedTally()
    for stored in read_all(tmp_path):
        tally.add(stored)
    consumed = tally.consumed()
    # The reader had two records more, which a power loss took with it.
    publish_position(tmp_path, "monitor", Consumed({A: 7}, {A: consumed.delivered[A] + 2}))
    (closed,) = close_books(tmp_path)
    assert dict(closed.gaps) == {"crash": 2}
    (line,) = ledger(tmp_path)
    assert (line.delivered, line.spooled, line.unexplained) == (7, 0, 0)
    log = SqliteLog(tmp_path)
    beyond = log.read({A: 7}, 10)
    log.close()
    assert [stored.record.kind for stored in beyond] == [RecordKind.GAP, RecordKind.END]


def test_a_full_disk_leaves_the_books_for_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    abandoned(tmp_path, written=2, acknowledged=3)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "replace", full)
        assert close_books(tmp_path) == []
    assert "stay open" in caplog.text
    assert not list(tmp_path.glob("*.new"))
    assert len(close_books(tmp_path)) == 1
    assert ledger(tmp_path)[0].unexplained == 0


def test_without_a_directory_there_is_nothing_to_close(tmp_path: Path) -> None:
    assert close_books(tmp_path / "none") == []
    assert ledger(tmp_path / "none") == []
