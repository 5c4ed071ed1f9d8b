"""When each row of a reference was, and what that is worth as a season."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from driftgate.errors import CliError

WEEK_NS = 7 * 86_400 * 10**9
FEW_ROWS = 100  # of an hour; by fewer a share near a half may be 0.8, of 64 features


def read_times(path: Path, column: str) -> npt.NDArray[np.int64]:
    """(n,) Unix ns of a column of .npz, .parquet or .csv.

    Timestamps, dates, ISO 8601 text or Unix time; what names no zone is UTC.
    Raises: CliError.
    """
    from monitor.backtest.columns import BacktestError
    from monitor.backtest.times import times_of

    try:
        return times_of(column, _column(path, column), f"reference {path}")
    except BacktestError as exc:
        raise CliError(
            "the reference's times cannot be read", str(exc), getattr(exc, "hint", None)
        ) from exc


def _column(path: Path, column: str) -> Any:
    """As an Arrow array. The file was read before, so its format is a known one."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    match path.suffix.lower():
        case ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found = archive[column] if column in archive.files else None
            if found is None or found.ndim != 1:
                raise _lacks(path, column)
            return pyarrow.array(found.astype(str) if found.dtype.kind == "S" else found)
        case ".parquet":
            names = pyarrow.parquet.read_schema(path).names
            read = pyarrow.parquet.read_table
        case _:
            names = pyarrow.csv.open_csv(path).schema.names

            def read(file: Path, columns: list[str]) -> Any:
                options = pyarrow.csv.ConvertOptions(include_columns=columns)
                return pyarrow.csv.read_csv(file, convert_options=options)

    if column not in names:
        raise _lacks(path, column)
    return read(path, columns=[column]).column(column).combine_chunks()


def _lacks(path: Path, column: str) -> CliError:
    return CliError(f"reference {path} has no column {column!r}", hint="name it with --time")


def note_on(times_ns: npt.NDArray[np.int64]) -> str:
    """What a person should know of a reference by hour of the week; empty: nothing."""
    from monitor.profile import HOURS, hours_of

    rows = np.bincount(hours_of(times_ns), minlength=HOURS)
    said = []
    if int(np.ptp(times_ns)) < 2 * WEEK_NS:
        said.append("its times span less than two weeks, so each hour was seen once")
    few = int(np.count_nonzero(rows < FEW_ROWS))
    if few:
        said.append(
            f"in {few} of {HOURS} hours it has fewer than {FEW_ROWS} rows, "
            "by which little can be said"
        )
    return f"by hour of the week: {'; '.join(said)}" if said else ""
