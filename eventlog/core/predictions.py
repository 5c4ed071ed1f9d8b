"""Rows of predictions as arrays: the value that the codec carries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eventlog.core.record import RecordError, Run

Array = NDArray[Any]


class Status(IntEnum):
    """What became of a row: an HTTP status without its middle zero.

    `status // 10` is the class: 0 answered, 4 the client's doing, 5 ours.
    """

    OK = 0
    INVALID = 40  # 400: refused after it was numbered
    CANCELLED = 49  # 499: the client left before the reply
    FAILED = 50  # 500: the model or the gateway failed
    UNAVAILABLE = 53  # 503: refused by overload or a drain after it was numbered
    EXPIRED = 54  # 504: its deadline passed


_NOTHING: Mapping[str, tuple[int, ...] | None] = {}
DATATYPES: Mapping[np.dtype[Any], str] = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.uint8): "UINT8",
    np.dtype(np.uint16): "UINT16",
    np.dtype(np.uint32): "UINT32",
    np.dtype(np.uint64): "UINT64",
    np.dtype(np.int8): "INT8",
    np.dtype(np.int16): "INT16",
    np.dtype(np.int32): "INT32",
    np.dtype(np.int64): "INT64",
    np.dtype(np.float16): "FP16",
    np.dtype(np.float32): "FP32",
    np.dtype(np.float64): "FP64",
    np.dtype(np.object_): "BYTES",
}
DTYPES: Mapping[str, np.dtype[Any]] = {
    **{name: dtype for dtype, name in DATATYPES.items()},
    "BF16": np.dtype(np.uint16),
}


@dataclass(frozen=True, slots=True, eq=False)
class Omitted:
    """A tensor too large for a record: what it was, and the digest of each row.

    shape:   of one row.
    digests: uint8 (n, 32), sha256 of the row's bytes (C order, little-endian; an
             element of BYTES with its length as uint32 before it).
    """

    datatype: str
    shape: tuple[int, ...]
    digests: NDArray[np.uint8]


HASH_BYTES = 16  # of a keyed digest; truncated, 128 bits tell values apart as well
TRACE_BYTES = 25


@dataclass(frozen=True, slots=True, eq=False)
class Hashed:
    """A field that the model's log policy keeps as keyed digests, so that equal values show.

    shape:   of one row.
    key:     names the key that was used, see `eventlog.hash_key`.
    digests: uint8 (n, 16), of the bytes that `Omitted` describes.
    """

    datatype: str
    shape: tuple[int, ...]
    key: str
    digests: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class PredictionRows:
    """n rows of one (model, version, digest, role, rollout, schema).

    ts_ns:      int64 (n,), arrival at the worker, Unix ns.
    latency_ns: int64 (n,), arrival to reply.
    status:     uint8 (n,), see `Status`.
    flags:      uint8 (n,), bits of the data plane's choosing; 0 by default.
    weight:     float32 (n,), how many rows this one stands for when sampled.
    row:        uint32 (n,), index of the row in its request.
    inputs:     name -> array (n, ...); BYTES as object arrays of bytes.
    outputs:    likewise; empty for rows that failed.
    datatypes:  "input:NAME" or "output:NAME" -> datatype, where the dtype does not
                say it: BF16 travels as uint16.
    runs:       sequence numbers in row order; empty: first_sequence, +1, +2, ...
    omitted:    like `inputs` and `outputs`, under "input:NAME" or "output:NAME".
    hashed:     likewise; one element i of a row's tensor under "input:NAME.i".
    dropped:    tensors that the model's log policy leaves out, likewise.
    masked:     "input:NAME" -> elements of a row that it leaves out of a tensor; these
                are 0, false or empty in the array.
    traces:     uint8 (n, 25): trace id, parent id and flags of the W3C traceparent that
                came with the row's request, zeros without one; None: no row has one.
    """

    model: str
    version: str
    digest: str
    role: str
    rollout: str
    first_sequence: int
    ts_ns: NDArray[np.int64]
    latency_ns: NDArray[np.int64]
    status: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    weight: NDArray[np.float32]
    row: NDArray[np.uint32]
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    datatypes: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    omitted: Mapping[str, Omitted] = field(default_factory=dict)
    hashed: Mapping[str, Hashed] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    masked: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    traces: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.ts_ns)

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """`runs`, spelled out also where one run is implied."""
        return self.runs or ((self.first_sequence, len(self)),)

    @property
    def withheld(self) -> Mapping[str, tuple[int, ...] | None]:
        """What the log's policy left out: "input:NAME" -> elements of a row; None: all of it."""
        if not (self.dropped or self.hashed or self.masked):
            return _NOTHING
        return {**self.masked, **dict.fromkeys((*self.dropped, *self.hashed))}

    @property
    def whole_outputs(self) -> Mapping[str, Array]:
        """The outputs that nothing was left out of, so that they say what the model said."""
        if not self.masked:
            return self.outputs
        return {k: v for k, v in self.outputs.items() if f"output:{k}" not in self.masked}

    def sequences(self) -> NDArray[np.int64]:
        """The sequence number of every row, int64 (n,)."""
        if not self.runs:
            return np.arange(self.first_sequence, self.first_sequence + len(self), dtype=np.int64)
        return np.concatenate(
            [np.arange(first, first + count, dtype=np.int64) for first, count in self.runs]
        )

    def index_of(self, sequence: int) -> int | None:
        """Where in the arrays the row numbered `sequence` stands."""
        position = 0
        for first, count in self.all_runs:
            if first <= sequence < first + count:
                return position + sequence - first
            position += count
        return None


