"""Records survive the way through Kafka, and a message that was hurt on it is found out."""

from dataclasses import replace

import pytest

from eventlog import (
    GapReason,
    Record,
    RecordError,
    encode_labels,
    encode_predictions,
    fake_rows,
)
from eventlog.core.kafka_message import Message, from_message, is_copy, place, to_message
from eventlog.core.labels import Label
from eventlog.core.marks import end_record, gap_record, heartbeat_record
from eventlog.core.record import LABELS, PREDICTIONS
from eventlog.kafka.topics import partition_of

A, TOPIC = "aaaaaa", "ns.predictions.v1"
DATA = encode_predictions(fake_rows(3, 4, ts_ns=1_500_001), A, 7)
ALL = [
    DATA,
    encode_labels("m", [Label("id", 0, 1, "cat")], A, 0, 7),
    gap_record(A, [(3, 2), (9, 1)], GapReason.SAMPLED, model="m", watermark_ns=5),
    gap_record(A, [(3, 2)], GapReason.CRASH, watermark_ns=5),
    heartbeat_record(A, 10, 6),
    end_record(A, 10, 8, clean=True),
]


@pytest.mark.parametrize("record", ALL, ids=lambda record: f"{record.stream}-{record.kind.name}")
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert from_message(to_message(record, TOPIC, "m"), TOPIC) == record


def test_rows_are_keyed_by_model_and_stamped_with_the_youngest() -> None:
    message = to_message(DATA, TOPIC, "m")
    assert message.key == b"m"
    assert message.timestamp_ms == 2  # 1.500001 ms, rounded up: never before its rows
    assert dict(message.headers)["model"] == b"m"


def headers(message: Message, **changed: bytes | None) -> Message:
    kept = {**dict(message.headers), **changed}
    return replace(message, headers=[(k, v) for k, v in kept.items() if v is not None])


@pytest.mark.parametrize(
    ("hurt", "says"),
    [
        (lambda m: replace(m, value=m.value[:-1] + b"x"), "checksum"),
        (lambda m: headers(m, crc32=None), "checksum"),
        (lambda m: headers(m, topic=b"ns.labels.v1"), "ns.labels.v1"),
        (lambda m: headers(m, kind=b"GOSSIP"), "GOSSIP"),
        (lambda m: headers(m, producer=None), "producer"),
        (lambda m: headers(m, producer=b"../../x"), "malformed"),
        (lambda m: headers(m, rows=b"-1"), "no number"),
        (lambda m: headers(m, rows="٣".encode()), "no number"),
        (lambda m: headers(m, rows=b"9" * 400), "no number"),
        (lambda m: headers(m, rows=b"9223372036854775808"), "no number"),
        (lambda m: headers(m, ts_max_ns=b"soon"), "no number"),
        (lambda m: headers(m, model=b"\xff"), "malformed"),
    ],
)
def test_a_hurt_message_is_no_record(hurt, says) -> None:
    with pytest.raises(RecordError, match=says):
        from_message(hurt(to_message(DATA, TOPIC, "m")), TOPIC)


def test_what_belongs_to_a_model_goes_to_its_partition_alone() -> None:
    for record in ALL[:3]:
        assert [(p.stream, p.model, p.partition) for p in place(record, 6)] == [
            (record.stream, "m", None)
        ]


def test_heartbeats_and_ends_go_everywhere() -> None:
    for record in ALL[4:]:
        placed = list(place(record, 3))
        assert {(p.stream, p.partition) for p in placed} == {
            (stream, n) for stream in (PREDICTIONS, LABELS) for n in range(3)
        }
        assert all(p.record == record for p in placed)


def test_a_nameless_loss_goes_to_every_partition_of_its_stream_and_counts_once() -> None:
    placed = list(place(ALL[3], 3))
    assert [(p.stream, p.partition) for p in placed] == [(PREDICTIONS, n) for n in range(3)]
    assert [is_copy(p.record) for p in placed] == [False, True, True]
    assert from_message(to_message(placed[1].record, TOPIC, ""), TOPIC) == placed[1].record


def test_models_are_placed_as_kafkas_own_clients_place_keys() -> None:
    # Of org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey.
    assert [partition_of(model, 6) for model in ("m", "digits", "fraud-v2", "")] == EXPECTED


EXPECTED = [2, 1, 4, 3]
