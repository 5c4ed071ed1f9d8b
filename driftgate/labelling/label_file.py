"""Labels of a Parquet or CSV file as the gateway takes them, in batches.

Laws:
- a null label is none, and no error: files hold rows whose truth is not known yet;
- a row that cannot be a label (no id, a number that is not finite, too long a text) is
  told with its place, and the rest goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from monitor.backtest.columns import BacktestError, ColumnKind, is_text
from monitor.backtest.table_file import TableFile
from monitor.backtest.times import times_of

BATCH_ROWS = 5_000  # half a megabyte of JSON: well below what a gateway admits at once
TEXT_MAX = 1024  # characters, as the gateway has it

Entry = dict[str, Any]


class LabelFileError(Exception):
    """The file cannot be used; the message says why, `hint` what to do."""

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        super().__init__(sentence)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """Names of columns. row: of the row in its request; time: when the truth became known."""

    id: str
    label: str
    row: str | None = None
    time: str | None = None

    @property
    def names(self) -> list[str]:
        return [name for name in (self.id, self.label, self.row, self.time) if name is not None]


@dataclass(frozen=True, slots=True)
class Batch:
    """entries: label objects of the protocol, with the places of their rows in the file.

    rows: of the file in this batch; done: the share of the file that is read by its end.
    """

    entries: list[tuple[int, Entry]] = field(default_factory=list)
    unusable: list[tuple[int, str]] = field(default_factory=list)
    unlabelled: int = 0
    rows: int = 0
    done: float = 0.0


def read_labels(path: Path, columns: LabelColumns, skip: int = 0) -> Iterator[Batch]:
    """skip: rows of the file that are passed over. Raises: LabelFileError."""
    try:
        file = TableFile(path)
        missing = [name for name in columns.names if name not in file.names]
        if missing:
            raise LabelFileError(
                f"{path} has no column {missing[0]!r}",
                f"it has {', '.join(map(repr, file.names[:12]))}; name the right one by an option",
            )
        first, before = 0, 0.0
        for table, done in file.batches(columns.names, _kinds(file, columns)):
            for start in range(0, table.num_rows, BATCH_ROWS):
                part = table.slice(start, BATCH_ROWS)
                passed = min(max(skip - first, 0), part.num_rows)
                if passed < part.num_rows:
                    share = done if start + BATCH_ROWS >= table.num_rows else before
                    yield _batch(part.slice(passed), first + passed, columns, str(path), share)
                first += part.num_rows
            before = done
    except BacktestError as error:
        raise LabelFileError(str(error), error.hint) from error


def _kinds(file: TableFile, columns: LabelColumns) -> dict[str, ColumnKind]:
    """As what a CSV file's columns are read; what is not here stays as it was guessed."""
    kinds = {columns.id: ColumnKind.TEXT}
    datatype = file.types[columns.label]
    if is_text(datatype):
        kinds[columns.label] = ColumnKind.TEXT
    elif not pa.types.is_boolean(datatype):
        kinds[columns.label] = ColumnKind.NUMBER
    return kinds


def _batch(table: Any, first: int, columns: LabelColumns, where: str, done: float) -> Batch:
    batch = Batch(rows=table.num_rows, done=done)
    ids, labels = (table.column(name).to_pylist() for name in (columns.id, columns.label))
    places = table.column(columns.row).to_pylist() if columns.row else [None] * len(ids)
    times = _times(table, columns, where)
    unlabelled = 0
    for i, (id_, label) in enumerate(zip(ids, labels, strict=True)):
        if label is None:
            unlabelled += 1
            continue
        text = _text(id_)
        if not text:
            batch.unusable.append((first + i, "it has no prediction id"))
            continue
        value, wrong = _value(label)
        if wrong:
            batch.unusable.append((first + i, wrong))
            continue
        entry: Entry = {"prediction_id": text, "label": value}
        if places[i] is not None:
            entry["prediction_id"] = f"{text}.{places[i]}"
        if times is not None:
            entry["ts"] = int(times[i]) / 1e9
        batch.entries.append((first + i, entry))
    return Batch(batch.entries, batch.unusable, unlabelled, batch.rows, done)


def _times(table: Any, columns: LabelColumns, where: str) -> Any:
    if columns.time is None:
        return None
    return times_of(columns.time, table.column(columns.time), where)


def _value(label: Any) -> tuple[float | str | bool, str]:
    """What is sent, and what is wrong with it."""
    if isinstance(label, bytes):
        label = label.decode("utf-8", "replace")
    if isinstance(label, str):
        wrong = f"its label is longer than {TEXT_MAX} characters" if len(label) > TEXT_MAX else ""
        return label, wrong
    if isinstance(label, bool):
        return label, ""
    try:
        number = float(label)
    except (TypeError, ValueError):
        return 0.0, f"its label is a {type(label).__name__}"
    return number, "" if isfinite(number) else "its label is not finite"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
