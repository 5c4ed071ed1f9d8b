"""From tensors to Parquet columns, and one set of columns for all versions in a file.

A tensor of one dimension a row and at most `wide_max` elements has a column per
element (`input.NAME.0`, ...), any other a list column; one too large to be logged
has `input.NAME.sha256`. What a log policy left out has no column, or nulls in a list;
what it hashed has `input.NAME.hmac`.

Where versions differ in a tensor's type, integers become wider integers and
floats wider floats as long as no value can change; otherwise there is a column
per type, named after it (`output.NAME.int64`, `output.NAME.binary`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from eventlog.core.predictions import Array, PredictionRows, float32_of_bf16, tensors
from eventlog.core.traceparent import traceparent_text


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the file; `types` of `source` go into it."""

    name: str
    source: str
    type: Any
    types: tuple[Any, ...]


class Columns:
    """Collects the schemas of the tables that will share a file."""

    def __init__(self) -> None:
        self._types: dict[str, list[Any]] = {}

    def add(self, schema: Any) -> None:
        for item in schema:
            types = self._types.setdefault(item.name, [])
            if item.type not in types:
                types.append(item.type)

    def schema(self) -> Any:
        return pa.schema([(column.name, column.type) for column in self._columns()])

    def fit(self, table: Any) -> Any:
        """`table` with the columns of the file, nulls where it has none."""
        arrays = []
        for column in self._columns():
            index = table.schema.get_field_index(column.source)
            if index >= 0 and table.schema.field(index).type in column.types:
                arrays.append(table.column(index).cast(column.type))
            else:
                arrays.append(pa.nulls(table.num_rows, column.type))
        return pa.Table.from_arrays(arrays, schema=self.schema())

    def _columns(self) -> list[Column]:
        columns = []
        for source, types in self._types.items():
            common = common_type(types)
            if common is not None:
                columns.append(Column(source, source, common, tuple(types)))
            else:
                columns += [Column(f"{source}.{_word(t)}", source, t, (t,)) for t in types]
        return columns


def common_type(types: Sequence[Any]) -> Any:
    """A type that holds every value of `types` exactly; None if there is none."""
    first = types[0]
    if all(item == first for item in types):
        return first
    if all(pa.types.is_large_list(item) for item in types):
        value = common_type([item.value_type for item in types])
        return None if value is None else pa.large_list(value)
    for is_kind, kinds in ((pa.types.is_integer, "iu"), (pa.types.is_floating, "f")):
        if all(map(is_kind, types)):
            wide = np.result_type(*[item.to_pandas_dtype() for item in types])
            return pa.from_numpy_dtype(wide) if wide.kind in kinds else None
    return None


def tensor_columns(rows: PredictionRows, wide_max: int) -> Mapping[str, Any]:
    """The columns of every tensor of `rows`, by name."""
    columns: dict[str, Any] = {}
    for key, array in tensors(rows):
        masked = rows.masked.get(key, ())
        columns |= _columns_of(_dotted(key), array, rows.datatypes.get(key), wide_max, masked)
    for key, omitted in rows.omitted.items():
        digests = [bytes(digest).hex() for digest in omitted.digests]
        columns[f"{_dotted(key)}.sha256"] = pa.array(digests)
    for key, hashed in rows.hashed.items():
        digests = [bytes(digest).hex() for digest in hashed.digests]
        columns[f"{_dotted(key)}.hmac"] = pa.array(digests)
    return columns


def trace_column(rows: PredictionRows) -> Mapping[str, Any]:
    """The traceparent of each row, null without one; no column where none has one."""
    if rows.traces is None:
        return {}
    texts = [traceparent_text(trace.tobytes()) or None for trace in rows.traces]
    return {"traceparent": pa.array(texts, pa.string())}


def _columns_of(
    name: str,
    array: Array,
    datatype: str | None,
    wide_max: int,
    masked: Sequence[int],
) -> Mapping[str, Any]:
    """masked: elements of a row that are not there."""
    if array.ndim == 1:
        return {name: _values(array, datatype)}
    flat = array.reshape(len(array), -1)
    width = flat.shape[1]
    if array.ndim == 2 and 0 < width <= wide_max:
        return {
            f"{name}.{i}": _values(np.ascontiguousarray(flat[:, i]), datatype)
            for i in range(width)
            if i not in masked
        }
    offsets = np.arange(len(array) + 1, dtype=np.int64) * width
    absent = None
    if masked:
        absent = np.tile(np.isin(np.arange(width), masked), len(array))
    values = _values(flat.ravel(), datatype, absent)
    return {name: pa.LargeListArray.from_arrays(offsets, values)}


def _values(array: Array, datatype: str | None, absent: Array | None = None) -> Any:
    """Types that every Parquet reader knows: 16-bit floats become 32-bit ones.

    absent: bool (n,), where there is no value.
    """
    if datatype == "BF16":
        return pa.array(float32_of_bf16(array), mask=absent)
    if array.dtype == np.float16:
        return pa.array(array.astype(np.float32), mask=absent)
    if array.dtype.hasobject:
        return pa.array(array.tolist(), pa.binary(), mask=absent)
    return pa.array(array, mask=absent)


def _word(kind: Any) -> str:
    return f"list_{kind.value_type}" if pa.types.is_large_list(kind) else str(kind)


def _dotted(key: str) -> str:
    return key.replace(":", ".", 1)
