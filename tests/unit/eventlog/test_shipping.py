"""What goes to which partition, in which order, and what takes the place of what cannot."""

from collections.abc import Sequence

import pytest

from eventlog import GapReason, Label, encode_labels, encode_predictions, fake_rows, parse_gap
from eventlog.core.dead_letter import dead_letter, truncated
from eventlog.core.kafka_message import Message, Placed, from_message, is_copy, to_message
from eventlog.core.marks import end_record, gap_record, heartbeat_record
from eventlog.core.record import LABELS, PREDICTIONS, Record, RecordKind, StoredRecord, runs_of
from eventlog.core.shipping import Shipment, Watermarks, letter_message

A, B = "aaaaaa", "bbbbbb"
PARTITIONS = 3
S = 1_000_000_000
PLACES = {"m": 0, "n": 1}


def watermarks() -> Watermarks:
    return Watermarks(PARTITIONS, S, lambda model: PLACES[model])


def data(first: int, watermark_ns: int, *, model: str = "m", producer: str = A) -> Record:
    return encode_predictions(fake_rows(first, 2, model=model), producer, watermark_ns)


def stored(records: Sequence[Record], after: int = 0) -> list[StoredRecord]:
    offsets: dict[str, int] = {}
    found = []
    for record in records:
        offsets[record.producer] = offsets.get(record.producer, after) + 1
        found.append(StoredRecord(record.producer, offsets[record.producer], record))
    return found


def by_lane(known: Watermarks, placed: Sequence[Placed]) -> dict[tuple[str, int], list[Record]]:
    lanes: dict[tuple[str, int], list[Record]] = {}
    for item in placed:
        lanes.setdefault(known.lane(item), []).append(item.record)
    return lanes


def test_every_partition_learns_how_far_a_producer_came() -> None:
    known = watermarks()
    shipment = Shipment(stored([data(0, S), data(2, 2 * S, model="n")]), known)
    lanes = by_lane(known, shipment.placed)
    assert len(lanes) == 2 * PARTITIONS
    assert {records[-1].watermark_ns for records in lanes.values()} == {2 * S}
    mark = lanes[PREDICTIONS, 2][-1]
    assert (mark.kind, mark.first_sequence) == (RecordKind.HEARTBEAT, 4)
    # Where a record of the same age went there is no need of a mark.
    assert [r.kind for r in lanes[PREDICTIONS, 1]] == [RecordKind.DATA]
    assert [r.kind for r in lanes[PREDICTIONS, 0]] == [RecordKind.DATA, RecordKind.HEARTBEAT]


def test_a_partition_gets_no_mark_before_a_heartbeats_time_is_over() -> None:
    known = watermarks()
    first = Shipment(stored([data(0, 5 * S)]), known)
    first.sent()
    near = Shipment(stored([data(2, 6 * S - 1)], 1), known)
    assert [item.record.kind for item in near.placed] == [RecordKind.DATA]
    near.sent()
    late = Shipment(stored([data(4, 6 * S)], 2), known)
    kinds = [item.record.kind for item in late.placed]
    assert kinds == [RecordKind.DATA] + [RecordKind.HEARTBEAT] * (2 * PARTITIONS - 1)


def test_a_batch_that_was_not_sent_has_told_nobody() -> None:
    known = watermarks()
    batch = stored([data(0, 5 * S)])
    first = Shipment(batch, known).placed
    assert Shipment(batch, known).placed == first


def test_watermarks_never_fall_in_any_partition() -> None:
    known = watermarks()
    records = [
        record
        for i in range(8)
        for record in (
            data(4 * i, i * S, model="mn"[i % 2]),
            data(4 * i + 2, i * S + 1, producer=B),
            heartbeat_record(A, 4 * i, i * S + 2),
        )
    ]
    told: dict[tuple[tuple[str, int], str], int] = {}
    for start in range(0, len(records), 5):
        shipment = Shipment(stored(records[start : start + 5]), known)
        for item in shipment.placed:
            key = known.lane(item), item.record.producer
            assert told.get(key, 0) <= item.record.watermark_ns
            told[key] = item.record.watermark_ns
        shipment.sent()
    assert len(told) == 2 * 2 * PARTITIONS


def test_nothing_follows_the_end_of_a_producer() -> None:
    known = watermarks()
    shipment = Shipment(stored([data(0, S), end_record(A, 2, 5 * S, clean=True)]), known)
    lanes = by_lane(known, shipment.placed)
    assert all(records[-1].kind is RecordKind.END for records in lanes.values())
    shipment.sent()
    assert known._told == {}


