"""The codec of predictions: what goes in comes out, and how it lies in between."""

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from eventlog import (
    GapReason,
    Omitted,
    RecordError,
    Status,
    decode_predictions,
    encode_predictions,
    fake_rows,
)
from eventlog.core.arrow_codec import fingerprint, layout_of
from eventlog.core.grouping import concatenate, cut, key_of
from eventlog.core.marks import gap_record
from eventlog.core.predictions import Hashed
from eventlog.core.traceparent import traceparent_text


def test_numeric_tensors_are_views_into_the_body() -> None:
    record = encode_predictions(fake_rows(0, 50), "abcdef", 1)
    decoded = decode_predictions(record)
    body = np.frombuffer(record.body, dtype=np.uint8)
    for array in (decoded.inputs["x"], decoded.outputs["y"], decoded.ts_ns, decoded.row):
        assert np.shares_memory(array, body)
        assert not array.flags.writeable


def test_the_body_is_an_arrow_stream_that_any_reader_opens() -> None:
    table = pa.ipc.open_stream(encode_predictions(fake_rows(7, 3), "abcdef", 1).body).read_all()
    assert table.column("output:y").to_pylist() == [7.0, 8.0, 9.0]
    assert table.column("input:x").to_pylist()[0] == [7.0, 7.0, 7.0]
    assert all(column.null_count == 0 for column in table.columns)


def test_bool_lies_as_bytes_and_comes_back_as_bool() -> None:
    flags = np.array([[True, False], [False, True]])
    record = encode_predictions(fake_rows(0, 2, inputs={"b": flags}), "abcdef", 1)
    decoded = decode_predictions(record).inputs["b"]
    assert decoded.dtype == np.bool_
    assert np.array_equal(decoded, flags)
    assert np.shares_memory(decoded, np.frombuffer(record.body, dtype=np.uint8))


def test_bf16_travels_as_uint16_and_keeps_its_name() -> None:
    bits = np.array([[0x3F80], [0xC000]], dtype=np.uint16)
    rows = replace(fake_rows(0, 2, inputs={"h": bits}), datatypes={"input:h": "BF16"})
    decoded = decode_predictions(encode_predictions(rows, "abcdef", 1))
    assert decoded.datatypes == {"input:h": "BF16"}
    assert np.array_equal(decoded.inputs["h"], bits)


def test_a_plain_uint16_tensor_is_not_taken_for_bf16() -> None:
    rows = fake_rows(0, 2, inputs={"h": np.zeros((2, 1), dtype=np.uint16)})
    assert decode_predictions(encode_predictions(rows, "abcdef", 1)).datatypes == {}


def test_a_tensor_with_a_zero_in_its_shape_keeps_its_shape() -> None:
    rows = fake_rows(0, 2, inputs={"e": np.zeros((2, 0, 4), dtype=np.int64)})
    decoded = decode_predictions(encode_predictions(rows, "abcdef", 1))
    assert decoded.inputs["e"].shape == (2, 0, 4)
    assert decoded.inputs["e"].dtype == np.int64


def test_bytes_keep_their_elements_and_shape() -> None:
    words = np.array([[b"", b"\x00\xff"], [b"a" * 300, "é".encode()]], dtype=np.object_)
    rows = fake_rows(0, 2, inputs={"s": words, "t": words[:, 0]})
    decoded = decode_predictions(encode_predictions(rows, "abcdef", 1))
    assert decoded.inputs["s"].tolist() == words.tolist()
    assert decoded.inputs["t"].tolist() == words[:, 0].tolist()


def test_failed_rows_have_inputs_and_no_output_columns() -> None:
    rows = fake_rows(0, 2, outputs={}, status=Status.FAILED)
    record = encode_predictions(rows, "abcdef", 1)
    decoded = decode_predictions(record)
    assert decoded.outputs == {}
    assert decoded.status.tolist() == [Status.FAILED, Status.FAILED]
    assert record.headers["schema"] != fingerprint(layout_of(fake_rows(0, 2)))


def test_an_omitted_tensor_is_its_shape_and_digests() -> None:
    digests = np.frombuffer(
        hashlib.sha256(b"a").digest() + hashlib.sha256(b"b").digest(), dtype=np.uint8
    ).reshape(2, 32)
    rows = replace(
        fake_rows(0, 2, inputs={}), omitted={"input:image": Omitted("FP32", (3, 9, 9), digests)}
    )
    omitted = decode_predictions(encode_predictions(rows, "abcdef", 1)).omitted["input:image"]
    assert (omitted.datatype, omitted.shape) == ("FP32", (3, 9, 9))
    assert np.array_equal(omitted.digests, digests)


def test_an_input_and_an_output_of_one_name_stay_apart() -> None:
    a, b = np.zeros((2, 1), dtype=np.float32), np.ones(2, dtype=np.int8)
    decoded = decode_predictions(
        encode_predictions(fake_rows(0, 2, inputs={"v": a}, outputs={"v": b}), "abcdef", 1)
    )
    assert decoded.inputs["v"].dtype == np.float32
    assert decoded.outputs["v"].dtype == np.int8


def test_an_array_that_is_not_contiguous_is_logged_as_it_reads() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)[:, ::2]
    decoded = decode_predictions(
        encode_predictions(fake_rows(0, 2, inputs={"x": wide}), "abcdef", 1)
    )
    assert np.array_equal(decoded.inputs["x"], wide)