def tensors(rows: PredictionRows) -> list[tuple[str, Array]]:
    """Every tensor under "input:NAME" or "output:NAME", inputs first."""
    return [
        *((f"input:{name}", array) for name, array in rows.inputs.items()),
        *((f"output:{name}", array) for name, array in rows.outputs.items()),
    ]


def datatype_of(rows: PredictionRows, key: str, array: Array) -> str:
    """Raises: RecordError for a dtype that is none of OIP's."""
    override = rows.datatypes.get(key)
    if override is not None:
        if DTYPES.get(override) != array.dtype:
            raise RecordError(f"{key}: datatype {override} does not go with dtype {array.dtype}")
        return override
    datatype = DATATYPES.get(array.dtype)
    if datatype is None:
        raise RecordError(f"{key}: dtype {array.dtype} has no datatype in the protocol")
    return datatype


def float32_of_bf16(array: Array) -> NDArray[np.float32]:
    """The values of BF16, which travels as uint16; exact."""
    return (array.astype(np.uint32) << 16).view(np.float32)


def array_bytes(array: Array) -> int:
    """What the array's values take in a record; BYTES with their offsets."""
    if array.dtype.hasobject:
        return sum(map(len, array.ravel().tolist())) + 4 * array.size
    return array.nbytes


FIXED_BYTES_PER_ROW = 8 + 8 + 1 + 1 + 4 + 4  # ts, latency, status, flags, weight, row


def rows_bytes(rows: PredictionRows) -> int:
    """What the rows take in a record, without the schema."""
    total = FIXED_BYTES_PER_ROW * len(rows)
    for array in rows.inputs.values():
        total += array_bytes(array)
    for array in rows.outputs.values():
        total += array_bytes(array)
    if rows.traces is not None:
        total += rows.traces.nbytes
    for hashed in rows.hashed.values():
        total += hashed.digests.nbytes
    return total


def values_bytes(array: Array) -> bytes:
    """What the digests of `Omitted` and `Hashed` are made of."""
    if not array.dtype.hasobject:
        return np.ascontiguousarray(array).tobytes()
    parts = [len(item).to_bytes(4, "little") + item for item in array.ravel().tolist()]
    return b"".join(parts)
