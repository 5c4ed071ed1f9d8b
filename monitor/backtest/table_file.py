"""A Parquet or CSV file, read whole by the column or through once by the batch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from monitor.backtest.columns import BacktestError, ColumnKind

BATCH_VALUES = 2_000_000  # 16 MB of numbers at a time, however wide the table
BATCH_ROWS_MAX = 65_536
SUFFIXES = (".parquet", ".csv")


class TableFile:
    """One file; `names` are its columns, `types` Arrow's types of them.

    Types of a CSV file are guessed from its first megabyte.
    """

    def __init__(self, path: Path) -> None:
        """Raises: BacktestError when it cannot be read."""
        self.path = path
        self._is_csv = path.suffix.lower() == ".csv"
        if path.suffix.lower() not in SUFFIXES:
            raise BacktestError(
                f"{path} is of an unknown format", f"use one of {', '.join(SUFFIXES)}"
            )
        with self.reading():
            schema = self._schema()
        self.names: tuple[str, ...] = tuple(schema.names)
        if len(set(self.names)) != len(self.names):
            raise BacktestError(f"{path}: two columns have the same name")
        self.types: Mapping[str, Any] = {field.name: field.type for field in schema}

    def reading(self) -> "_Reading":
        return _Reading(self.path)

    def _schema(self) -> Any:
        if self._is_csv:
            with pa.csv.open_csv(self.path, convert_options=_convert()) as reader:
                return reader.schema
        return pa.parquet.read_schema(self.path)

    def columns(self, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Each column whole; of Parquet one after the other, so that one at a time is held."""
        with self.reading():
            if self._is_csv:
                options = _convert(include_columns=list(names))
                table = pa.csv.read_csv(self.path, convert_options=options)
                yield from ((name, table.column(name).combine_chunks()) for name in names)
                return
            with pa.parquet.ParquetFile(self.path) as file:
                for name in names:
                    yield name, file.read(columns=[name]).column(name).combine_chunks()

    def batches(
        self, names: Sequence[str], kinds: Mapping[str, ColumnKind]
    ) -> Iterator[tuple[Any, float]]:
        """Batches of these columns in the file's order, and how much of it is read by then.

        kinds: what the columns are in the reference; of a CSV file they are read as that.
        """
        with self.reading():
            yield from self._csv_batches(names, kinds) if self._is_csv else self._batches(names)

    def _batches(self, names: Sequence[str]) -> Iterator[tuple[Any, float]]:
        rows = min(max(BATCH_VALUES // max(len(names), 1), 256), BATCH_ROWS_MAX)
        with pa.parquet.ParquetFile(self.path) as file:
            total, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(rows, columns=list(names)):
                done += batch.num_rows
                yield batch, done / total

    def _csv_batches(
        self, names: Sequence[str], kinds: Mapping[str, ColumnKind]
    ) -> Iterator[tuple[Any, float]]:
        types = {
            name: pa.string() if kind is ColumnKind.TEXT else pa.float64()
            for name, kind in kinds.items()
        }
        options = _convert(include_columns=list(names), column_types=types)
        size = max(self.path.stat().st_size, 1)
        with (
            pa.OSFile(str(self.path)) as stream,
            pa.csv.open_csv(stream, convert_options=options) as reader,
        ):
            for batch in reader:
                yield batch, min(stream.tell() / size, 1.0)


class _Reading:
    """Arrow's errors and the system's become ours, with the file's name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FileNotFoundError):
            raise BacktestError(f"there is no file {self._path}") from error
        if isinstance(error, pa.ArrowException | OSError):
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise BacktestError(f"{self._path} cannot be read: {first}") from error


def _convert(**options: Any) -> Any:
    # An empty cell is a missing value, of text too, as a null of Parquet is.
    return pa.csv.ConvertOptions(strings_can_be_null=True, **options)
