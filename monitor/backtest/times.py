"""When each row of a file was: its time column as Unix nanoseconds, or its place alone."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitor.backtest.columns import BacktestError, is_text

Times = NDArray[np.int64]

# A bare number is Unix time in the first unit in which it is a time before the year 5138.
LARGEST = 100_000_000_000
UNITS_NS = (10**9, 10**6, 10**3, 1)


def times_of(name: str, array: Any, where: str) -> Times:
    """(n,) ns; text is ISO 8601, a time without a zone is UTC.

    Raises: BacktestError for nulls, times before 1970, and what is no time.
    """
    if array.null_count:
        raise BacktestError(
            f"{where}: {array.null_count} rows have no time in column {name!r}",
            "leave these rows out",
        )
    try:
        found = _nanoseconds(array)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise BacktestError(
            f"{where}: column {name!r} of type {array.type} is no time: {exc}",
            "a time is a timestamp, a date, ISO 8601 text or Unix time",
        ) from exc
    if found.size and found.min() < 0:
        raise BacktestError(f"{where}: column {name!r} holds times before 1970")
    return found


def _nanoseconds(array: Any) -> Times:
    types = pa.types
    if types.is_integer(array.type) or types.is_floating(array.type):
        return _unix(array)
    if is_text(array.type):
        array = _parsed(array)
    if types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    as_ns = array.cast(pa.timestamp("ns", tz=getattr(array.type, "tz", None)))
    return np.asarray(as_ns.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)


def _parsed(array: Any) -> Any:
    """All with an offset from UTC, or none."""
    try:
        return array.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:
        return array.cast(pa.timestamp("ns", tz="UTC"))


def _unix(array: Any) -> Times:
    values = array.to_numpy(zero_copy_only=False)
    largest = float(np.max(np.abs(values), initial=0))
    if not np.isfinite(largest):
        raise pa.ArrowInvalid("it holds a value that is not finite")
    place = 0
    while place < len(UNITS_NS) - 1 and largest >= LARGEST * 1000**place:
        place += 1
    unit = UNITS_NS[place]
    if values.dtype.kind == "f":
        values = np.rint(values * unit)
        unit = 1
    return np.asarray(values.astype(np.int64) * unit, dtype=np.int64)
