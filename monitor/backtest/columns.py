"""Which column of a file is what, and its values as the monitor's core takes them.

Laws:
- whatever whole or fractional type a number has in the file, it is counted as float64,
  in the reference as in the data, so that equal values fall into equal bins;
- a null is a missing value of a feature, no label, and for a class no class that the
  reference knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from monitor.core.bins import AnyArray, Floats
from monitor.core.profile import text_of

NO_CLASS = ""


class BacktestError(ValueError):
    """A file cannot be used; the message says what is wrong with it, `hint` what to do."""

    def __init__(self, sentence: str, hint: str | None = None) -> None:
        super().__init__(sentence)
        self.hint = hint


class ColumnKind(StrEnum):
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Columns:
    """What the person said: names of columns; exclude: those that are not looked at."""

    labels: str | None = None
    predictions: str | None = None
    time: str | None = None
    exclude: tuple[str, ...] = ()

    @property
    def apart(self) -> frozenset[str]:
        """All that are no features."""
        named = (self.labels, self.predictions, self.time, *self.exclude)
        return frozenset(name for name in named if name is not None)


def kind_of(name: str, datatype: Any, where: str) -> ColumnKind:
    """Raises: BacktestError for a type that cannot be counted."""
    types = pa.types
    if types.is_dictionary(datatype):
        datatype = datatype.value_type
    if (
        types.is_integer(datatype)
        or types.is_floating(datatype)
        or types.is_decimal(datatype)
        or types.is_boolean(datatype)
        or types.is_null(datatype)
    ):
        return ColumnKind.NUMBER
    if is_text(datatype):
        return ColumnKind.TEXT
    raise BacktestError(
        f"{where}: column {name!r} is of type {datatype}, which cannot be counted",
        f"leave it out with --exclude {name}, or name it with --time if it is the time",
    )


def is_text(datatype: Any) -> bool:
    types = pa.types
    return bool(
        types.is_string(datatype)
        or types.is_large_string(datatype)
        or types.is_string_view(datatype)
        or types.is_binary(datatype)
        or types.is_large_binary(datatype)
    )


def has_fractions(datatype: Any) -> bool:
    """Whether predictions of this type are numbers; else each is a class."""
    return bool(pa.types.is_floating(datatype) or pa.types.is_decimal(datatype))


def numbers(name: str, array: Any, where: str) -> Floats:
    """(n,) float64; a null is NaN. Raises: BacktestError."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_text(array.type):
        raise BacktestError(
            f"{where}: column {name!r} is text, but in the reference it is numbers",
            "give both files the same types",
        )
    try:
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        found: Floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise BacktestError(f"{where}: column {name!r} holds no numbers: {exc}") from exc
    return np.asarray(found, dtype=np.float64)


def texts(array: Any) -> NDArray[np.object_]:
    """(n,) of str or bytes; a null is None. Numbers become their canonical text."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_text(array.type):
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=object)
    return _named(numbers("", array, ""))


def _named(values: Floats) -> NDArray[np.object_]:
    distinct, inverse = np.unique(values, return_inverse=True)
    names = [None if np.isnan(value) else text_of(float(value)) for value in distinct]
    return np.array(names, dtype=object)[inverse.reshape(-1)]


def classes(array: Any) -> NDArray[np.object_]:
    """(n,) of str: the class of each row as the monitor names it; a null is NO_CLASS."""
    found = texts(array)
    return np.array([NO_CLASS if v is None else text_of(v) for v in found], dtype=object)


def mixed_batch(columns: Sequence[Floats]) -> AnyArray:
    """Columns beside each other, (n, f), row by row as the counting kernel reads."""
    return np.ascontiguousarray(np.stack(columns, axis=1))
