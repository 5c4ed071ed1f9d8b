"""Truth that arrives later, and the records that carry it."""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from eventlog.core.record import LABELS, Record, RecordError, RecordKind
from protos import records_pb2


@dataclass(frozen=True, slots=True)
class Label:
    """The true value of row `row` of the request `prediction_id`.

    ts_ns: when the truth became known, Unix ns; 0: when the label arrived.
    value: a number (regression target, class index) or a category.
    """

    prediction_id: str
    row: int
    ts_ns: int
    value: float | str


def encode_labels(
    model: str,
    labels: Sequence[Label],
    producer: str,
    first_sequence: int,
    watermark_ns: int,
    *,
    arrived_ns: int | None = None,
) -> Record:
    """One DATA record of stream `labels`.

    first_sequence: in the producer's numbering of labels.
    arrived_ns:     when the gateway took them; it decides their block and stands
                    in for a `ts_ns` of 0. None: the labels' own times.
    """
    batch = records_pb2.LabelBatch(model=model)
    for label in labels:
        message = batch.labels.add()
        message.prediction_id, message.row = label.prediction_id, label.row
        message.ts_ns = label.ts_ns or arrived_ns or 0
        if isinstance(label.value, str):
            message.category = label.value
        else:
            message.number = label.value
    times = [arrived_ns] if arrived_ns is not None else [label.ts_ns for label in labels] or [0]
    headers = {"model": model, "ts_min_ns": str(min(times)), "ts_max_ns": str(max(times))}
    return Record(
        LABELS,
        RecordKind.DATA,
        producer,
        first_sequence,
        len(labels),
        watermark_ns,
        headers,
        batch.SerializeToString(),
    )


def decode_labels(record: Record) -> tuple[str, list[Label]]:
    """Returns: model and labels. Raises: RecordError."""
    if record.stream != LABELS or record.kind is not RecordKind.DATA:
        raise RecordError(f"expected labels, got {record.kind.name} of {record.stream}")
    batch = records_pb2.LabelBatch()
    try:
        batch.ParseFromString(record.body)
    except DecodeError as exc:
        raise RecordError(f"labels of {record.producer}: body is malformed") from exc
    if len(batch.labels) != record.rows:
        raise RecordError(f"labels of {record.producer}: {len(batch.labels)} in {record.rows} rows")
    return batch.model, [_label(message) for message in batch.labels]


def _label(message: records_pb2.Label) -> Label:
    kind = message.WhichOneof("value")
    if kind is None:
        raise RecordError(f"label of {message.prediction_id} has no value")
    value = message.number if kind == "number" else message.category
    return Label(message.prediction_id, message.row, message.ts_ns, value)