def test_a_refused_record_becomes_a_gap_in_its_place() -> None:
    known = watermarks()
    batch = stored([data(0, S), data(2, 2 * S), data(4, 3 * S)])
    shipment = Shipment(batch, known)
    before = shipment.placed
    shipment.refuse(1, "too large")
    gap = shipment.placed[1].record
    assert [*shipment.placed[:1], *shipment.placed[2:]] == [*before[:1], *before[2:]]
    assert parse_gap(gap).reason is GapReason.REFUSED
    assert (runs_of(gap), gap.watermark_ns, parse_gap(gap).model) == (((2, 2),), 2 * S, "m")
    assert known.lane(shipment.placed[1]) == known.lane(before[1])
    assert shipment.records[1] == StoredRecord(A, 2, gap)
    assert shipment.refused_rows == 2
    (letter,) = shipment.letters
    assert (letter.stored, letter.placed, letter.reason) == (batch[1], before[1], "too large")


def test_a_refused_gap_or_mark_goes_without_one() -> None:
    gap = gap_record(A, [(0, 5)], GapReason.CRASH, watermark_ns=S)
    shipment = Shipment(stored([gap]), watermarks())
    count = len(shipment.placed)
    assert [is_copy(item.record) for item in shipment.placed[:PARTITIONS]] == [False, True, True]
    shipment.refuse(0, "no")
    shipment.refuse(len(shipment.placed) - 1, "no")  # a heartbeat of ours: nobody misses it
    assert len(shipment.placed) == count - 2
    assert (len(shipment.letters), shipment.refused_rows) == (1, 0)
    assert shipment.records == stored([gap])


def test_a_gap_that_says_nothing_intelligible_is_refused_and_stays_a_gap() -> None:
    sound = gap_record(A, [(0, 5)], GapReason.CRASH, watermark_ns=S)
    broken = StoredRecord(
        A, 1, Record(*(*[getattr(sound, n) for n in sound.__slots__[:-1]], b"\xff"))
    )
    shipment = Shipment([broken], watermarks())
    assert parse_gap(shipment.records[0].record).rows == 5
    assert len(shipment.letters) == 1


def test_labels_are_refused_in_their_own_stream() -> None:
    labels = encode_labels("n", [Label("x", 0, 0, 1.0)], A, 7, 0, arrived_ns=1)
    shipment = Shipment(stored([labels]), watermarks())
    shipment.refuse(0, "no")
    gap = shipment.placed[0].record
    assert (gap.stream, runs_of(gap), shipment.refused_rows) == (LABELS, ((7, 1),), 0)


@pytest.mark.parametrize("bytes_max", [300_000, 2000, 0])
def test_a_dead_letter_says_what_it_was_and_fits(bytes_max: int) -> None:
    record = data(0, S)
    shipment = Shipment(stored([record], after=41), watermarks())
    shipment.refuse(0, "too large")
    message = letter_message(shipment.letters[0], "t", 0, bytes_max)
    headers = {name: value.decode() for name, value in message.headers}
    assert headers["dlq.topic"] == "t"
    assert (headers["dlq.partition"], headers["dlq.offset"]) == ("0", "42")
    assert (headers["dlq.reason"], headers["producer"]) == ("too large", A)
    assert len(message.value) <= max(bytes_max, 0)
    if bytes_max > 200_000:
        assert "dlq.value_bytes" not in headers
        assert from_message(message, "t").body == record.body
    else:
        assert headers["dlq.value_bytes"] == str(len(record.body))
        assert record.body.startswith(message.value)


def test_what_fits_is_not_truncated() -> None:
    message = to_message(data(0, S), "t", "m")
    assert truncated(message, 1_000_000) is message


def test_headers_of_somebody_else_do_not_keep_a_letter_from_being_sent() -> None:
    hostile = Message(None, b"v" * 2000, [(f"h{i}", b"x" * 1000) for i in range(1000)], 0)
    letter = truncated(dead_letter(hostile, "t", 1, 7, "é" * 5000), 10_000)
    assert dict(letter.headers)["dlq.offset"] == b"7"
    assert sum(len(name) + len(value) for name, value in letter.headers) < 5000, (
        "the hostile ones went"
    )
    assert letter.value == hostile.value
