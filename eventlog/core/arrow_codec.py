"""PredictionRows <-> a record whose body is one Arrow record batch.

The body is an Arrow IPC stream (schema, one batch, end), so any Arrow reader
opens it. Numeric tensors are written from and read into numpy without a copy of
our own. Laws, each from a measured trap:
- no nulls: a fixed-size list with nulls loses rows when flattened; rows without
  outputs go into records without output columns;
- BOOL is uint8 and BF16 is uint16 in Arrow, since bits are not zero-copy and
  bfloat16 does not exist; field metadata keep the datatype;
- a fixed-size list of size 0 cannot be made: a tensor with a zero in its shape
  has a column of Arrow's null type, and its shape in the metadata;
- a tensor too large for a record is a column of sha256 digests.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from eventlog.core.arrow_message import refuse_compressed
from eventlog.core.predictions import (
    DTYPES,
    Array,
    Omitted,
    PredictionRows,
    datatype_of,
    tensors,
)
from eventlog.core.record import (
    PREDICTIONS,
    Record,
    RecordError,
    RecordKind,
    runs_header,
    runs_of,
)

DIGEST_BYTES = 32
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
HEADERS = ("model", "version", "digest", "role", "rollout")
FIXED: Mapping[str, np.dtype[Any]] = {
    "ts_ns": np.dtype(np.int64),
    "latency_ns": np.dtype(np.int64),
    "status": np.dtype(np.uint8),
    "flags": np.dtype(np.uint8),
    "weight": np.dtype(np.float32),
    "row": np.dtype(np.uint32),
}
# How a tensor lies in its column; the value stands in the field's metadata.
VALUES, BYTES, EMPTY, DIGEST = "values", "bytes", "empty", "digest"


@dataclass(frozen=True, slots=True)
class Column:
    """One tensor's part of the schema; `shape` is that of one row."""

    key: str
    datatype: str
    shape: tuple[int, ...]
    storage: str

    @property
    def width(self) -> int:
        return math.prod(self.shape)


Layout = tuple[Column, ...]


def layout_of(rows: PredictionRows) -> Layout:
    """The columns of `rows`; equal layouts may share a record.

    Raises: RecordError for a dtype that is none of OIP's.
    """
    columns = []
    for key, array in tensors(rows):
        shape = array.shape[1:]
        datatype = datatype_of(rows, key, array)
        storage = EMPTY if 0 in shape else BYTES if datatype == "BYTES" else VALUES
        columns.append(Column(key, datatype, shape, storage))
    for key, omitted in rows.omitted.items():
        columns.append(Column(key, omitted.datatype, omitted.shape, DIGEST))
    return tuple(columns)


@lru_cache(maxsize=1024)
def fingerprint(layout: Layout) -> str:
    """16 hex characters that name a layout."""
    text = json.dumps([[c.key, c.datatype, c.shape, c.storage] for c in layout])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def encode_predictions(rows: PredictionRows, producer: str, watermark_ns: int) -> Record:
    """One record of at least one row; `rows` is borrowed, the record owns its bytes.

    Raises: RecordError if a length, dtype or value does not fit its column.
    """
    layout = layout_of(rows)
    count = len(rows)
    if count == 0:
        raise RecordError(f"model {rows.model}: a record of no rows")
    schema, schema_bytes = _schema(layout)
    arrays = [_fixed(name, getattr(rows, name), dtype, count) for name, dtype in FIXED.items()]
    by_key = dict(tensors(rows))
    for column in layout:
        source = (
            rows.omitted[column.key].digests if column.storage == DIGEST else by_key[column.key]
        )
        if len(source) != count:
            raise RecordError(f"{column.key}: {len(source)} rows, expected {count}")
        arrays.append(_PACK[column.storage](column, source, count))
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    runs = rows.all_runs
    headers = {
        **{name: getattr(rows, name) for name in HEADERS},
        "schema": fingerprint(layout),
        "ts_min_ns": str(rows.ts_ns.min()),
        "ts_max_ns": str(rows.ts_ns.max()),
        **runs_header(runs),
    }
    return Record(
        stream=PREDICTIONS,
        kind=RecordKind.DATA,
        producer=producer,
        first_sequence=min(first for first, _ in runs),
        rows=count,
        watermark_ns=watermark_ns,
        headers=headers,
        body=b"".join((schema_bytes, batch.serialize(), END_OF_STREAM)),
    )


