"""How wrong the predictions of a file were, many rows at a time.

The same numbers as `error_of` and `loss_units` give for one row.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.backtest.columns import NO_CLASS, classes, numbers
from monitor.core.bins import AnyArray, Floats
from monitor.core.predictions import LOSS_UNITS
from monitor.core.profile import PredictionKind


@dataclass(frozen=True, slots=True)
class Judged:
    """rows: the places of the rows that have a label; errors: theirs, in the label's unit."""

    rows: AnyArray
    errors: Floats

    def units(self, first: int, last: int, scale: float) -> tuple[int, int]:
        """Of the rows first <= place < last: how many, and their losses in 2^-30."""
        start, end = np.searchsorted(self.rows, (first, last))
        losses = np.minimum(self.errors[start:end] / scale, 1.0)
        # Below 2^30 each and added as integers: exact in any order.
        return int(end - start), int(np.rint(losses * LOSS_UNITS).astype(np.int64).sum())


def judged_of(
    predictions: AnyArray, labels: Any, kind: PredictionKind, name: str, where: str
) -> Judged:
    """predictions: (n,) numbers or texts; labels: an Arrow array of n. Raises: BacktestError."""
    if kind is PredictionKind.NUMBER:
        wanted = numbers(name, labels, where)
        rows = np.flatnonzero(~np.isnan(wanted))
        errors = np.abs(predictions[rows] - wanted[rows])
        return Judged(rows, np.where(np.isfinite(errors), errors, np.inf))
    expected = classes(labels)
    rows = np.flatnonzero(expected != NO_CLASS)
    return Judged(rows, np.asarray(predictions[rows] != expected[rows], dtype=np.float64))
