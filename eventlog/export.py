"""The prediction log as one Parquet file: a row per prediction, typed columns.

Columns: prediction_id, row, ts, model, version, role, rollout, status,
latency_ms, weight, traceparent where a row has one, then `input.NAME` and
`output.NAME`, see `export_columns`.
With labels: label, label_ts. Versions with other tensors in the same file have
nulls there.

What is exported is what the log held at the start. It is read twice, first for
the columns and labels; memory is bounded by one row group.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
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
from eventlog.core.predictions import PredictionRows, rows_bytes
from eventlog.core.record import (
    LABELS,
    PREDICTIONS,
    LogError,
    RecordError,
    RecordKind,
    StoredRecord,
)
from eventlog.core.rows_json import request_ids, status_name
from eventlog.export_columns import Columns, tensor_columns, trace_column
from eventlog.export_labels import LabelShelf
from eventlog.log import Log, scan

ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 64 * 1024 * 1024  # of values; in memory they are there a few times over
WIDE_MAX = 256


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

    end: Mapping[str, int]
    labels: LabelShelf
    columns: Columns = field(default_factory=Columns)
    models: set[str] = field(default_factory=set)
    schema: Any = None


def export_parquet(log: Log, output: Path, selection: Selection, ids: IdCodec) -> Exported:
    """Write `output` at once or not at all.

    Raises: LogError if nothing is selected, or more than one model is without
            one being named; OSError.
    """
    with closing(LabelShelf()) as labels:
        survey = _survey(log, selection, ids, labels)
        if survey.schema is None:
            raise LogError("no predictions match")
        if selection.model is None and len(survey.models) > 1:
            names = ", ".join(sorted(survey.models))
            raise LogError(f"the log has several models, name one: {names}")
        return _write(log, output, selection, survey, ids)


def _write(log: Log, output: Path, selection: Selection, survey: _Survey, ids: IdCodec) -> Exported:
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
    return Exported(rows, labelled, survey.labels.count() - labelled)


def _survey(log: Log, selection: Selection, ids: IdCodec, labels: LabelShelf) -> _Survey:
    survey = _Survey(log.end(), labels)
    seen: set[str] = set()
    for stored in scan(log, survey.end):
        record = stored.record
        if record.kind is not RecordKind.DATA:
            continue
        if record.stream == LABELS and selection.labels:
            _collect_labels(stored, selection, ids, labels)
        elif record.stream == PREDICTIONS and _selected(stored, selection):
            survey.models.add(record.headers["model"])
            if record.headers["schema"] not in seen and (rows := _decode(stored)) is not None:
                seen.add(record.headers["schema"])
                survey.columns.add(_table(rows, record.producer, selection, ids).schema)
    if seen:
        if selection.labels:
            value = pa.string() if labels.has_text() else pa.float64()
            survey.columns.add(
                pa.schema([("label", value), ("label_ts", pa.timestamp("ns", "UTC"))])
            )
        survey.schema = survey.columns.schema()
    return survey


def _collect_labels(
    stored: StoredRecord, selection: Selection, ids: IdCodec, shelf: LabelShelf
) -> None:
    try:
        model, labels = decode_labels(stored.record)
    except RecordError:
        return  # as with rows: an export goes on
    if selection.model not in (None, model):
        return
    found = []
    for label in labels:
        try:
            request = ids.decode(label.prediction_id)
        except InvalidPredictionId:
            continue  # the gateway refuses them; keys may have been rotated away since
        found.append((request.producer, request.sequence + label.row, label))
    shelf.put(model, found)


def _row_groups(log: Log, selection: Selection, survey: _Survey, ids: IdCodec) -> Iterator[Any]:
    """Tables of bounded size; arrays are joined first, since a step per column
    and record would cost more than the rows themselves."""
    waiting: dict[tuple[str, Key], list[PredictionRows]] = {}
    count = size = 0
    for stored in scan(log, survey.end):
        record = stored.record
        if record.kind is not RecordKind.DATA or record.stream != PREDICTIONS:
            continue
        if not _selected(stored, selection) or (rows := _decode(stored)) is None:
            continue
        waiting.setdefault((record.producer, key_of(rows)), []).append(rows)
        count += len(rows)
        size += rows_bytes(rows)
        if count >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield _joined(waiting, selection, survey, ids)
            waiting, count, size = {}, 0, 0
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
        tables.append(survey.columns.fit(_in_time(table, rows, selection)))
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
        **trace_column(rows),
        **tensor_columns(rows, selection.wide_max),
    }
    return pa.table(columns)


def _with_labels(table: Any, rows: PredictionRows, producer: str, survey: _Survey) -> Any:
    found = survey.labels.of_rows(rows, producer)
    kind = survey.schema.field("label").type
    text = kind == pa.string()
    values = [None if item is None else str(item[0]) if text else item[0] for item in found]
    times = [None if item is None else item[1] for item in found]
    table = table.append_column("label", pa.array(values, kind))
    return table.append_column("label_ts", pa.array(times, pa.timestamp("ns", "UTC")))


def _constant(value: str, count: int) -> Any:
    return pa.array([value] * count, pa.string())
