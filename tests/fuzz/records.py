"""Fuzz target: a message of the log, as whoever may write to its topic can make it."""

import zlib

from eventlog import LABELS, PREDICTIONS, RecordError, RecordKind, decode_labels, decode_predictions
from eventlog.core.kafka_message import Message, from_message, to_message
from eventlog.core.marks import parse_end, parse_gap
from eventlog.core.record import Record, runs_of

TOPIC = "ns.predictions.v1"
SEPARATOR = b"\n\n"  # headers as `name: value` lines, an empty line, the value


def log_message(data: bytes) -> None:
    """A record is understood or refused as one; what was understood can be sent again."""
    head, _, value = data.partition(SEPARATOR)
    headers = [
        (name.decode("latin-1"), text)
        for name, _, text in (line.partition(b": ") for line in head.split(b"\n"))
    ]
    if not data.startswith(b"-"):  # a wrong checksum hides all that lies behind it
        headers += [("topic", TOPIC.encode()), ("crc32", b"%08x" % zlib.crc32(value))]
    try:
        record = from_message(Message(None, value, headers, 0), TOPIC)
        _decode(record)
    except RecordError as refusal:
        str(refusal).encode()
        return
    assert from_message(to_message(record, TOPIC, ""), TOPIC) == record


def _decode(record: Record) -> None:
    if record.kind is RecordKind.GAP:
        assert parse_gap(record).rows == sum(count for _, count in runs_of(record))
    elif record.kind is RecordKind.END:
        parse_end(record)
    elif record.kind is RecordKind.DATA and record.stream == PREDICTIONS:
        rows = decode_predictions(record)
        assert len(rows) == record.rows
        for array in (*rows.inputs.values(), *rows.outputs.values()):
            assert len(array) == record.rows
            array.tobytes()
    elif record.kind is RecordKind.DATA and record.stream == LABELS:
        assert len(decode_labels(record)[1]) == record.rows