def decode_predictions(record: Record) -> PredictionRows:
    """Numeric arrays are read-only views into the record's body.

    Raises: RecordError if the record is none of predictions or its body is broken.
    """
    if record.stream != PREDICTIONS or record.kind is not RecordKind.DATA:
        raise RecordError(f"expected predictions, got {record.kind.name} of {record.stream}")
    try:
        batch = _read_batch(record.body)
        batch.validate(full=True)  # offsets too: whoever writes to a topic may have made them up
        return _rows(record, batch)
    except (pa.ArrowException, StopIteration, KeyError, ValueError, TypeError, OSError) as exc:
        raise RecordError(f"record of {record.producer}: body cannot be read: {exc}") from exc


def _read_batch(body: bytes) -> Any:
    """The one batch of a stream, its buffers as views of `body`."""
    messages = pa.ipc.MessageReader.open_stream(body)
    schema = pa.ipc.read_schema(_next(messages, "schema"))
    message = _next(messages, "record batch")
    refuse_compressed(message.metadata.to_pybytes())
    return pa.ipc.read_record_batch(message, schema)


def _next(messages: Any, kind: str) -> Any:
    """The next message; Arrow verifies what it knows the kind of, and trusts the caller else."""
    message = messages.read_next_message()
    if message.type != kind:
        raise ValueError(f"expected a {kind} message, got {message.type}")
    return message


def _rows(record: Record, batch: Any) -> PredictionRows:
    if batch.num_rows != record.rows:
        raise RecordError(f"record of {record.producer}: {batch.num_rows} rows, not {record.rows}")
    fixed: dict[str, Any] = {
        name: _view(batch.column(name), dtype) for name, dtype in FIXED.items()
    }
    sides: dict[str, dict[str, Array]] = {"input": {}, "output": {}}
    datatypes: dict[str, str] = {}
    omitted: dict[str, Omitted] = {}
    for field, array in zip(batch.schema, batch.columns, strict=True):
        if field.metadata is None:
            continue
        column = _column(field)
        if field.type != _type(column):
            raise RecordError(f"{column.key}: {field.type} cannot hold what its metadata say")
        if column.storage == DIGEST:
            digests = _view(array, np.dtype(np.uint8), DIGEST_BYTES)
            omitted[column.key] = Omitted(
                column.datatype, column.shape, digests.reshape(-1, DIGEST_BYTES)
            )
            continue
        side, _, name = column.key.partition(":")
        sides[side][name] = _UNPACK[column.storage](column, array, record.rows)
        if column.datatype == "BF16":
            datatypes[column.key] = "BF16"
    runs = runs_of(record)
    names: dict[str, Any] = {name: record.headers[name] for name in HEADERS}
    return PredictionRows(
        **names,
        **fixed,
        first_sequence=record.first_sequence,
        inputs=sides["input"],
        outputs=sides["output"],
        datatypes=datatypes,
        runs=runs if len(runs) > 1 else (),
        omitted=omitted,
    )


@lru_cache(maxsize=1024)
def _schema(layout: Layout) -> tuple[Any, bytes]:
    fields = [pa.field(name, pa.from_numpy_dtype(d), nullable=False) for name, d in FIXED.items()]
    for column in layout:
        metadata = {
            "datatype": column.datatype,
            "shape": json.dumps(column.shape),
            "storage": column.storage,
        }
        nullable = column.storage == EMPTY  # Arrow's null type knows no other way
        fields.append(pa.field(column.key, _type(column), nullable, metadata))
    schema = pa.schema(fields)
    return schema, schema.serialize().to_pybytes()


