"""Age and bytes: what goes, in which order, and what is said about it."""

import os
from pathlib import Path

import pytest

from eventlog import (
    ConsumedTally,
    GapReason,
    Label,
    LogSettings,
    RecordKind,
    SqliteLog,
    StoredRecord,
    close_books,
    encode_labels,
    encode_predictions,
    enforce_retention,
    fake_rows,
    ledger,
    parse_gap,
    publish_position,
)
from eventlog.retention import Cause, remove_delivered
from eventlog.segment import record_bytes
from eventlog.segment_files import parse_segment_name

A, B = "aaaaaa", "bbbbbb"
ROWS = 500
DAY_NS = 86_400_000_000_000
START_NS = 1_700_000_000_000_000_000
FOREVER = LogSettings(retention_s=1e9, retention_bytes=1 << 40)


def build(directory: Path, producer: str, segments: int, *, close: bool = True) -> SqliteLog:
    """`segments` segments of two records of ROWS rows, a day apart in age."""
    log = SqliteLog(directory, producer=producer, settings=LogSettings(segment_s=1e9))
    assert log._spool is not None
    for index in range(2 * segments):
        rows = fake_rows(index * ROWS, ROWS, ts_ns=index)
        log.append([encode_predictions(rows, producer, index)])
        if index % 2:
            log._spool._seal()
    if close:
        log.close()
        close_books(directory)
    age(directory)
    return log


def age(directory: Path) -> None:
    for producer in (A, B):
        for index, path in enumerate(sorted(directory.glob(f"{producer}-*.db"))):
            os.utime(path, ns=(START_NS + index * DAY_NS,) * 2)


def read_all(directory: Path, position: dict[str, int] | None = None) -> list[StoredRecord]:
    log = SqliteLog(directory)
    try:
        return log.read(position or {}, 10_000)
    finally:
        log.close()


def consume(directory: Path, records: int, group: str = "monitor") -> None:
    tally = ConsumedTally()
    log = SqliteLog(directory)
    for stored in log.read({}, records):
        tally.add(stored)
    log.close()
    publish_position(directory, group, tally.consumed())


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.db"))