def test_headers_carry_what_a_reader_routes_by() -> None:
    record = encode_predictions(fake_rows(5, 2, ts_ns=77), "abcdef", 66)
    assert {k: v for k, v in record.headers.items() if k not in ("schema", "digest")} == {
        "model": "m",
        "version": "1",
        "role": "stable",
        "rollout": "",
        "ts_min_ns": "77",
        "ts_max_ns": "77",
    }
    assert (record.first_sequence, record.rows, record.watermark_ns) == (5, 2, 66)


def test_rows_of_several_runs_know_their_numbers() -> None:
    rows = replace(fake_rows(3, 4), runs=((3, 1), (10, 3)))
    decoded = decode_predictions(encode_predictions(rows, "abcdef", 1))
    assert decoded.sequences().tolist() == [3, 10, 11, 12]
    assert decoded.index_of(11) == 2
    assert decoded.index_of(4) is None


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros((3, 1), dtype=np.float32)}, "3 rows, expected 2"),
        ({"x": np.zeros((2, 1), dtype=np.complex64)}, "no datatype"),
        ({"x": np.zeros((2, 1), dtype=">f4")}, "no datatype"),
        ({"x": np.array([b"a", None], dtype=np.object_)}, "must be bytes"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        encode_predictions(fake_rows(0, 2, inputs=inputs), "abcdef", 1)


def test_a_datatype_that_contradicts_the_dtype_is_refused() -> None:
    rows = replace(fake_rows(0, 2), datatypes={"input:x": "BF16"})
    with pytest.raises(RecordError, match="does not go with"):
        encode_predictions(rows, "abcdef", 1)


def test_no_rows_make_no_record() -> None:
    with pytest.raises(RecordError, match="no rows"):
        encode_predictions(fake_rows(0, 0), "abcdef", 1)


def test_a_body_that_is_no_arrow_stream_is_an_error_of_ours() -> None:
    record = encode_predictions(fake_rows(0, 2), "abcdef", 1)
    for body in (b"", b"junk", record.body[:40], record.body[: len(record.body) // 2]):
        with pytest.raises(RecordError):
            decode_predictions(replace(record, body=body))


def test_a_body_with_another_number_of_rows_is_refused() -> None:
    record = encode_predictions(fake_rows(0, 2), "abcdef", 1)
    with pytest.raises(RecordError, match="2 rows, not 3"):
        decode_predictions(replace(record, rows=3))


def test_a_gap_is_not_decoded_as_predictions() -> None:
    with pytest.raises(RecordError, match="expected predictions, got GAP"):
        decode_predictions(gap_record("abcdef", [(0, 1)], GapReason.CRASH, watermark_ns=1))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_body_that_would_unfold_is_refused_unread(codec: str) -> None:
    record = encode_predictions(fake_rows(0, 4096), "abcdef", 1)
    batch = pa.ipc.open_stream(record.body).read_next_batch()
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    with pytest.raises(RecordError, match="compressed"):
        decode_predictions(replace(record, body=sink.getvalue().to_pybytes()))


def test_offsets_of_strings_that_leave_their_buffer_are_refused() -> None:
    texts = np.array([[b"one"], [b"two"]], dtype=object)
    record = encode_predictions(fake_rows(0, 2, inputs={"t": texts}), "abcdef", 1)
    offsets = np.array([0, 3, 6], dtype=np.int32).tobytes()
    assert record.body.count(offsets) == 1
    hurt = record.body.replace(offsets, np.array([0, -3, 6], dtype=np.int32).tobytes())
    with pytest.raises(RecordError):
        decode_predictions(replace(record, body=hurt))


def test_a_column_of_another_type_than_its_metadata_say_is_refused() -> None:
    record = encode_predictions(fake_rows(0, 2), "abcdef", 1)
    hurt = record.body.replace(b"FP32", b"FP64", 1)
    with pytest.raises(RecordError, match="cannot hold"):
        decode_predictions(replace(record, body=hurt))


def test_traces_share_a_record_with_rows_that_have_none_and_cost_those_nothing():
    trace = bytes(range(1, 26))
    plain = fake_rows(0, 2)
    traced = replace(fake_rows(2, 1), traces=np.frombuffer(trace, np.uint8)[None])
    joined = concatenate([plain, traced])
    assert key_of(plain) == key_of(traced)
    record = encode_predictions(joined, "0a0b0c", 0)
    assert record.headers["traceparent"] == traceparent_text(trace)
    decoded = decode_predictions(record)
    assert [row.tobytes() for row in decoded.traces] == [bytes(25), bytes(25), trace]
    without = encode_predictions(cut(joined, 0, 2), "0a0b0c", 0)
    assert without.body == encode_predictions(plain, "0a0b0c", 0).body
    assert "traceparent" not in without.headers
    assert without.headers["schema"] != record.headers["schema"]


def test_what_a_policy_left_out_and_hashed_survives_the_record():
    rows = replace(
        fake_rows(0, 2),
        dropped=("output:z", "input:a, b"),
        masked={"input:x": (0, 2)},
        hashed={
            "input:c": Hashed(
                "BYTES", (1,), "00ff00ff", np.arange(32, dtype=np.uint8).reshape(2, 16)
            )
        },
    )
    both = concatenate([rows, replace(rows, first_sequence=2)])
    decoded = decode_predictions(encode_predictions(both, "0a0b0c", 0))
    assert decoded.dropped == rows.dropped
    assert decoded.masked == rows.masked
    hashed = decoded.hashed["input:c"]
    assert (hashed.datatype, hashed.shape, hashed.key) == ("BYTES", (1,), "00ff00ff")
    assert hashed.digests.tolist() == [[*range(16)], [*range(16, 32)]] * 2
    assert cut(decoded, 1, 3).hashed["input:c"].digests[0].tolist() == [*range(16, 32)]
    assert key_of(rows) != key_of(fake_rows(0, 2))
