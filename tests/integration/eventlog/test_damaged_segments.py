"""Torn and flipped segments: what is whole is kept, the rest is counted, nothing is misread."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from eventlog import (
    ConsumedTally,
    GapReason,
    LogSettings,
    RecordKind,
    SqliteLog,
    StorageError,
    StoredRecord,
    close_books,
    encode_predictions,
    fake_rows,
    ledger,
    parse_end,
    parse_gap,
    publish_position,
)
from tests.spoiled_schema import spoil_schema

A = "aaaaaa"
ROWS = 40  # per record
RECORDS = 12


def build(directory: Path, *, per_segment: int, acknowledged: int | None = None) -> None:
    """RECORDS records of ROWS rows in segments of `per_segment` records."""
    log = SqliteLog(directory, producer=A, settings=LogSettings(segment_s=1e9))
    assert log._spool is not None
    for index in range(RECORDS):
        log.append([encode_predictions(fake_rows(index * ROWS, ROWS, ts_ns=index), A, index)])
        if (index + 1) % per_segment == 0:
            log._spool._seal()
    assert log._slab is not None
    log._slab.acknowledged = acknowledged or RECORDS * ROWS
    log.close()


def read_all(directory: Path) -> list[StoredRecord]:
    log = SqliteLog(directory)
    try:
        found: list[StoredRecord] = []
        position: dict[str, int] = {}
        while batch := log.read(position, 5):
            for stored in batch:
                position[stored.partition] = stored.offset
            found += batch
        return found
    finally:
        log.close()


def consume(directory: Path, records: int) -> None:
    """Publish a reader's position after `records` records."""
    log = SqliteLog(directory)
    tally = ConsumedTally()
    for stored in log.read({}, records):
        tally.add(stored)
    log.close()
    publish_position(directory, "monitor", tally.consumed())


def check(directory: Path, pristine: dict[int, StoredRecord]) -> None:
    """Every record that comes back is one that went in; the ledger balances."""
    rows = 0
    for stored in read_all(directory):
        if stored.record.kind is RecordKind.DATA:
            assert stored.record == pristine[stored.offset].record
        if stored.record.kind in (RecordKind.DATA, RecordKind.GAP):
            rows += stored.record.rows
    assert rows == RECORDS * ROWS
    (line,) = ledger(directory)
    assert line.unexplained == 0


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.db"))