def test_inside_age_and_budget_nothing_goes(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    before = names(tmp_path)
    assert enforce_retention(tmp_path, FOREVER, START_NS + 10 * DAY_NS) == []
    assert names(tmp_path) == before


def test_consumed_segments_over_age_go_without_a_gap(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    consume(tmp_path, 7)
    settings = LogSettings(retention_s=1.5 * 86_400)
    removed = enforce_retention(tmp_path, settings, START_NS + 3 * DAY_NS)
    assert [item.gap_rows for item in removed] == [0, 0]
    assert len(names(tmp_path)) == 2
    (line,) = ledger(tmp_path)
    assert (line.delivered, dict(line.gaps), line.unexplained) == (6 * ROWS, {}, 0)
    assert [s.offset for s in read_all(tmp_path)] == [5, 6, 7]


def test_unread_segments_leave_gap_records_at_the_same_offsets(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    before = read_all(tmp_path)
    consume(tmp_path, 1)
    settings = LogSettings(retention_s=1.5 * 86_400)
    removed = enforce_retention(tmp_path, settings, START_NS + 3 * DAY_NS)
    assert sum(item.gap_rows for item in removed) == 4 * ROWS
    after = read_all(tmp_path)
    assert [s.offset for s in after] == [s.offset for s in before]
    for old, new in zip(before[:4], after[:4], strict=True):
        assert new.record.kind is RecordKind.GAP
        assert parse_gap(new.record).reason is GapReason.RETENTION
        assert parse_gap(new.record).model == "m"
        assert new.record.watermark_ns == old.record.watermark_ns
        assert new.record.first_sequence == old.record.first_sequence
    (line,) = ledger(tmp_path)
    # The reader had one of the buried records; it misses the other three.
    assert (line.delivered, line.spooled) == (ROWS, 2 * ROWS)
    assert dict(line.gaps) == {"retention": 3 * ROWS}
    assert line.unexplained == 0


def test_gaps_are_not_buried_again_and_go_once_they_are_read(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    settings = LogSettings(retention_s=86_400)
    now_ns = START_NS + 20 * DAY_NS
    assert enforce_retention(tmp_path, settings, now_ns) != []
    for path in tmp_path.glob("*.r1.db"):
        os.utime(path, ns=(START_NS, START_NS))
    assert enforce_retention(tmp_path, settings, now_ns) == []
    assert ledger(tmp_path)[0].unexplained == 0
    consume(tmp_path, 100)
    enforce_retention(tmp_path, settings, now_ns)
    assert names(tmp_path) == []
    assert ledger(tmp_path)[0].unexplained == 0


def test_under_the_byte_budget_consumed_ones_go_first_then_the_oldest(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    build(tmp_path, B, 3)
    age(tmp_path)
    tally = ConsumedTally()
    for stored in read_all(tmp_path):
        if stored.partition == B:
            tally.add(stored)
    publish_position(tmp_path, "monitor", tally.consumed())
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.db")}
    total = sum(sizes.values())
    budget = total - sum(size for name, size in sizes.items() if name.startswith(B)) - 1
    removed = enforce_retention(
        tmp_path, LogSettings(retention_s=1e12, retention_bytes=budget), START_NS
    )
    went = [parse_segment_name(item.name) for item in removed]
    order = [(name.producer, name.first_offset) for name in went if name is not None]
    assert order == [(B, 1), (B, 3), (B, 5), (B, 7), (A, 1)]
    assert [line.unexplained for line in ledger(tmp_path)] == [0, 0]


def test_the_budget_counts_write_ahead_logs(tmp_path: Path) -> None:
    log = build(tmp_path, A, 3, close=False)
    log.append([encode_predictions(fake_rows(6 * ROWS, ROWS, ts_ns=9), A, 9)])
    consume(tmp_path, 2)
    files = sum(path.stat().st_size for path in tmp_path.glob("*.db"))
    assert list(tmp_path.glob("*.db-wal"))
    settings = LogSettings(retention_s=1e12, retention_bytes=files)
    assert len(enforce_retention(tmp_path, settings, START_NS)) >= 1
    log.close()


def test_what_a_living_producer_needs_stays(tmp_path: Path) -> None:
    log = build(tmp_path, A, 4, close=False)
    log.append([encode_predictions(fake_rows(8 * ROWS, ROWS, ts_ns=9), A, 9)])
    consume(tmp_path, 100)
    settings = LogSettings(retention_s=1, retention_bytes=1)
    enforce_retention(tmp_path, settings, START_NS + 100 * DAY_NS)
    assert [s.offset for s in read_all(tmp_path)] == [7, 8, 9]
    log.append([encode_predictions(fake_rows(9 * ROWS, ROWS, ts_ns=9), A, 9)])
    assert [s.offset for s in read_all(tmp_path)] == [7, 8, 9, 10]
    log.close()
    close_books(tmp_path)
    assert ledger(tmp_path)[0].unexplained == 0


def test_a_second_group_that_lags_keeps_segments_from_going_unsaid(tmp_path: Path) -> None:
    build(tmp_path, A, 2)
    consume(tmp_path, 100)
    consume(tmp_path, 1, group="archive")
    removed = enforce_retention(tmp_path, LogSettings(retention_s=1), START_NS + 100 * DAY_NS)
    assert sum(item.gap_rows for item in removed) == 4 * ROWS
    assert ledger(tmp_path, "monitor")[0].unexplained == 0
    archive = ledger(tmp_path, "archive")[0]
    assert (archive.delivered, dict(archive.gaps)) == (ROWS, {"retention": 3 * ROWS})
    assert archive.unexplained == 0


def test_labels_that_go_unread_are_gaps_of_their_own_stream(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path, producer=A, settings=LogSettings())
    log.append([encode_labels("m", [Label("id", 0, 1, 1.0)] * 3, A, 0, 1)])
    log.close()
    close_books(tmp_path)
    age(tmp_path)
    removed = enforce_retention(tmp_path, LogSettings(retention_s=1), START_NS + 9 * DAY_NS)
    assert [item.gap_rows for item in removed] == [0, 0]
    gap = read_all(tmp_path)[0].record
    assert (gap.stream, gap.kind, gap.rows) == ("labels", RecordKind.GAP, 3)
    (line,) = ledger(tmp_path)
    assert (dict(line.gaps), line.unexplained) == ({}, 0)


def test_a_reader_with_an_open_segment_goes_on_when_it_is_removed(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    log = SqliteLog(tmp_path)
    (first,) = log.read({}, 1)
    consume(tmp_path, 4)
    enforce_retention(tmp_path, LogSettings(retention_s=86_400), START_NS + 20 * DAY_NS)
    rest = log.read({A: first.offset}, 100)
    assert [s.offset for s in rest] == [5, 6, 7]
    log.close()


def test_a_damaged_segment_is_repaired_and_goes_next_time(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    path = sorted(tmp_path.glob("*.db"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    settings = LogSettings(retention_s=86_400)
    for _ in range(3):
        enforce_retention(tmp_path, settings, START_NS + 20 * DAY_NS)
        age(tmp_path)
    assert all(s.record.kind is not RecordKind.DATA for s in read_all(tmp_path))
    assert ledger(tmp_path)[0].unexplained == 0


def test_ended_incarnations_are_forgotten_in_the_end(tmp_path: Path) -> None:
    build(tmp_path, A, 2)
    settings = LogSettings(retention_s=86_400)
    enforce_retention(tmp_path, settings, START_NS + 10 * DAY_NS)
    far = 4_000_000_000_000_000_000
    enforce_retention(tmp_path, settings, far)
    enforce_retention(tmp_path, settings, far)
    assert ledger(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["books.lock"]


@pytest.mark.parametrize("name", ["aaaaaa-000000000001.db.7.new", "aaaaaa-000000000009.db-wal"])
def test_litter_of_a_killed_process_is_swept(tmp_path: Path, name: str) -> None:
    build(tmp_path, A, 1)
    (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / name, ns=(START_NS, START_NS))
    enforce_retention(tmp_path, FOREVER, START_NS + DAY_NS)
    assert not (tmp_path / name).exists()


def test_a_file_that_gets_its_name_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    build(tmp_path, A, 1)
    gone = tmp_path / "bbbbbb.slab.7.new"
    gone.symlink_to(tmp_path / "nowhere")  # listed, and not there when it is looked at
    assert enforce_retention(tmp_path, FOREVER, START_NS + DAY_NS) == []


def test_set_aside_files_go_by_age(tmp_path: Path) -> None:
    build(tmp_path, A, 1)
    path = tmp_path / "aaaaaa-000000000001.db.corrupt"
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(START_NS, START_NS))
    settings = LogSettings(retention_s=5 * 86_400)
    assert enforce_retention(tmp_path, settings, START_NS + 4 * DAY_NS) == []
    (removed, *_) = enforce_retention(tmp_path, settings, START_NS + 6 * DAY_NS)
    assert removed.name == path.name
    assert not path.exists()


def test_a_reader_with_a_byte_bound_takes_a_little_of_every_producer(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    build(tmp_path, B, 3)
    log = SqliteLog(tmp_path)
    size = record_bytes(log.read({}, 1)[0].record)
    found = log.read({}, 1000, 4 * size)
    assert [(item.partition, item.offset) for item in found] == [(A, 1), (A, 2), (B, 1), (B, 2)]
    assert len(log.read({}, 1000, 1)) == 2  # one of each is always taken
    position, count = {}, 0
    while batch := log.read(position, 1000, 3 * size):
        position |= {item.partition: item.offset for item in batch}
        count += len(batch)
    log.close()
    assert count == len(read_all(tmp_path))


def test_what_reached_kafka_is_not_kept(tmp_path: Path) -> None:
    log = build(tmp_path, A, 4, close=False)
    build(tmp_path, B, 2)
    consume(tmp_path, 3, "monitor")  # from before log.kafka was set: holds nothing back
    consume(tmp_path, 10_000, "shipper")
    removed = remove_delivered(tmp_path, "shipper")
    assert {item.cause for item in removed} == {Cause.DELIVERED}
    # The last of a living producer and the one before it stay.
    assert [name[:6] for name in names(tmp_path)] == [A, A]
    assert [line.unexplained for line in ledger(tmp_path, "shipper")] == [0, 0]
    assert remove_delivered(tmp_path, "shipper") == []
    log.close()


def test_what_has_not_reached_kafka_stays_and_is_buried_beyond_the_budget(tmp_path: Path) -> None:
    build(tmp_path, A, 3)
    consume(tmp_path, 10_000, "monitor")
    consume(tmp_path, 2, "shipper")
    assert len(remove_delivered(tmp_path, "shipper")) == 1
    settings = LogSettings(retention_s=1e9, retention_bytes=0, kafka="localhost:9092")
    removed = enforce_retention(tmp_path, settings, START_NS)
    assert sum(item.gap_rows for item in removed) == 4 * ROWS
    (line,) = ledger(tmp_path, "shipper")
    assert (line.delivered, dict(line.gaps), line.unexplained) == (
        2 * ROWS,
        {"retention": 4 * ROWS},
        0,
    )
