"""Kolmogorov-Smirnov distance."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.entry import ALL, Statistic
from monitor.core.statistics.laws import kolmogorov_sf


def kolmogorov_smirnov(binned: Binned) -> Floats:
    """Largest difference of the two cumulative shares, over the places.

    Returns (...), in [0, 1]. Missing, non-finite and unseen values have no place
    and are left out of both sides; a side without any value gives NaN. Ties and
    empty bins need no care: a share that does not move adds no difference.
    Categories stand in the order of their bins, which the reference fixed; there it
    is a lower bound of the total variation among the known ones.
    Bound: at most the largest share that both sides hold of one place is missing
    from the distance on raw values (1/256, plus ties).
    Law: Kolmogorov's. Ties make it conservative, never wrong.
    Source: scipy.stats.ks_2samp on the bin numbers gives the same number.
    """
    return np.asarray(np.abs(binned.differences).max(axis=-1))


def _missing_from_raw(binned: Binned) -> Floats:
    return np.asarray(np.minimum(*binned.blurred).max(axis=-1))


KS = Statistic(
    "ks",
    "Kolmogorov-Smirnov distance",
    "share of rows",
    ALL,
    kolmogorov_smirnov,
    "Kolmogorov",
    p_value=lambda binned, effect: kolmogorov_sf(effect / np.sqrt(binned.value_noise)),
    raw_error=_missing_from_raw,
    most=1.0,
    places=True,
    power=2,
)