@pytest.mark.parametrize("per_segment", [RECORDS, 4])
def test_a_torn_segment_keeps_what_is_whole(tmp_path: Path, per_segment: int) -> None:
    build(tmp_path / "whole", per_segment=per_segment)
    pristine = {stored.offset: stored for stored in read_all(tmp_path / "whole")}
    last = segments(tmp_path / "whole")[-1]
    size = last.stat().st_size
    found = 0
    for index, length in enumerate(range(0, size, max(1, size // 25))):
        directory = tmp_path / f"torn{index}"
        shutil.copytree(tmp_path / "whole", directory)
        with (directory / last.name).open("r+b") as file:
            file.truncate(length)
        (closed,) = close_books(directory)
        found += closed.damaged == (f"{last.name}.corrupt",)
        check(directory, pristine)
    assert found >= 23  # a cut in the unused end of the last page harms nothing


def test_flipped_bits_anywhere_are_found_or_harmless(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    build(tmp_path / "whole", per_segment=4)
    pristine = {stored.offset: stored for stored in read_all(tmp_path / "whole")}
    for index in range(40):
        directory = tmp_path / f"flipped{index}"
        shutil.copytree(tmp_path / "whole", directory)
        path = chance.choice(segments(directory))
        content = bytearray(path.read_bytes())
        for _ in range(chance.choice([1, 1, 8])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        close_books(directory)
        check(directory, pristine)


def test_a_flip_in_the_schema_costs_that_segment(tmp_path: Path) -> None:
    build(tmp_path / "whole", per_segment=4)
    pristine = {stored.offset: stored for stored in read_all(tmp_path / "whole")}
    for index, path in enumerate(segments(tmp_path / "whole")):
        directory = tmp_path / f"flipped{index}"
        shutil.copytree(tmp_path / "whole", directory)
        spoil_schema(directory / path.name)
        (closed,) = close_books(directory)
        assert closed.damaged == (f"{path.name}.corrupt",)
        check(directory, pristine)


def test_a_flip_in_a_body_costs_that_record_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path, per_segment=4)
    path = segments(tmp_path)[1]
    spoil_record(path, 6)
    (closed,) = close_books(tmp_path)
    assert closed.damaged == (f"{path.name}.corrupt",)
    (line,) = ledger(tmp_path)
    assert dict(line.gaps) == {"corrupt": ROWS}
    assert line.unexplained == 0
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1
    assert path.name in warnings[0]
    assert f"{ROWS} rows lost" in warnings[0]


def test_two_damaged_neighbours_are_told_apart(tmp_path: Path) -> None:
    build(tmp_path, per_segment=4)
    pristine = {stored.offset: stored for stored in read_all(tmp_path)}
    first, second, _ = segments(tmp_path)
    spoil_record(first, 3)
    second.write_bytes(b"not a database" * 1000)
    close_books(tmp_path)
    check(tmp_path, pristine)
    assert dict(ledger(tmp_path)[0].gaps) == {"corrupt": 5 * ROWS}


def test_the_only_segment_may_be_lost_whole(tmp_path: Path) -> None:
    build(tmp_path, per_segment=RECORDS, acknowledged=RECORDS * ROWS + 7)
    segments(tmp_path)[0].write_bytes(b"")
    close_books(tmp_path)
    (line,) = ledger(tmp_path)
    assert dict(line.gaps) == {"corrupt": RECORDS * ROWS + 7}
    assert line.unexplained == 0


@pytest.mark.parametrize("lost", [1, 3])
def test_the_end_of_a_sealed_segment_is_not_passed_over(tmp_path: Path, lost: int) -> None:
    build(tmp_path, per_segment=4)
    pristine = {stored.offset: stored for stored in read_all(tmp_path)}
    with closing(sqlite3.connect(segments(tmp_path)[0])) as connection:
        connection.execute('DELETE FROM records WHERE "offset" > ?', (4 - lost,))
        connection.commit()
    found = read_all(tmp_path)
    gaps = [stored for stored in found if stored.record.kind is RecordKind.GAP]
    assert sum(gap.record.rows for gap in gaps) == lost * ROWS
    assert {parse_gap(gap.record).reason for gap in gaps} == {GapReason.CORRUPT}
    assert [item.offset for item in found] == sorted(item.offset for item in found)
    close_books(tmp_path)
    check(tmp_path, pristine)


def test_a_reader_that_meets_damage_repairs_a_closed_segment_and_goes_on(tmp_path: Path) -> None:
    build(tmp_path, per_segment=4)
    pristine = {stored.offset: stored for stored in read_all(tmp_path)}
    close_books(tmp_path)
    spoil_record(segments(tmp_path)[1], 6)
    check(tmp_path, pristine)
    assert dict(ledger(tmp_path)[0].gaps) == {"corrupt": ROWS}


@pytest.mark.parametrize("first", [0, 1])
def test_a_closed_producer_of_which_nothing_can_be_opened_is_repaired_and_still_ends(
    tmp_path: Path, first: int
) -> None:
    """first: of its segments that are spoilt; the last one holds its end record."""
    build(tmp_path, per_segment=RECORDS)
    close_books(tmp_path)
    for path in segments(tmp_path)[first:]:
        path.write_bytes(b"no database at all" * 4096)
    found = [stored.record for stored in read_all(tmp_path)]
    assert found[-1].kind is RecordKind.END  # or the monitor would wait for it for ever
    assert parse_end(found[-1]).clean is False
    (line,) = ledger(tmp_path)
    assert dict(line.gaps) == ({} if first else {"corrupt": RECORDS * ROWS})
    assert line.unexplained == 0


def test_a_new_partition_that_cannot_be_looked_into_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path, per_segment=RECORDS)
    log = SqliteLog(tmp_path)
    with monkeypatch.context() as patch:

        def refuse(path: Path) -> sqlite3.Connection:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error

        patch.setattr("eventlog.reader.connect_reader", refuse)
        with pytest.raises(StorageError):
            log.read({}, 5)
    assert len(log.read({}, 5)) == 5
    log.close()


def test_a_reader_in_the_middle_of_a_damaged_segment_misses_what_it_had_not_read(
    tmp_path: Path,
) -> None:
    build(tmp_path, per_segment=RECORDS)
    consume(tmp_path, 5)
    path = segments(tmp_path)[0]
    spoil_record(path, 3)  # read before it was damaged
    spoil_record(path, 9)
    close_books(tmp_path)
    (line,) = ledger(tmp_path)
    assert (line.delivered, line.spooled) == (5 * ROWS, 6 * ROWS)
    assert dict(line.gaps) == {"corrupt": ROWS}
    assert line.unexplained == 0


def test_damage_in_the_open_segment_of_a_living_producer_stops_only_its_partition(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = SqliteLog(tmp_path, producer=A, settings=LogSettings())
    other = SqliteLog(tmp_path, producer="bbbbbb", settings=LogSettings())
    for index in range(4):
        log.append([encode_predictions(fake_rows(index, 1), A, index)])
        other.append([encode_predictions(fake_rows(index, 1), "bbbbbb", index)])
    assert log._spool is not None
    assert log._spool._connection is not None
    log._spool._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    log._spool._connection.execute('UPDATE records SET crc = crc + 1 WHERE "offset" = 3')
    found = read_all(tmp_path)
    assert [s.offset for s in found if s.partition == A] == [1, 2]
    assert [s.offset for s in found if s.partition == "bbbbbb"] == [1, 2, 3, 4]
    assert "aaaaaa/3" in caplog.text
    log.close()
    other.close()
    close_books(tmp_path)
    assert all(line.unexplained == 0 for line in ledger(tmp_path))
    assert dict(ledger(tmp_path)[0].gaps) == {"corrupt": 1}


def test_a_damaged_segment_that_everybody_has_read_is_not_touched(tmp_path: Path) -> None:
    build(tmp_path, per_segment=4)
    consume(tmp_path, 8)
    spoil_record(segments(tmp_path)[0], 2)
    (closed,) = close_books(tmp_path)
    assert closed.damaged == ()
    assert ledger(tmp_path)[0].unexplained == 0


def spoil_record(path: Path, offset: int) -> None:
    """Flip one bit of the body of record `offset`, where it lies in the file."""
    rows = fake_rows((offset - 1) * ROWS, ROWS, ts_ns=offset - 1)
    values = rows.outputs["y"].tobytes()
    content = bytearray(path.read_bytes())
    place = content.find(values)
    assert place >= 0
    content[place + 8] ^= 4
    path.write_bytes(content)
