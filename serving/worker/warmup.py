"""The warm-up samples of a model's configuration, run before the version may serve.

A sample describes one request; a batch repeats it. Whatever a sample says is held
against the model first, so that a mistake in it is named instead of served.
"""

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from serving.core.binary_codec import decode_raw
from serving.core.datatypes import Array, Datatype
from serving.core.errors import ServeError
from serving.core.model_config import config_dims, data_type
from serving.core.signature import Signature, TensorSpec
from serving.worker.session import LoadError

SAMPLE_BYTES_MAX = 1 << 30  # of one input of one batch: a slip in `dims` must not exhaust memory
SEED = 11  # random data are the same on every worker and at every start
FOLDER = "warmup"


class Runs(Protocol):
    """What a sample runs on; OnnxSession, or a fake in tests."""

    def run(self, arrays: list[Array]) -> list[Array]: ...


def run_samples(
    session: Runs,
    signature: Signature,
    samples: Iterable[Mapping[str, Any]],
    files: Mapping[str, int],
) -> int:
    """Run every sample as often as it says; the number of runs.

    files: `warmup/NAME` -> descriptor. Raises: LoadError.
    """
    runs = 0
    for sample in samples:
        rows = sample["batch_size"]
        if not rows:
            continue  # as Triton: an empty batch is a sample switched off
        arrays = _arrays(signature, sample, rows, files)
        for _ in range(sample["count"]):
            try:
                session.run(arrays)
            except ServeError as error:
                raise LoadError(f"{_named(sample)} fails: {error.message}") from error
            runs += 1
    return runs


def _named(sample: Mapping[str, Any]) -> str:
    return f"warm-up sample '{sample['name']}'"


def _arrays(
    signature: Signature, sample: Mapping[str, Any], rows: int, files: Mapping[str, int]
) -> list[Array]:
    """Raises: LoadError."""
    rows_max = signature.max_batch_size or 1
    if rows > rows_max:
        raise LoadError(f"{_named(sample)} has batch_size {rows}; the model takes {rows_max}")
    inputs = sample["inputs"]
    names = [spec.name for spec in signature.inputs]
    if sorted(inputs) != sorted(names):
        raise LoadError(f"{_named(sample)} has inputs {sorted(inputs)}, the model {sorted(names)}")
    chance = np.random.default_rng(SEED)
    made = []
    for spec in signature.inputs:
        where = f"{_named(sample)}, input '{spec.name}'"
        one = _one(where, signature, spec, inputs[spec.name], rows, files, chance)
        if signature.max_batch_size:
            one = np.ascontiguousarray(np.broadcast_to(one, (rows, *one.shape)))
        made.append(one)
    return made


def _one(
    where: str,
    signature: Signature,
    spec: TensorSpec,
    given: Mapping[str, Any],
    rows: int,
    files: Mapping[str, int],
    chance: np.random.Generator,
) -> Array:
    """One request's array, without the batch dimension. Raises: LoadError."""
    shape = tuple(given["dims"])
    dims = config_dims(spec, batches=signature.max_batch_size > 0)
    fits = len(shape) == len(dims) and all(
        want < 0 or want == got for want, got in zip(dims, shape, strict=True)
    )
    if given["data_type"] != data_type(spec.datatype) or not fits:
        raise LoadError(
            f"{where}: is {given['data_type']} {list(shape)}, "
            f"the model expects {data_type(spec.datatype)} {dims}"
        )
    count = math.prod(shape)
    if count * rows * (spec.datatype.itemsize or 8) > SAMPLE_BYTES_MAX:
        raise LoadError(f"{where}: more than {SAMPLE_BYTES_MAX >> 20} MiB in a batch")
    if "input_data_file" in given:
        data = _read(where, given["input_data_file"], files)
        return _from_file(where, signature, spec, shape, data)
    if given.get("random_data") and spec.datatype is not Datatype.BYTES:
        return _random(spec, shape, chance)
    if spec.datatype is Datatype.BYTES:
        empty = np.empty(shape, dtype=object)
        empty[...] = b""
        return empty
    return np.zeros(shape, spec.datatype.dtype)


def _random(spec: TensorSpec, shape: tuple[int, ...], chance: np.random.Generator) -> Array:
    """Normal floats and whole numbers of 0 or 1, which most tables have a row for."""
    if spec.datatype.is_float:
        return chance.standard_normal(shape).astype(spec.datatype.dtype)
    if spec.datatype is Datatype.BF16:
        # The upper half of a float32 is a bfloat16.
        bits = chance.standard_normal(shape).astype("<f4").view("<u4") >> 16
        return bits.astype(spec.datatype.dtype)
    return chance.integers(0, 2, size=shape).astype(spec.datatype.dtype)


def _read(where: str, name: str, files: Mapping[str, int]) -> bytes:
    descriptor = files.get(f"{FOLDER}/{name}")
    if descriptor is None:
        raise LoadError(f"{where}: input_data_file '{name}' is not among the version's files")
    size = os.fstat(descriptor).st_size
    if size > SAMPLE_BYTES_MAX:
        raise LoadError(f"{where}: input_data_file is over {SAMPLE_BYTES_MAX >> 20} MiB")
    return os.pread(descriptor, size, 0)


def _from_file(
    where: str, signature: Signature, spec: TensorSpec, shape: tuple[int, ...], data: bytes
) -> Array:
    """The elements as a request would send them; more than it needs may follow, as in Triton."""
    count = math.prod(shape)
    if spec.datatype is not Datatype.BYTES:
        need = count * spec.datatype.itemsize
        if len(data) < need:
            raise LoadError(f"{where}: expects {need} bytes, input_data_file has {len(data)}")
        data = data[:need]
    try:
        return decode_raw(signature, spec, data, shape, count)
    except ServeError as error:
        raise LoadError(f"{where}: {error.message}") from error
