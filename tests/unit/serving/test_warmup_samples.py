"""Warm-up samples against a fake session."""

import os
from struct import pack

import numpy as np
import pytest

from serving.core.datatypes import Datatype
from serving.core.errors import ModelFailed
from serving.core.signature import Signature, TensorSpec
from serving.worker.session import LoadError
from serving.worker.warmup import run_samples


class FakeSession:
    def __init__(self):
        self.runs = []

    def run(self, arrays):
        self.runs.append(arrays)
        return []


def version(datatype=Datatype.FP32, shape=(-1, 3), rows_max=8):
    return Signature("m", "1", (TensorSpec("x", datatype, shape),), (), rows_max)


def sample(source, dims=(3,), data_type="TYPE_FP32", batch_size=1, count=1, name="x"):
    given = {"data_type": data_type, "dims": list(dims), **source}
    return {"name": "w", "batch_size": batch_size, "inputs": {name: given}, "count": count}


def run(signature, *samples, files=()):
    session = FakeSession()
    run_samples(session, signature, samples, dict(files))
    return [arrays[0] for arrays in session.runs]


@pytest.fixture
def file_of():
    opened = []

    def make(data):
        descriptor = os.memfd_create("test")
        os.write(descriptor, data)
        opened.append(descriptor)
        return {"warmup/f": descriptor}

    yield make
    for descriptor in opened:
        os.close(descriptor)


def test_a_sample_runs_as_often_as_it_says_on_a_whole_batch():
    arrays = run(version(), sample({"zero_data": True}, batch_size=4, count=3))
    assert [array.shape for array in arrays] == [(4, 3)] * 3
    assert not arrays[0].any()
    assert arrays[0].flags.c_contiguous


def test_a_sample_of_no_rows_is_switched_off():
    assert run(version(), sample({"zero_data": True}, batch_size=0)) == []


@pytest.mark.parametrize("datatype", list(Datatype))
def test_every_datatype_can_be_zero_or_random_and_random_is_the_same_each_time(datatype):
    signature = version(datatype, (5, 2), rows_max=0)
    word = "TYPE_STRING" if datatype is Datatype.BYTES else f"TYPE_{datatype.wire}"
    for source in ("zero_data", "random_data"):
        made = sample({source: True}, (5, 2), word)
        (one,), (two,) = run(signature, made), run(signature, made)
        assert one.shape == (5, 2)
        assert one.dtype == datatype.dtype
        assert (one == two).all()
        if datatype is Datatype.BYTES:
            assert (one == b"").all()  # as Triton
        elif source == "random_data":
            assert len(np.unique(one)) > 1


def test_a_file_holds_one_request_and_is_repeated(file_of):
    row = np.float32([1, 2, 3])
    files = file_of(row.tobytes() + b"more than is needed")
    (array,) = run(version(), sample({"input_data_file": "f"}, batch_size=2), files=files)
    assert (array == np.stack([row, row])).all()


def test_strings_in_a_file_have_their_lengths(file_of):
    files = file_of(pack("<I", 2) + b"ab" + pack("<I", 0))
    made = sample({"input_data_file": "f"}, (2,), "TYPE_STRING")
    (array,) = run(version(Datatype.BYTES, (-1, 2)), made, files=files)
    assert array.tolist() == [[b"ab", b""]]
    with pytest.raises(LoadError, match="input 'x': "):
        run(version(Datatype.BYTES, (-1, 2)), made, files=file_of(b"\x09\0\0\0ab"))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (sample({"zero_data": True}, batch_size=9), "batch_size 9; the model takes 8"),
        (sample({"zero_data": True}, name="y"), r"has inputs \['y'\], the model \['x'\]"),
        (sample({"zero_data": True}, (4,)), r"is TYPE_FP32 \[4\], the model expects"),
        (sample({"zero_data": True}, (3, 1)), "the model expects"),
        (sample({"zero_data": True}, data_type="TYPE_INT8"), "the model expects TYPE_FP32"),
        (sample({"input_data_file": "g"}), "'g' is not among the version's files"),
        (sample({"input_data_file": "f"}), "expects 12 bytes, input_data_file has 5"),
    ],
)
def test_a_sample_that_does_not_fit_keeps_the_version_from_serving(made, message, file_of):
    with pytest.raises(LoadError, match=message):
        run(version(), made, files=file_of(b"12345"))


def test_nothing_is_allocated_for_dims_beyond_reason():
    with pytest.raises(LoadError, match="more than 1024 MiB"):
        run(version(shape=(-1, -1)), sample({"zero_data": True}, (2**31 - 1,), batch_size=8))


def test_a_sample_that_the_model_cannot_run_keeps_it_from_serving():
    class Failing:
        def run(self, arrays):
            raise ModelFailed("no")

    with pytest.raises(LoadError, match="warm-up sample 'w' fails: no"):
        run_samples(Failing(), version(), [sample({"zero_data": True})], {})
