"""Total variation and L-infinity: the differences of the shares themselves."""

from math import pi

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.entry import ALL, SEPARATE, Statistic


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
    """
    return np.asarray(np.abs(binned.reference.shares - binned.live.shares).max(axis=-1))


def _null_mean(binned: Binned) -> Floats:
    """A mean absolute normal for each cell."""
    h = binned.pooled_shares
    deviations = np.sqrt(h * (1 - h) * binned.row_noise[..., None])
    return np.asarray(deviations.sum(axis=-1) / np.sqrt(2 * pi))


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
    most=1.0,
    power=2,
)
