"""Any rows that a data plane can hand over survive grouping, cutting and the codec."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eventlog import PredictionRows, decode_predictions, encode_predictions
from eventlog.core.grouping import concatenate, key_of, split
from eventlog.core.predictions import DATATYPES, rows_bytes
from eventlog.core.record import runs_of

NUMERIC = [dtype for dtype in DATATYPES if dtype != np.object_]


@st.composite
def tensor(draw: st.DrawFn, count: int) -> np.ndarray:
    shape = (count, *draw(st.lists(st.integers(0, 3), max_size=3)))
    if draw(st.booleans()):
        return draw(hnp.arrays(draw(st.sampled_from(NUMERIC)), shape))
    flat = np.empty(int(np.prod(shape)), dtype=np.object_)
    flat[:] = draw(st.lists(st.binary(max_size=40), min_size=flat.size, max_size=flat.size))
    return flat.reshape(shape)


@st.composite
def prediction_rows(draw: st.DrawFn, count: int | None = None) -> PredictionRows:
    count = count or draw(st.integers(1, 12))
    names = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=3)
    inputs = {name: draw(tensor(count)) for name in draw(names)}
    outputs = {name: draw(tensor(count)) for name in draw(names)}
    halves = [f"input:{n}" for n, array in inputs.items() if array.dtype == np.uint16]
    return PredictionRows(
        model=draw(st.text(max_size=5)),
        version="1",
        digest="d",
        role="candidate",
        rollout=draw(st.text(max_size=5)),
        first_sequence=draw(st.integers(0, 1 << 40)),
        ts_ns=draw(hnp.arrays(np.int64, count)),
        latency_ns=draw(hnp.arrays(np.int64, count)),
        status=draw(hnp.arrays(np.uint8, count)),
        flags=draw(hnp.arrays(np.uint8, count)),
        weight=draw(hnp.arrays(np.float32, count)),
        row=draw(hnp.arrays(np.uint32, count)),
        inputs=inputs,
        outputs=outputs,
        datatypes={key: "BF16" for key in halves if draw(st.booleans())},
    )


def assert_same(left: PredictionRows, right: PredictionRows) -> None:
    for name in ("model", "version", "digest", "role", "rollout", "first_sequence"):
        assert getattr(left, name) == getattr(right, name)
    for name in ("ts_ns", "latency_ns", "status", "flags", "weight", "row"):
        assert_identical(getattr(left, name), getattr(right, name))
    assert left.datatypes == right.datatypes
    assert left.all_runs == right.all_runs
    for side in ("inputs", "outputs"):
        ours, theirs = getattr(left, side), getattr(right, side)
        assert list(ours) == list(theirs)
        for name in ours:
            assert_identical(ours[name], theirs[name])


def assert_identical(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
    """Bit for bit: NaN payloads and signed zeros are data."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    if left.dtype.hasobject:
        assert left.tolist() == right.tolist()
    else:
        assert left.tobytes() == right.tobytes()


@given(prediction_rows())
def test_rows_come_back_bit_for_bit(rows: PredictionRows) -> None:
    assert_same(rows, decode_predictions(encode_predictions(rows, "abcdef", 1)))


@given(prediction_rows(), st.integers(1, 6), st.integers(60, 2000))
def test_pieces_add_up_to_the_rows_they_were_cut_from(
    rows: PredictionRows, rows_max: int, bytes_max: int
) -> None:
    pieces = list(split(rows, rows_max, bytes_max))
    assert all(len(piece) <= rows_max for piece in pieces)
    assert all(len(piece) == 1 or rows_bytes(piece) <= bytes_max for piece in pieces)
    assert np.concatenate([p.sequences() for p in pieces]).tolist() == rows.sequences().tolist()
    assert_identical(np.concatenate([p.ts_ns for p in pieces]), rows.ts_ns)
    if not any(piece.omitted for piece in pieces):
        joined = concatenate(pieces)
        assert_same(joined, rows)


@settings(max_examples=50)
@given(st.data(), st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=6))
def test_joined_batches_keep_every_number_at_its_row(
    data: st.DataObject, pieces: list[tuple[int, int]]
) -> None:
    template = data.draw(prediction_rows(count=1))
    batches, sequence = [], 0
    for count, hole in pieces:
        copies = concatenate([template] * count)
        numbers = np.arange(sequence, sequence + count, dtype=np.int64)
        batches.append(replace(copies, first_sequence=sequence, ts_ns=numbers, runs=()))
        sequence += count + hole
    batches = data.draw(st.permutations(batches))
    assert len({key_of(rows) for rows in batches}) == 1
    record = encode_predictions(concatenate(batches), "abcdef", 1)
    decoded = decode_predictions(record)
    assert decoded.sequences().tolist() == decoded.ts_ns.tolist()
    assert sum(count for _, count in runs_of(record)) == record.rows
    for number in decoded.ts_ns.tolist():
        index = decoded.index_of(number)
        assert index is not None
        assert decoded.ts_ns[index] == number
