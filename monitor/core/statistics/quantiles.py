"""Quantiles of both sides, and how far they moved."""

from math import inf

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned, Side
from monitor.core.statistics.entry import ORDERED, Effect, Statistic


def quantile_of(binned: Binned, side: Side, q: float) -> Floats:
    """The place below or at which a share q of the side lies: (...), in the feature's unit.

    Bound: the raw quantile lies in the same bin, so half of its width away at most;
    outside of the reference's range it is shown at the range's end. No value: NaN.
    Source: numpy.quantile(values, q, method="inverted_cdf") on the places.
    """
    return _at(side, binned.layout.places, q)


def _at(side: Side, values: Floats, q: float) -> Floats:
    reached = np.argmax(side.below >= q, axis=-1)[..., None]
    found = np.take_along_axis(np.broadcast_to(values, side.below.shape), reached, axis=-1)
    return np.where(side.values > 0, found[..., 0], np.nan)


def _shift(q: float) -> Effect:
    def shift(binned: Binned) -> Floats:
        """Live quantile less reference quantile, in standard deviations of the reference.

        Returns (...). No spread, no value: NaN. Moves by whole bins: 1/256 of the
        reference's rows. Law: no closed one, since densities are not known; draws say it.
        """
        moved = quantile_of(binned, binned.live, q) - quantile_of(binned, binned.reference, q)
        return moved / _spread(binned)

    return shift


def _error(q: float) -> Effect:
    def error(binned: Binned) -> Floats:
        widths = binned.layout.widths
        sides = (binned.reference, binned.live)
        return sum(_at(side, widths, q) for side in sides) / 2 / _spread(binned)

    return error


def _spread(binned: Binned) -> Floats:
    return np.where(binned.layout.spread > 0, binned.layout.spread, np.nan)


def _statistic(name: str, title: str, q: float) -> Statistic:
    return Statistic(
        name,
        title,
        "reference deviations",
        ORDERED,
        _shift(q),
        "draws",
        raw_error=_error(q),
        least=-inf,
        places=True,
    )


P05_SHIFT = _statistic("p05_shift", "Shift of the 5 % quantile", 0.05)
MEDIAN_SHIFT = _statistic("median_shift", "Shift of the median", 0.5)
P95_SHIFT = _statistic("p95_shift", "Shift of the 95 % quantile", 0.95)
