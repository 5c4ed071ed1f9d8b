"""Jensen-Shannon distance."""

from math import log

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.cell_law import LAW, cell_p_value
from monitor.core.statistics.entry import ALL, Statistic
from monitor.core.statistics.laws import mean_of_chi

PSI_PER_BIT = 8 * log(2)  # a divergence in bits, on the scale of PSI


def jensen_shannon(binned: Binned) -> Floats:
    """Root of the Jensen-Shannon divergence in bits, over the cells.

    Returns (...), in [0, 1]. Empty cells need no smoothing: their term is 0 or
    the other side's share. No rows on a side: NaN. Missing values are rows of a
    cell of their own.
    Source: scipy.spatial.distance.jensenshannon(p, q, base=2).
    """
    p, q = binned.reference.shares, binned.live.shares
    middle = (p + q) / 2
    divergence = (_relative_bits(p, middle) + _relative_bits(q, middle)) / 2
    return np.asarray(np.sqrt(np.clip(divergence, 0.0, 1.0)))


def _relative_bits(p: Floats, q: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * np.log2(p / q))
    return np.asarray(terms.sum(axis=-1))


def _null_mean(binned: Binned) -> Floats:
    return mean_of_chi(binned.freedom) * np.sqrt(binned.row_noise / PSI_PER_BIT)


JENSEN_SHANNON = Statistic(
    "js",
    "Jensen-Shannon distance",
    "root of bits, 0 to 1",
    ALL,
    jensen_shannon,
    LAW,
    null_mean=_null_mean,
    p_value=lambda binned, effect: cell_p_value(binned, PSI_PER_BIT * effect**2),
    most=1.0,
    power=2,
)
