"""What every Log must do; each implementation runs the same tests."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eventlog import (
    GapReason,
    Log,
    LogClosed,
    LogSettings,
    MemoryLog,
    Record,
    SqliteLog,
    StoredRecord,
    decode_predictions,
    encode_labels,
    encode_predictions,
    fake_rows,
)
from eventlog.core import kafka_message
from eventlog.core.labels import Label
from eventlog.core.marks import end_record, gap_record, heartbeat_record
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.topics import partition_of
from eventlog.log import scan
from tests.broker.topics import make_topics, settings_for_test

A, B, C = "aaaaaa", "bbbbbb", "cccccc"
PARTITIONS = 3
# One model per producer, each in a partition of its own where models decide that.
MODELS = {A: "m", B: "m2", C: "m4"}


def partition_of_producer(producer: str) -> str:
    return producer


def once_each(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by partition, where a producer has one of its own."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.producer, []).append(record)
    return found


@dataclass
class Place:
    """Somewhere a log can be opened: per producer for writing, and for reading.

    partition: where the rows of a producer's model are. layout: what each partition
    holds after records were appended.
    """

    writer: Callable[[str], Log]
    reader: Callable[[], Log]
    partition: Callable[[str], str] = partition_of_producer
    layout: Callable[[Sequence[Record]], dict[str, list[Record]]] = once_each
    opened: list[Log] = field(default_factory=list)

    def write(self, producer: str) -> Log:
        self.opened.append(self.writer(producer))
        return self.opened[-1]

    def read(self) -> Log:
        self.opened.append(self.reader())
        return self.opened[-1]


def memory(_: Path) -> Place:
    log = MemoryLog()
    return Place(lambda producer: log, lambda: log)


def sqlite(directory: Path) -> Place:
    directory.mkdir()
    return Place(
        lambda producer: SqliteLog(directory, producer=producer, settings=LogSettings()),
        lambda: SqliteLog(directory),
    )


def sqlite_in_small_segments(directory: Path) -> Place:
    directory.mkdir()
    settings = LogSettings(segment_bytes=1)  # every append seals its segment
    return Place(
        lambda producer: SqliteLog(directory, producer=producer, settings=settings),
        lambda: SqliteLog(directory),
    )


def on_kafka(address: str) -> Place:
    settings = settings_for_test(partitions=PARTITIONS)
    make_topics(address, settings)

    def layout(records: Sequence[Record]) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for record in records:
            for item in kafka_message.place(record, PARTITIONS):
                number = item.partition
                if number is None:
                    number = partition_of(item.model, PARTITIONS)
                found.setdefault(f"{item.stream}/{number}", []).append(item.record)
        return found

    return Place(
        lambda producer: KafkaLog(address, settings),
        lambda: KafkaLog(address, settings),
        lambda producer: f"predictions/{partition_of(MODELS[producer], PARTITIONS)}",
        layout,
    )


@pytest.fixture(params=[memory, sqlite, sqlite_in_small_segments, on_kafka])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param is on_kafka:
        made: Place = on_kafka(request.getfixturevalue("kafka"))
    else:
        made = request.param(tmp_path / "log")
    yield made
    for log in made.opened:
        log.close()


def data(producer: str, first: int, count: int = 1) -> Record:
    rows = fake_rows(first, count, model=MODELS[producer], ts_ns=first)
    return encode_predictions(rows, producer, first)


def ends(log: Log) -> dict[str, int]:
    """Of the partitions that hold something."""
    return {name: last for name, last in log.end().items() if last}


def read_all(log: Log, limit: int = 100) -> list[StoredRecord]:
    position: dict[str, int] = {}
    found: list[StoredRecord] = []
    while batch := log.read(position, limit):
        for stored in batch:
            position[stored.partition] = stored.offset
        found += batch
    return found


def test_what_was_appended_is_read_back_in_order(place: Place) -> None:
    records = [
        data(A, 0, 3),
        gap_record(A, [(3, 2), (9, 1)], GapReason.SAMPLED, model="m", watermark_ns=5),
        heartbeat_record(A, 10, 6),
        encode_labels("m", [Label("id", 0, 1, "cat")], A, 0, 7),
        end_record(A, 10, 8, clean=True),
    ]
    place.write(A).append(records)
    found: dict[str, list[Record]] = {}
    for stored in read_all(place.read()):
        found.setdefault(stored.partition, []).append(stored.record)
        assert stored.offset == len(found[stored.partition])
    assert found == place.layout(records)
    written = {id(record) for records in place.layout(records).values() for record in records}
    assert {id(record) for record in records} <= written


def test_reading_goes_on_after_a_position(place: Place) -> None:
    log = place.write(A)
    for first in range(7):
        log.append([data(A, first)])
    found = place.read().read({place.partition(A): 4}, 100)
    assert [stored.offset for stored in found] == [5, 6, 7]
    assert [stored.record.first_sequence for stored in found] == [4, 5, 6]


def test_nothing_new_gives_an_empty_list(place: Place) -> None:
    place.write(A).append([data(A, 0)])
    reader = place.read()
    assert reader.read({place.partition(A): 1}, 10) == []
    assert reader.read({place.partition(A): 1, "unknown": 3}, 10) == []


def test_a_reader_sees_what_is_appended_after_it_was_opened(place: Place) -> None:
    log = place.write(A)
    log.append([data(A, 0)])
    reader = place.read()
    assert len(read_all(reader)) == 1
    log.append([data(A, 1)])
    place.write(B).append([data(B, 0)])
    a, b = place.partition(A), place.partition(B)
    assert {(s.partition, s.offset) for s in read_all(reader)} == {(a, 1), (a, 2), (b, 1)}


def test_limits_are_kept_and_lose_nothing(place: Place) -> None:
    log = place.write(A)
    log.append([data(A, first) for first in range(10)])
    reader = place.read()
    assert len(reader.read({}, 3)) == 3
    assert [s.offset for s in read_all(reader, limit=3)] == list(range(1, 11))


def test_a_long_backlog_does_not_starve_the_others(place: Place) -> None:
    place.write(A).append([data(A, first) for first in range(50)])
    place.write(B).append([data(B, 0)])
    place.write(C).append([data(C, first) for first in range(50)])
    batch = place.read().read({}, 9)
    counts = [sum(s.partition == place.partition(p) for s in batch) for p in (A, B, C)]
    assert counts == [4, 1, 4]


def test_partitions_are_read_in_offset_order(place: Place) -> None:
    for producer in (A, B):
        log = place.write(producer)
        for first in range(5):
            log.append([data(producer, first)])
    found = read_all(place.read(), limit=4)
    for producer in (A, B):
        offsets = [s.offset for s in found if s.partition == place.partition(producer)]
        assert offsets == sorted(offsets) == [1, 2, 3, 4, 5]


def test_a_row_is_located_by_producer_and_number(place: Place) -> None:
    log = place.write(A)
    log.append([data(A, 0, 10), data(A, 15, 5)])
    log.append([gap_record(A, [(10, 5)], GapReason.OVERFLOW, watermark_ns=1)])
    log.append([data(A, 20, 1)])
    place.write(B).append([data(B, 0, 3)])
    reader = place.read()
    for sequence in (0, 9, 15, 19, 20):
        stored = reader.locate(A, sequence, 0)
        assert stored is not None
        rows = decode_predictions(stored.record)
        index = rows.index_of(sequence)
        assert index is not None
        assert rows.outputs["y"][index] == sequence
    assert [reader.locate(A, sequence, 0) for sequence in (10, 14, 21, -1)] == [None] * 4
    assert reader.locate(B, 3, 0) is None
    assert reader.locate("eeeeee", 0, 0) is None


def test_a_row_that_came_late_is_located_too(place: Place) -> None:
    log = place.write(A)
    for first in (0, 2, 3, 4, 1):  # row 1 belonged to a slow batch
        log.append([data(A, first)])
    stored = place.read().locate(A, 1, 0)
    assert stored is not None
    assert stored.offset == 5


def test_numbers_of_labels_are_not_those_of_predictions(place: Place) -> None:
    place.write(A).append([encode_labels("m", [Label("id", 0, 1, 2.0)], A, 0, 7)])
    assert place.read().locate(A, 0, 0) is None


def test_appending_nothing_is_no_record(place: Place) -> None:
    log = place.write(A)
    log.append([])
    assert read_all(place.read()) == []


def test_a_closed_log_says_so(place: Place) -> None:
    log = place.write(A)
    log.close()
    with pytest.raises(LogClosed):
        log.append([data(A, 0)])
    with pytest.raises(LogClosed):
        log.read({}, 1)
    with pytest.raises(LogClosed):
        log.locate(A, 0, 0)


def test_the_end_is_the_last_offset_of_every_partition(place: Place) -> None:
    log = place.write(A)
    assert ends(place.read()) == {}
    log.append([data(A, first) for first in range(3)])
    place.write(B).append([data(B, 0)])
    reader = place.read()
    assert ends(reader) == {place.partition(A): 3, place.partition(B): 1}
    log.append([data(A, 3)])
    assert ends(reader) == {place.partition(A): 4, place.partition(B): 1}


def test_a_scan_ends_where_it_was_told(place: Place) -> None:
    log = place.write(A)
    log.append([data(A, first) for first in range(100)])
    reader = place.read()
    end = reader.end()
    found = []
    for stored in scan(reader, end):
        found.append(stored.offset)
        log.append([data(A, 100 + len(found))])
        if len(found) == 1:
            place.write(B).append([data(B, 0)])
    assert found == list(range(1, 101))
