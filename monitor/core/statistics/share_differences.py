"""Total variation and L-infinity: the differences of the shares themselves."""

from math import pi

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned, Side
from monitor.core.statistics.entry import ALL, SEPARATE, Statistic
from monitor.core.statistics.normal_interval import normal_interval


def total_variation(binned: Binned) -> Floats:
    """Half the sum of |p - q| over the cells: the share of rows that would have to move.

    Returns (...), in [0, 1]. Empty cells need no care. No rows on a side: NaN.
    Missing values are rows of a cell of their own.
    Law: no closed one; a sum of dependent absolute normals. Draws say it.
    """
    return np.asarray(np.abs(binned.reference.shares - binned.live.shares).sum(axis=-1) / 2)


def largest_difference(binned: Binned) -> Floats:
    """Largest |p - q| over the cells; of all categories the one that moved most.

    Returns (...), in [0, 1]. As total variation otherwise. Not for continuous
    features: their cells are cut by us, and another cut would give another number.
    Interval: normal in every cell, all of them together (Bonferroni), so it errs on
    the wide side. Where two cells moved alike a bootstrap of the larger is too narrow.
    """
    return np.asarray(np.abs(binned.reference.shares - binned.live.shares).max(axis=-1))


def _null_mean(binned: Binned) -> Floats:
    """A mean absolute normal for each cell."""
    h = binned.pooled_shares
    deviations = np.sqrt(h * (1 - h) * binned.row_noise[..., None])
    return np.asarray(deviations.sum(axis=-1) / np.sqrt(2 * pi))


def _interval(binned: Binned, _: Floats, level: float) -> tuple[Floats, Floats]:
    apart = np.abs(binned.reference.shares - binned.live.shares)
    cells = np.maximum(binned.used.sum(axis=-1, keepdims=True), 1)
    error = np.sqrt(_variance(binned.reference) + _variance(binned.live))
    low, high = normal_interval(apart, error, 1 - (1 - level) / cells)
    return np.clip(low.max(axis=-1), 0.0, 1.0), np.clip(high.max(axis=-1), 0.0, 1.0)


def _variance(side: Side) -> Floats:
    return np.asarray(side.shares * (1 - side.shares) / side.rows[..., None])


TOTAL_VARIATION = Statistic(
    "total_variation",
    "Total variation distance",
    "share of rows",
    ALL,
    total_variation,
    "draws",
    null_mean=_null_mean,
    most=1.0,
    power=2,
)
L_INFINITY = Statistic(
    "l_infinity",
    "Largest difference of a share",
    "share of rows",
    SEPARATE,
    largest_difference,
    "draws",
    interval=_interval,
    most=1.0,
)
