"""The prediction log as one Parquet file: a row per prediction, typed columns.

Columns: prediction_id, row, ts, model, version, role, rollout, status,
latency_ms, weight, then `input.NAME` and `output.NAME`: one column per element
for tensors of one dimension and at most `wide_max` elements, a list column for
others, `.sha256` for those too large to be logged. With labels: label, label_ts.
Versions with other tensors in the same file have nulls there.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eventlog.core.arrow_codec import decode_predictions
from eventlog.core.grouping import Key, concatenate, key_of
from eventlog.core.labels import decode_labels
from eventlog.core.prediction_id import IdCodec, InvalidPredictionId
from eventlog.core.predictions import Array, PredictionRows, Status, tensors
from eventlog.core.record import (
    LABELS,
    PREDICTIONS,
    LogError,
    RecordError,
    RecordKind,
    StoredRecord,
)
from eventlog.log import Log

READ_RECORDS = 64
ROW_GROUP_ROWS = 65_536
WIDE_MAX = 256

RowKey = tuple[str, int]  # producer, sequence


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export. Times are Unix ns of arrival, half open; None: unbounded."""

    model: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    labels: bool = False
    wide_max: int = WIDE_MAX


@dataclass(frozen=True, slots=True)
class Exported:
    """orphans: labels whose prediction is not in the selection."""

    rows: int
    labelled: int
    orphans: int


@dataclass(slots=True)
class _Survey:
    """The first pass: which columns there are, and every label."""

    schema: Any = None
    models: set[str] = field(default_factory=set)
    labels: dict[RowKey, tuple[float | str, int]] = field(default_factory=dict)


def export_parquet(log: Log, output: Path, selection: Selection, ids: IdCodec) -> Exported:
    """Write `output` at once or not at all.

    Raises: LogError if nothing is selected, or more than one model is without
            one being named; OSError.
    """
    survey = _survey(log, selection, ids)
    if survey.schema is None:
        raise LogError("no predictions match")
    if selection.model is None and len(survey.models) > 1:
        raise LogError(f"the log has several models, name one: {', '.join(sorted(survey.models))}")
    scratch = output.with_name(output.name + ".new")
    rows = labelled = 0
    try:
        with pq.ParquetWriter(scratch, survey.schema, compression="zstd") as writer:
            for table in _row_groups(log, selection, survey, ids):
                writer.write_table(table)
                rows += table.num_rows
                if selection.labels:
                    labelled += table.num_rows - table.column("label").null_count
        os.replace(scratch, output)
    finally:
        scratch.unlink(missing_ok=True)
    return Exported(rows, labelled, len(survey.labels) - labelled)


def all_records(log: Log) -> Iterator[StoredRecord]:
    """Every record, from the start to what is there now."""
    position: dict[str, int] = {}
    while batch := log.read(position, READ_RECORDS):
        for stored in batch:
            position[stored.partition] = stored.offset
            yield stored


def _survey(log: Log, selection: Selection, ids: IdCodec) -> _Survey:
    survey = _Survey()
    seen: set[str] = set()
    schemas: list[Any] = []
    for stored in all_records(log):
        record = stored.record
        if record.kind is not RecordKind.DATA:
            continue
        if record.stream == LABELS and selection.labels:
            _collect_labels(stored, selection, ids, survey)
        elif record.stream == PREDICTIONS and _selected(stored, selection):
            survey.models.add(record.headers["model"])
            if record.headers["schema"] not in seen and (rows := _decode(stored)) is not None:
                seen.add(record.headers["schema"])
                schemas.append(_table(rows, record.producer, selection, ids).schema)
    if schemas:
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        if selection.labels:
            text = any(isinstance(value, str) for value, _ in survey.labels.values())
            schema = schema.append(pa.field("label", pa.string() if text else pa.float64()))
            schema = schema.append(pa.field("label_ts", pa.timestamp("ns", "UTC")))
        survey.schema = schema
    return survey


def _collect_labels(
    stored: StoredRecord, selection: Selection, ids: IdCodec, survey: _Survey
) -> None:
    """The last label of a row counts."""
    model, labels = decode_labels(stored.record)
    if selection.model not in (None, model):
        return
    for label in labels:
        try:
            found = ids.decode(label.prediction_id)
        except InvalidPredictionId:
            continue  # the gateway refuses them; keys may have been rotated away since
        key = (found.producer, found.sequence + label.row)
        survey.labels[key] = (label.value, label.ts_ns)


def _row_groups(log: Log, selection: Selection, survey: _Survey, ids: IdCodec) -> Iterator[Any]:
    """Tables of about ROW_GROUP_ROWS rows; arrays are joined first, since a step
    per column and record would cost more than the rows themselves."""
    waiting: dict[tuple[str, Key], list[PredictionRows]] = {}
    count = 0
    for stored in all_records(log):
        record = stored.record
        if record.kind is not RecordKind.DATA or record.stream != PREDICTIONS:
            continue
        if not _selected(stored, selection) or (rows := _decode(stored)) is None:
            continue
        waiting.setdefault((record.producer, key_of(rows)), []).append(rows)
        count += len(rows)
        if count >= ROW_GROUP_ROWS:
            yield _joined(waiting, selection, survey, ids)
            waiting, count = {}, 0
    if waiting:
        yield _joined(waiting, selection, survey, ids)


