"""From batches to records: grouped, cut, digested."""

import hashlib
from dataclasses import replace

import numpy as np

from eventlog import fake_rows
from eventlog.core.grouping import concatenate, key_of, row_digests, split
from eventlog.core.predictions import rows_bytes


def test_batches_of_one_model_become_one_run() -> None:
    joined = concatenate([fake_rows(10, 5), fake_rows(0, 10)])
    assert (joined.first_sequence, joined.runs, len(joined)) == (0, (), 15)
    assert joined.outputs["y"].tolist() == [float(i) for i in range(15)]


def test_batches_that_took_turns_with_another_model_keep_their_numbers() -> None:
    joined = concatenate([fake_rows(0, 2), fake_rows(5, 2)])
    assert joined.runs == ((0, 2), (5, 2))
    assert joined.inputs["x"][:, 0].tolist() == joined.sequences().tolist()


def test_one_batch_is_passed_on_as_it_is() -> None:
    rows = fake_rows(0, 2)
    assert concatenate([rows]) is rows


def test_only_equal_schemas_share_a_key() -> None:
    base = fake_rows(0, 2)
    assert key_of(base) == key_of(fake_rows(9, 7))
    for other in (
        fake_rows(0, 2, model="n"),
        fake_rows(0, 2, version="2"),
        fake_rows(0, 2, outputs={}),
        fake_rows(0, 2, inputs={"x": np.zeros((2, 4), dtype=np.float32)}),
        fake_rows(0, 2, inputs={"x": np.zeros((2, 3), dtype=np.float64)}),
        replace(base, role="candidate"),
        replace(base, rollout="r"),
        replace(base, digest="e"),
    ):
        assert key_of(other) != key_of(base)


def test_pieces_keep_to_rows_and_bytes() -> None:
    rows = fake_rows(0, 1000)
    assert [len(piece) for piece in split(rows, 400, 1 << 20)] == [400, 400, 200]
    pieces = list(split(rows, 4096, 4200))
    assert max(rows_bytes(piece) for piece in pieces) <= 4200
    assert np.concatenate([piece.sequences() for piece in pieces]).tolist() == list(range(1000))


def test_pieces_of_bytes_rows_keep_to_the_bound_row_by_row() -> None:
    words = np.array([b"x" * size for size in (10, 900, 10, 10, 900, 900)], dtype=np.object_)
    pieces = list(split(fake_rows(0, 6, inputs={"s": words}, outputs={}), 4096, 1100))
    assert [len(piece) for piece in pieces] == [4, 1, 1]
    assert max(rows_bytes(piece) for piece in pieces) <= 1100


def test_one_oversize_row_of_bytes_does_not_cost_its_neighbours() -> None:
    words = np.array([b"small", b"x" * 5000, b"small"], dtype=np.object_)
    pieces = list(split(fake_rows(0, 3, inputs={"s": words}, outputs={}), 4096, 1000))
    assert [len(piece) for piece in pieces] == [1, 1, 1]
    assert [list(piece.inputs) for piece in pieces] == [["s"], [], ["s"]]
    expected = hashlib.sha256((5000).to_bytes(4, "little") + b"x" * 5000).digest()
    assert bytes(pieces[1].omitted["input:s"].digests[0]) == expected


def test_an_oversize_tensor_becomes_shape_and_digest_and_the_rest_stays() -> None:
    image = np.random.default_rng(0).random((2, 100, 100), dtype=np.float32)
    rows = fake_rows(0, 2, inputs={"image": image, "age": np.ones(2, dtype=np.float32)})
    (piece,) = split(rows, 4096, 10_000)
    assert list(piece.inputs) == ["age"]
    assert list(piece.outputs) == ["y"]
    omitted = piece.omitted["input:image"]
    assert (omitted.shape, omitted.datatype) == ((100, 100), "FP32")
    assert bytes(omitted.digests[1]) == hashlib.sha256(image[1].tobytes()).digest()


def test_pieces_of_several_runs_cut_the_runs() -> None:
    joined = concatenate([fake_rows(0, 3), fake_rows(10, 3)])
    pieces = list(split(joined, 2, 1 << 20))
    assert [piece.all_runs for piece in pieces] == [((0, 2),), ((2, 1), (10, 1)), ((11, 2),)]


def test_a_row_digest_covers_the_row_alone() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert bytes(row_digests(array)[0]) == hashlib.sha256(array[0].tobytes()).digest()
