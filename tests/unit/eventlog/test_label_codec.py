"""Labels in records."""

from dataclasses import replace

import pytest

from eventlog import Label, RecordError, decode_labels, encode_labels

LABELS = [Label("id-1", 0, 5, 1.5), Label("id-2", 7, 0, "cat"), Label("id-3", 1, 9, 0.0)]


def test_numbers_and_categories_come_back_as_such() -> None:
    model, labels = decode_labels(encode_labels("m", LABELS, "abcdef", 3, 1))
    assert (model, labels) == ("m", LABELS)


def test_arrival_decides_the_block_and_fills_in_a_missing_time() -> None:
    record = encode_labels("m", LABELS, "abcdef", 3, 1, arrived_ns=100)
    assert (record.headers["ts_min_ns"], record.headers["ts_max_ns"]) == ("100", "100")
    assert [label.ts_ns for label in decode_labels(record)[1]] == [5, 100, 9]


def test_without_an_arrival_the_labels_own_times_stand() -> None:
    record = encode_labels("m", LABELS, "abcdef", 3, 1)
    assert (record.headers["ts_min_ns"], record.headers["ts_max_ns"]) == ("0", "9")


def test_broken_label_records_are_refused() -> None:
    record = encode_labels("m", LABELS, "abcdef", 3, 1)
    for broken in (
        replace(record, body=b"\xff"),
        replace(record, rows=2),
        replace(record, stream="predictions"),
    ):
        with pytest.raises(RecordError):
            decode_labels(broken)


def test_a_label_without_a_value_is_refused() -> None:
    record = encode_labels("m", LABELS[:1], "abcdef", 0, 1)
    bare = b"\n\x01m\x12\x06\n\x04id-1"
    with pytest.raises(RecordError, match="no value"):
        decode_labels(replace(record, body=bare))
