"""A reference profile from a file, column by column, so that one column at a time is held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from monitor.backtest.columns import (
    BacktestError,
    ColumnKind,
    Columns,
    classes,
    has_fractions,
    kind_of,
    numbers,
    texts,
)
from monitor.backtest.losses import Judged, judged_of
from monitor.backtest.table_file import TableFile
from monitor.core.bins import AnyArray
from monitor.core.profile import (
    FeatureKind,
    FeatureProfile,
    FeatureSpec,
    PredictionKind,
    ProfileError,
    ReferenceProfile,
    fit_feature,
)
from monitor.core.profile_fit import build_profile

NUMBERS = "numbers"  # the tensor of all numeric columns; each text column is one of its own
TEXT = "text:"


@dataclass(frozen=True, slots=True)
class Reference:
    """A profile and the columns that it is of.

    numeric, text: features in the file's order; kinds: of every column that is read.
    """

    profile: ReferenceProfile
    numeric: tuple[str, ...]
    text: tuple[str, ...]
    kinds: Mapping[str, ColumnKind]


def fit_reference(file: TableFile, columns: Columns, *, continuous: bool = False) -> Reference:
    """continuous: numbers are ranges, however few values they have.

    Raises: BacktestError when a column is missing, cannot be counted, or there is no row.
    """
    where = f"reference {file.path}"
    demand(file, sorted(columns.apart - {columns.time}), where)
    names = [name for name in file.names if name not in columns.apart]
    kinds = {name: kind_of(name, file.types[name], where) for name in names}
    if not names and columns.predictions is None:
        raise BacktestError(f"{where} has no column to watch")
    numeric = tuple(name for name in names if kinds[name] is ColumnKind.NUMBER)
    text = tuple(name for name in names if kinds[name] is ColumnKind.TEXT)
    try:
        features = tuple(
            _fit(name, array, numeric, continuous, where) for name, array in file.columns(names)
        )
        whole = _answers(file, columns, where)
    except ProfileError as exc:
        raise BacktestError(f"{where}: {exc}") from exc
    rows = int(features[0].counts.sum()) if features else whole.rows
    if rows == 0:
        raise BacktestError(f"{where} has no row")
    kinds |= _other_kinds(whole, columns)
    return Reference(replace(whole, rows=rows, features=features), numeric, text, kinds)


def demand(file: TableFile, names: Sequence[str], where: str) -> None:
    """Raises: BacktestError naming the columns that the file lacks."""
    missing = [name for name in names if name not in file.names]
    if missing:
        has = ", ".join(file.names[:12]) + (", …" if len(file.names) > 12 else "")
        raise BacktestError(
            f"{where} lacks {'column' if len(missing) == 1 else 'columns'} "
            f"{', '.join(map(repr, missing[:12]))}",
            f"it has {has}",
        )


def _fit(
    name: str, array: Any, numeric: tuple[str, ...], continuous: bool, where: str
) -> FeatureProfile:
    if name not in numeric:
        return fit_feature(FeatureSpec(name, TEXT + name, 0, datatype="BYTES"), texts(array))
    kind = FeatureKind.CONTINUOUS if continuous else None
    spec = FeatureSpec(name, NUMBERS, numeric.index(name), kind, "FP64")
    return fit_feature(spec, numbers(name, array, where))


def _answers(file: TableFile, columns: Columns, where: str) -> ReferenceProfile:
    """The part of the profile that is about predictions and losses."""
    if columns.predictions is None:
        return ReferenceProfile(rows=0, features=())
    wanted = [columns.predictions] + ([columns.labels] if columns.labels else [])
    found = dict(file.columns(wanted))
    said = found[columns.predictions]
    if not len(said):
        raise BacktestError(f"{where} has no row")
    is_number = has_fractions(said.type)
    predictions: AnyArray = numbers("", said, where) if is_number else classes(said)
    losses = None
    if columns.labels is not None:
        kind = PredictionKind.NUMBER if is_number else PredictionKind.CLASS
        judged: Judged = judged_of(predictions, found[columns.labels], kind, columns.labels, where)
        losses = judged.errors
        if not losses.size:
            raise BacktestError(f"{where}: no row has a label in column {columns.labels!r}")
    nothing = np.zeros((len(predictions), 0))
    return build_profile(nothing, [], predictions, losses)


def _other_kinds(profile: ReferenceProfile, columns: Columns) -> dict[str, ColumnKind]:
    """How predictions and labels of a CSV file are read: a class may look like a number."""
    if profile.prediction is None:
        return {}
    is_number = profile.prediction.kind is PredictionKind.NUMBER
    kind = ColumnKind.NUMBER if is_number else ColumnKind.TEXT
    names = (columns.predictions, columns.labels)
    return {name: kind for name in names if name is not None}
