"""One scale for features of different units, taken from half of the reference's rows.

The other half is compared with live rows and has no say in the scale; so, where nothing
has moved, both sides are alike after it too, however wide the rows and however few.
"""

from dataclasses import dataclass

import numpy as np

from monitor.core.bins import Floats
from monitor.core.multivariate.reference_rows import Rows

# What lies beyond these quantiles counts as at them: one stray 1e6 neither hides a
# shift nor makes one. An order statistic of its own, so that it is not one itself.
TAIL = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """low, high: (w,) ends; mean, deviation: (w,) between them."""

    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, rows: Rows) -> "Scale":
        """rows: (n, w), n > 0. A column without a finite value is as one of zeros."""
        finite = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
        empty = np.isnan(finite).all(axis=0)
        finite[:, empty] = 0.0
        low = np.nanquantile(finite, TAIL, axis=0, method="higher")
        high = np.nanquantile(finite, 1 - TAIL, axis=0, method="lower")
        low, high = np.minimum(low, high), np.maximum(low, high)
        held = np.clip(finite, low, high)
        return cls(low, high, np.nanmean(held, axis=0), np.nanstd(held, axis=0))

    def scaled(self, rows: Rows) -> Floats:
        """(n, w) in the reference's deviations from its mean.

        What is missing stands at the mean, and so does a feature that was constant: how
        these moved is to be seen in their histograms.
        """
        moved = np.clip(rows.astype(np.float64), self.low, self.high) - self.mean
        known = self.deviation > 0
        divided = moved / np.where(known, self.deviation, 1.0)
        return np.where(np.isnan(divided) | ~known, 0.0, divided)
