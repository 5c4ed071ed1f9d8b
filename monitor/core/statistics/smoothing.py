"""Shares without zeros, for logarithms."""

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.statistics.binned import Binned

# An empty cell counts half a row: the smallest count that could as well have
# been one. A fixed floor would make one stray row look like a shift.
HALF_COUNT = 0.5


def smoothed_shares(binned: Binned) -> tuple[Floats, Floats]:
    """Reference and live, (..., C + 5): half a count more in every cell in use.

    NaN where a side has no rows.
    """
    used = binned.used

    def smoothed(counts: Counts) -> Floats:
        raised = np.where(used, counts + HALF_COUNT, 0.0)
        total = np.where(counts.sum(axis=-1) > 0, raised.sum(axis=-1), np.nan)
        return np.asarray(raised / total[..., None])

    return smoothed(binned.reference.cells), smoothed(binned.live.cells)


def log_ratios(p: Floats, q: Floats) -> Floats:
    """ln(q / p), 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((p == 0) & (q == 0), 0.0, np.log(q / p))