def _joined(
    waiting: Mapping[tuple[str, Key], list[PredictionRows]],
    selection: Selection,
    survey: _Survey,
    ids: IdCodec,
) -> Any:
    tables = []
    for (producer, _), batches in waiting.items():
        rows = concatenate(batches)
        table = _table(rows, producer, selection, ids)
        if selection.labels:
            table = _with_labels(table, rows, producer, survey)
        tables.append(_fit(_in_time(table, rows, selection), survey.schema))
    return pa.concat_tables(tables)


def _selected(stored: StoredRecord, selection: Selection) -> bool:
    headers = stored.record.headers
    if selection.model not in (None, headers["model"]):
        return False
    if selection.since_ns is not None and int(headers["ts_max_ns"]) < selection.since_ns:
        return False
    return selection.until_ns is None or int(headers["ts_min_ns"]) < selection.until_ns


def _decode(stored: StoredRecord) -> PredictionRows | None:
    try:
        return decode_predictions(stored.record)
    except RecordError:
        return None  # the ledger counts it; an export goes on


def _in_time(table: Any, rows: PredictionRows, selection: Selection) -> Any:
    keep = np.ones(len(rows), dtype=np.bool_)
    if selection.since_ns is not None:
        keep &= rows.ts_ns >= selection.since_ns
    if selection.until_ns is not None:
        keep &= rows.ts_ns < selection.until_ns
    return table if keep.all() else table.filter(pa.array(keep))


def _table(rows: PredictionRows, producer: str, selection: Selection, ids: IdCodec) -> Any:
    count = len(rows)
    columns: dict[str, Any] = {
        "prediction_id": pa.array(request_ids(rows, producer, ids)),
        "row": pa.array(rows.row),
        "ts": pa.array(rows.ts_ns, pa.timestamp("ns", "UTC")),
        **{name: _constant(getattr(rows, name), count) for name in ("model", "version")},
        **{name: _constant(getattr(rows, name), count) for name in ("role", "rollout")},
        "status": pa.array([status_name(value) for value in rows.status.tolist()]),
        "latency_ms": pa.array(rows.latency_ns / 1e6),
        "weight": pa.array(rows.weight),
    }
    for key, array in tensors(rows):
        columns |= _tensor_columns(key, array, rows.datatypes.get(key), selection.wide_max)
    for key, omitted in rows.omitted.items():
        digests = [bytes(digest).hex() for digest in omitted.digests]
        columns[f"{_dotted(key)}.sha256"] = pa.array(digests)
    return pa.table(columns)


def request_ids(rows: PredictionRows, producer: str, ids: IdCodec) -> list[str]:
    """The prediction id of each row's request: its time and its first sequence number."""
    times = (rows.ts_ns // 1_000_000).tolist()
    firsts = (rows.sequences() - rows.row).tolist()
    return [ids.encode(ts, producer, first) for ts, first in zip(times, firsts, strict=True)]


def status_name(value: int) -> str:
    return Status(value).name.lower() if value in tuple(Status) else str(value)


def _tensor_columns(
    key: str, array: Array, datatype: str | None, wide_max: int
) -> Mapping[str, Any]:
    name = _dotted(key)
    if array.ndim == 1:
        return {name: _values(array, datatype)}
    flat = array.reshape(len(array), -1)
    if array.ndim == 2 and flat.shape[1] <= wide_max:
        columns = range(flat.shape[1])
        return {f"{name}.{i}": _values(np.ascontiguousarray(flat[:, i]), datatype) for i in columns}
    offsets = np.arange(0, flat.size + 1, max(flat.shape[1], 1), dtype=np.int64)
    if flat.shape[1] == 0:
        offsets = np.zeros(len(array) + 1, dtype=np.int64)
    values = _values(flat.ravel(), datatype)
    return {name: pa.LargeListArray.from_arrays(pa.array(offsets), values)}


def _values(array: Array, datatype: str | None) -> Any:
    """Types that every Parquet reader knows: 16-bit floats become 32-bit ones."""
    if datatype == "BF16":
        return pa.array((array.astype(np.uint32) << 16).view(np.float32))
    if array.dtype == np.float16:
        return pa.array(array.astype(np.float32))
    if array.dtype.hasobject:
        return pa.array(array.tolist(), pa.binary())
    return pa.array(array)


def _with_labels(table: Any, rows: PredictionRows, producer: str, survey: _Survey) -> Any:
    found = [survey.labels.get((producer, number)) for number in rows.sequences().tolist()]
    kind = survey.schema.field("label").type
    text = kind == pa.string()
    values = [None if item is None else str(item[0]) if text else item[0] for item in found]
    times = [None if item is None else item[1] for item in found]
    table = table.append_column("label", pa.array(values, kind))
    return table.append_column("label_ts", pa.array(times, pa.timestamp("ns", "UTC")))


def _fit(table: Any, schema: Any) -> Any:
    """`table` with the columns of `schema`, nulls where it has none."""
    arrays = [
        table.column(item.name).cast(item.type)
        if item.name in table.column_names
        else pa.nulls(table.num_rows, item.type)
        for item in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _constant(value: str, count: int) -> Any:
    return pa.array([value] * count, pa.string())


def _dotted(key: str) -> str:
    return key.replace(":", ".", 1)