@lru_cache(maxsize=4096)
def _type(column: Column) -> Any:
    if column.storage == EMPTY:
        return pa.null()
    if column.storage == DIGEST:
        return pa.binary(DIGEST_BYTES)
    if column.storage == BYTES:
        return pa.list_(_item(pa.binary())) if column.shape else pa.binary()
    item = pa.from_numpy_dtype(_stored(column.datatype))
    return pa.list_(_item(item), column.width) if column.shape else item


def _item(item: Any) -> Any:
    return pa.field("item", item, nullable=False)


def _stored(datatype: str) -> np.dtype[Any]:
    return np.dtype(np.uint8) if datatype == "BOOL" else DTYPES[datatype]


def _column(field: Any) -> Column:
    metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
    shape = tuple(int(size) for size in json.loads(metadata["shape"]))
    return Column(field.name, metadata["datatype"], shape, metadata["storage"])


def _fixed(name: str, array: Array, dtype: np.dtype[Any], count: int) -> Any:
    if array.shape != (count,):
        raise RecordError(f"{name}: shape {array.shape}, expected ({count},)")
    return _primitive(np.ascontiguousarray(array, dtype=dtype), dtype)


def _primitive(array: Array, dtype: np.dtype[Any]) -> Any:
    kind = pa.from_numpy_dtype(dtype)
    return pa.Array.from_buffers(kind, array.size, [None, pa.py_buffer(array)])


def _pack_values(column: Column, array: Array, _: int) -> Any:
    array = np.ascontiguousarray(array)
    stored = _stored(column.datatype)
    values = _primitive(array.view(stored), stored)
    if not column.shape:
        return values
    return pa.FixedSizeListArray.from_arrays(values, type=_type(column))


def _pack_bytes(column: Column, array: Array, count: int) -> Any:
    elements = array.ravel().tolist()
    if not all(type(element) is bytes for element in elements):
        raise RecordError(f"{column.key}: elements of BYTES must be bytes")
    values = pa.array(elements, type=pa.binary())
    if not column.shape:
        return values
    offsets = np.arange(0, count * column.width + 1, column.width, dtype=np.int32)
    return pa.ListArray.from_arrays(_primitive(offsets, offsets.dtype), values, type=_type(column))


def _pack_empty(_: Column, __: Array, count: int) -> Any:
    return pa.nulls(count)


def _pack_digest(column: Column, digests: Array, count: int) -> Any:
    if digests.shape != (count, DIGEST_BYTES) or digests.dtype != np.uint8:
        raise RecordError(f"{column.key}: digests of shape {digests.shape}")
    buffer = pa.py_buffer(np.ascontiguousarray(digests))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(DIGEST_BYTES), count, [None, buffer])


def _unpack_values(column: Column, array: Any, count: int) -> Array:
    values = array.values if column.shape else array
    stored = _view(values, _stored(column.datatype))
    return stored.view(DTYPES[column.datatype]).reshape(count, *column.shape)


def _unpack_bytes(column: Column, array: Any, count: int) -> Array:
    values = array.values if column.shape else array
    flat = np.empty(count * column.width, dtype=np.object_)
    flat[:] = values.to_pylist()
    return flat.reshape(count, *column.shape)


def _unpack_empty(column: Column, _: Any, count: int) -> Array:
    return np.empty((count, *column.shape), dtype=DTYPES[column.datatype])


def _view(array: Any, dtype: np.dtype[Any], width: int = 1) -> Array:
    """The values of a column that is no slice and has no nulls, without a copy."""
    buffer = array.buffers()[1]
    size = len(array) * width
    if buffer is None:
        return np.empty(0, dtype=dtype)
    return np.frombuffer(buffer, dtype=dtype, count=size)


_PACK: Mapping[str, Callable[[Column, Array, int], Any]] = {
    VALUES: _pack_values,
    BYTES: _pack_bytes,
    EMPTY: _pack_empty,
    DIGEST: _pack_digest,
}
_UNPACK: Mapping[str, Callable[[Column, Any, int], Array]] = {
    VALUES: _unpack_values,
    BYTES: _unpack_bytes,
    EMPTY: _unpack_empty,
}
