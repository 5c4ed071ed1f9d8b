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
- a tensor too large for a record is a column of sha256 digests, and a field that is
  hashed by policy a column of shorter, keyed ones;
- what a log policy leaves out is named, in header `dropped` or in the metadata of the
  column it was left out of, so that its absence is not taken for a fault.
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
    HASH_BYTES,
    TRACE_BYTES,
    Array,
    Hashed,
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
from eventlog.core.traceparent import traceparent_text

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
VALUES, BYTES, EMPTY, DIGEST, HASHED = "values", "bytes", "empty", "digest", "hashed"
_DIGEST_BYTES: Mapping[str, int] = {DIGEST: DIGEST_BYTES, HASHED: HASH_BYTES}
DROPPED_HEADER = "dropped"
TRACE_HEADER = "traceparent"
TRACES = "traceparent"  # the column


@dataclass(frozen=True, slots=True)
class Column:
    """One tensor's part of the schema; `shape` is that of one row.

    masked: elements of a row that a log policy left out.
    hash_key: what names the key of a hashed column.
    """

    key: str
    datatype: str
    shape: tuple[int, ...]
    storage: str
    masked: tuple[int, ...] = ()
    hash_key: str = ""

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
        columns.append(Column(key, datatype, shape, storage, rows.masked.get(key, ())))
    for key, omitted in rows.omitted.items():
        columns.append(Column(key, omitted.datatype, omitted.shape, DIGEST))
    for key, hashed in rows.hashed.items():
        columns.append(Column(key, hashed.datatype, hashed.shape, HASHED, (), hashed.key))
    return tuple(columns)


@lru_cache(maxsize=1024)
def fingerprint(layout: Layout, *, traced: bool = False) -> str:
    """16 hex characters that name a layout, and whether there is a column of traces."""
    columns: list[Any] = [
        [c.key, c.datatype, c.shape, c.storage, *filter(None, (c.masked, c.hash_key))]
        for c in layout
    ]
    text = json.dumps(columns + [TRACES] * traced)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def encode_predictions(rows: PredictionRows, producer: str, watermark_ns: int) -> Record:
    """One record of at least one row; `rows` is borrowed, the record owns its bytes.

    Raises: RecordError if a length, dtype or value does not fit its column.
    """
    layout = layout_of(rows)
    count = len(rows)
    if count == 0:
        raise RecordError(f"model {rows.model}: a record of no rows")
    traces = rows.traces if rows.traces is not None and rows.traces.any() else None
    schema, schema_bytes = _schema(layout, traced=traces is not None)
    arrays = [_fixed(name, getattr(rows, name), dtype, count) for name, dtype in FIXED.items()]
    if traces is not None:
        arrays.append(_pack_binary(TRACES, TRACE_BYTES, traces, count))
    by_key = dict(tensors(rows))
    for column in layout:
        source = _source(column, rows, by_key)
        if len(source) != count:
            raise RecordError(f"{column.key}: {len(source)} rows, expected {count}")
        arrays.append(_PACK[column.storage](column, source, count))
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    runs = rows.all_runs
    headers = {
        **{name: getattr(rows, name) for name in HEADERS},
        "schema": fingerprint(layout, traced=traces is not None),
        "ts_min_ns": str(rows.ts_ns.min()),
        "ts_max_ns": str(rows.ts_ns.max()),
        **runs_header(runs),
        **policy_header(rows.dropped),
    }
    if traces is not None:
        first = traces[int(traces.any(axis=1).argmax())]
        headers[TRACE_HEADER] = traceparent_text(first.tobytes())
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


def _source(column: Column, rows: PredictionRows, by_key: Mapping[str, Array]) -> Array:
    if column.storage == DIGEST:
        return rows.omitted[column.key].digests
    if column.storage == HASHED:
        return rows.hashed[column.key].digests
    return by_key[column.key]


def policy_header(dropped: tuple[str, ...]) -> dict[str, str]:
    """The header that names the tensors left out by policy: none for none."""
    return {DROPPED_HEADER: json.dumps(dropped)} if dropped else {}


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
    hashed: dict[str, Hashed] = {}
    masked: dict[str, tuple[int, ...]] = {}
    for field, array in zip(batch.schema, batch.columns, strict=True):
        if field.metadata is None:
            continue
        column = _column(field)
        if field.type != _type(column):
            raise RecordError(f"{column.key}: {field.type} cannot hold what its metadata say")
        if column.storage in _DIGEST_BYTES:
            digests = _unpack_binary(array, _DIGEST_BYTES[column.storage])
            if column.storage == DIGEST:
                omitted[column.key] = Omitted(column.datatype, column.shape, digests)
            else:
                hashed[column.key] = Hashed(column.datatype, column.shape, column.hash_key, digests)
            continue
        if column.masked:
            masked[column.key] = column.masked
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
        hashed=hashed,
        dropped=tuple(json.loads(record.headers.get(DROPPED_HEADER, "[]"))),
        masked=masked,
        traces=_unpack_binary(batch.column(TRACES), TRACE_BYTES)
        if TRACES in batch.schema.names
        else None,
    )


@lru_cache(maxsize=1024)
def _schema(layout: Layout, *, traced: bool) -> tuple[Any, bytes]:
    fields = [pa.field(name, pa.from_numpy_dtype(d), nullable=False) for name, d in FIXED.items()]
    if traced:
        fields.append(pa.field(TRACES, pa.binary(TRACE_BYTES), nullable=False))
    for column in layout:
        metadata = {
            "datatype": column.datatype,
            "shape": json.dumps(column.shape),
            "storage": column.storage,
        }
        if column.masked:
            metadata["masked"] = json.dumps(column.masked)
        if column.hash_key:
            metadata["hash_key"] = column.hash_key
        nullable = column.storage == EMPTY  # Arrow's null type knows no other way
        fields.append(pa.field(column.key, _type(column), nullable, metadata))
    schema = pa.schema(fields)
    return schema, schema.serialize().to_pybytes()


@lru_cache(maxsize=4096)
def _type(column: Column) -> Any:
    if column.storage == EMPTY:
        return pa.null()
    if column.storage in _DIGEST_BYTES:
        return pa.binary(_DIGEST_BYTES[column.storage])
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
    masked = tuple(int(index) for index in json.loads(metadata.get("masked", "[]")))
    return Column(
        field.name,
        metadata["datatype"],
        shape,
        metadata["storage"],
        masked,
        metadata.get("hash_key", ""),
    )


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
    return _pack_binary(column.key, _DIGEST_BYTES[column.storage], digests, count)


def _pack_binary(name: str, width: int, values: Array, count: int) -> Any:
    if values.shape != (count, width) or values.dtype != np.uint8:
        raise RecordError(f"{name}: {values.dtype} {values.shape}, expected uint8 {(count, width)}")
    buffer = pa.py_buffer(np.ascontiguousarray(values))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), count, [None, buffer])


def _unpack_binary(array: Any, width: int) -> Array:
    return _view(array, np.dtype(np.uint8), width).reshape(-1, width)


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
    HASHED: _pack_digest,
}
_UNPACK: Mapping[str, Callable[[Column, Any, int], Array]] = {
    VALUES: _unpack_values,
    BYTES: _unpack_bytes,
    EMPTY: _unpack_empty,
}
