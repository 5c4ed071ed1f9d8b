"""Record <-> Kafka message, and which partitions a record goes to.

Laws:
- the value is the record's body as it is; everything else about it is a header,
  in text, so that any Kafka tool shows it;
- a message names its topic and bears a checksum of its value: a client library
  has been known to put records on another topic, and to reuse their buffers;
- what belongs to a model is keyed by it and goes to its partition. Heartbeats and
  ends go to every partition of every stream, so each of those has a watermark of
  its own. It holds there, because a producer's records reach a partition in the
  order of its log;
- a loss without a model goes to every partition of its stream, since it may be of
  any of their models, and counts once: copies beyond partition 0 say so.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from eventlog.core.marks import parse_gap
from eventlog.core.prediction_id import check_producer
from eventlog.core.record import (
    LABELS,
    PREDICTIONS,
    Record,
    RecordError,
    RecordKind,
)

STREAMS = (PREDICTIONS, LABELS)
COPY_HEADER = "copy"  # of a loss that another partition's record counts
_ARROW, _PROTOBUF = "application/vnd.apache.arrow.stream", "application/x-protobuf"
_OWN = frozenset(
    {
        *("stream", "kind", "producer", "first_sequence", "rows", "watermark_ns"),
        *("topic", "crc32", "content-type"),
    }
)
_TIMES = frozenset({"ts_min_ns", "ts_max_ns"})  # of the record's own headers, read as numbers
NUMBER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """What a Kafka client sends or has received. key: the model, or None."""

    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    timestamp_ms: int  # of the youngest row in it: where to look for a row of a known time


@dataclass(frozen=True, slots=True)
class Placed:
    """A record on its way to a partition of a stream; to that of `model` when it has none."""

    stream: str
    model: str
    partition: int | None
    record: Record


def place(record: Record, partitions: int) -> Iterator[Placed]:
    """Where `record` goes, of streams with so many partitions each.

    Raises: RecordError if a gap's body is malformed.
    """
    if record.kind is RecordKind.DATA:
        yield Placed(record.stream, record.headers.get("model", ""), None, record)
    elif record.kind is RecordKind.GAP:
        yield from _place_gap(record, partitions)
    else:
        for stream in STREAMS:
            for partition in range(partitions):
                yield Placed(stream, "", partition, record)


def _place_gap(record: Record, partitions: int) -> Iterator[Placed]:
    model = parse_gap(record).model
    if model:
        yield Placed(record.stream, model, None, record)
        return
    copy = replace(record, headers={**record.headers, COPY_HEADER: "1"})
    for partition in range(partitions):
        yield Placed(record.stream, "", partition, copy if partition else record)


def is_copy(record: Record) -> bool:
    """Whether its lost rows are counted by the same record in another partition."""
    return COPY_HEADER in record.headers


def to_message(record: Record, topic: str, model: str) -> Message:
    """model: what keys it; empty for a record of no model."""
    is_arrow = record.kind is RecordKind.DATA and record.stream == PREDICTIONS
    own = {
        "topic": topic,
        "stream": record.stream,
        "kind": record.kind.name,
        "producer": record.producer,
        "first_sequence": str(record.first_sequence),
        "rows": str(record.rows),
        "watermark_ns": str(record.watermark_ns),
        "crc32": f"{zlib.crc32(record.body):08x}",
        "content-type": _ARROW if is_arrow else _PROTOBUF,
    }
    headers = [(name, text.encode()) for name, text in {**record.headers, **own}.items()]
    youngest_ns = int(record.headers.get("ts_max_ns", record.watermark_ns))
    key = model.encode() if model else None
    return Message(key, record.body, headers, -(-youngest_ns // 1_000_000))


def from_message(message: Message, topic: str) -> Record:
    """The record in a message that came from `topic`.

    Raises: RecordError, which says what is wrong with it.
    """
    try:
        headers = {name: value.decode() for name, value in message.headers}
        for name in _TIMES & headers.keys():
            _number(headers[name])
        record = Record(
            stream=headers["stream"],
            kind=RecordKind[headers["kind"]],
            producer=check_producer(headers["producer"]),
            first_sequence=_number(headers["first_sequence"]),
            rows=_number(headers["rows"]),
            watermark_ns=_number(headers["watermark_ns"]),
            headers={name: text for name, text in headers.items() if name not in _OWN},
            body=message.value,
        )
    except KeyError as error:
        raise RecordError(f"header {error.args[0]} is missing or unknown") from error
    except ValueError as error:
        raise RecordError(f"a header is malformed: {error}") from error
    if headers.get("topic") != topic:
        raise RecordError(f"it was sent to topic {headers.get('topic')!r}")
    if headers.get("crc32") != f"{zlib.crc32(message.value):08x}":
        raise RecordError("its value does not have the checksum it was sent with")
    return record


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= NUMBER_MAX):
        raise ValueError(f"{text[:32]!r} is no number")
    return int(text)
