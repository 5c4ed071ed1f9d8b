"""Hellinger distance."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.cell_law import LAW, cell_p_value
from monitor.core.statistics.entry import ALL, Statistic
from monitor.core.statistics.laws import mean_of_chi


def hellinger(binned: Binned) -> Floats:
    """Root of half the squared differences of the shares' roots, over the cells.

    Returns (...), in [0, 1]. An empty cell costs half the other side's share. No
    rows on a side: NaN. Missing values are rows of a cell of their own.
    Source: the 2-norm of sqrt(p) - sqrt(q), by the root of 2.
    """
    # Not 1 - sum sqrt(p q): that loses eight digits where the sides are nearly equal.
    apart = np.sqrt(binned.reference.shares) - np.sqrt(binned.live.shares)
    return np.asarray(np.minimum(np.sqrt((apart**2).sum(axis=-1) / 2), 1.0))


def _null_mean(binned: Binned) -> Floats:
    return mean_of_chi(binned.freedom) * np.sqrt(binned.row_noise / 8)


HELLINGER = Statistic(
    "hellinger",
    "Hellinger distance",
    "0 to 1",
    ALL,
    hellinger,
    LAW,
    null_mean=_null_mean,
    p_value=lambda binned, effect: cell_p_value(binned, 8 * effect**2),
    most=1.0,
    power=2,
)
