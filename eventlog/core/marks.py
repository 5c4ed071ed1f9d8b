"""GAP, HEARTBEAT and END records, and what their bodies say."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from eventlog.core.record import (
    PREDICTIONS,
    GapReason,
    Record,
    RecordError,
    RecordKind,
    Run,
    merge_adjacent,
    runs_header,
)
from protos import records_pb2


@dataclass(frozen=True, slots=True)
class Gap:
    rows: int
    reason: GapReason
    model: str  # empty when the loss cannot be attributed


@dataclass(frozen=True, slots=True)
class End:
    next_sequence: int
    clean: bool  # False: written by the supervisor for a dead producer


def gap_record(
    producer: str,
    runs: Sequence[Run],
    reason: GapReason,
    *,
    model: str = "",
    watermark_ns: int,
    stream: str = PREDICTIONS,
    at: int = 0,
) -> Record:
    """Rows that will never appear; without runs, an uncertainty beginning at `at`."""
    runs = merge_adjacent(runs)
    rows = sum(count for _, count in runs)
    first = min((first for first, _ in runs), default=at)
    body = records_pb2.Gap(
        first_sequence=first,
        count=rows,
        reason=reason.name,
        model=model,
    )
    return Record(
        stream=stream,
        kind=RecordKind.GAP,
        producer=producer,
        first_sequence=first,
        rows=rows,
        watermark_ns=watermark_ns,
        headers=runs_header(runs),
        body=body.SerializeToString(),
    )


def heartbeat_record(producer: str, next_sequence: int, watermark_ns: int) -> Record:
    body = records_pb2.Heartbeat(watermark_ns=watermark_ns).SerializeToString()
    return _mark(RecordKind.HEARTBEAT, producer, next_sequence, watermark_ns, body)


def end_record(producer: str, next_sequence: int, watermark_ns: int, *, clean: bool) -> Record:
    body = records_pb2.End(next_sequence=next_sequence, clean=clean).SerializeToString()
    return _mark(RecordKind.END, producer, next_sequence, watermark_ns, body)


def parse_gap(record: Record) -> Gap:
    """Raises: RecordError if the body is not a gap of `record.rows` rows."""
    message = records_pb2.Gap()
    _parse(message, record, RecordKind.GAP)
    if message.count != record.rows:
        raise RecordError(f"gap of {record.producer}: {message.count} rows, record {record.rows}")
    try:
        reason = GapReason(message.reason)
    except ValueError:
        reason = GapReason.UNKNOWN  # written by a later version
    return Gap(record.rows, reason, message.model)


def parse_end(record: Record) -> End:
    """Raises: RecordError if the body is not an end."""
    message = records_pb2.End()
    _parse(message, record, RecordKind.END)
    return End(message.next_sequence, message.clean)


def _parse(
    message: records_pb2.Gap | records_pb2.End, record: Record, expected: RecordKind
) -> None:
    if record.kind is not expected:
        raise RecordError(f"expected {expected.name}, got {record.kind.name}")
    try:
        message.ParseFromString(record.body)
    except DecodeError as exc:
        raise RecordError(f"{expected.name} of {record.producer}: body is malformed") from exc


def _mark(
    kind: RecordKind, producer: str, next_sequence: int, watermark: int, body: bytes
) -> Record:
    return Record(PREDICTIONS, kind, producer, next_sequence, 0, watermark, {}, body)
