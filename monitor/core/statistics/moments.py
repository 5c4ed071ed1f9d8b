"""Mean, deviation and shape of both sides, over the winsorised places."""

from math import inf

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned, Side
from monitor.core.statistics.entry import ORDERED, Statistic
from monitor.core.statistics.laws import normal_sf
from monitor.core.statistics.normal_interval import normal_interval


def mean_of(binned: Binned, side: Side) -> Floats:
    """(...), in the feature's unit; a side without values: NaN."""
    return np.asarray((side.densities * binned.layout.inner).sum(axis=-1))


def central_moment(binned: Binned, side: Side, order: int) -> Floats:
    apart = binned.layout.inner - mean_of(binned, side)[..., None]
    return np.asarray((side.densities * apart**order).sum(axis=-1))


def deviation_of(binned: Binned, side: Side) -> Floats:
    """(...), in the feature's unit; of the values, not of an estimate (n, not n - 1)."""
    return np.sqrt(central_moment(binned, side, 2))


def skewness_of(binned: Binned, side: Side) -> Floats:
    """Third moment by the cubed deviation; no deviation: NaN."""
    return central_moment(binned, side, 3) / _or_nan(deviation_of(binned, side)) ** 3


def kurtosis_of(binned: Binned, side: Side) -> Floats:
    """Fourth moment by the squared variance, less 3; no deviation: NaN."""
    return central_moment(binned, side, 4) / _or_nan(central_moment(binned, side, 2)) ** 2 - 3


def mean_shift(binned: Binned) -> Floats:
    """Live mean less reference mean, in standard deviations of the reference.

    Returns (...). Both are winsorised, as for the scaled Wasserstein distance, which
    is the least that the mean's shift can be made of. No spread, no value: NaN.
    Bound: half of each bin's width times the shares of both sides there.
    Law: normal, with each side's own variance (Welch). Interval: the same.
    """
    return (mean_of(binned, binned.live) - mean_of(binned, binned.reference)) / _spread(binned)


def deviation_ratio(binned: Binned) -> Floats:
    """Live standard deviation by that of the reference, both winsorised.

    Returns (...), >= 0; 1 where nothing moved, below it where values draw together,
    0 where the live side is constant. No spread, no value: NaN.
    Bound: none is stated; that of each deviation is the root of the mean squared half width.
    """
    return deviation_of(binned, binned.live) / _or_nan(deviation_of(binned, binned.reference))


def skewness_shift(binned: Binned) -> Floats:
    """Live skewness less reference skewness, both winsorised; a constant side: NaN.

    Bound: none is stated.
    """
    return skewness_of(binned, binned.live) - skewness_of(binned, binned.reference)


def _or_nan(value: Floats) -> Floats:
    return np.where(value > 0, value, np.nan)


def _spread(binned: Binned) -> Floats:
    return _or_nan(binned.layout.spread)


def _mean_error(binned: Binned) -> Floats:
    """Standard error of the shift."""
    reference = central_moment(binned, binned.reference, 2) / binned.reference.values
    live = central_moment(binned, binned.live, 2) / binned.live.values
    return np.sqrt(reference + live) / _spread(binned)


def _mean_p_value(binned: Binned, effect: Floats) -> Floats:
    return 2 * normal_sf(np.abs(effect) / _mean_error(binned))


def _mean_interval(binned: Binned, effect: Floats, level: float) -> tuple[Floats, Floats]:
    return normal_interval(effect, _mean_error(binned), level)


def _raw_error(binned: Binned) -> Floats:
    held = binned.reference.densities + binned.live.densities
    return np.asarray((held * binned.layout.inner_widths).sum(axis=-1) / 2 / _spread(binned))


MEAN_SHIFT = Statistic(
    "mean_shift",
    "Shift of the mean",
    "reference deviations",
    ORDERED,
    mean_shift,
    "normal",
    null_mean=lambda binned: np.zeros_like(binned.value_noise),
    p_value=_mean_p_value,
    interval=_mean_interval,
    raw_error=_raw_error,
    least=-inf,
    places=True,
)
DEVIATION_RATIO = Statistic(
    "deviation_ratio",
    "Ratio of the standard deviations",
    "live / reference",
    ORDERED,
    deviation_ratio,
    "draws",
    neutral=1.0,
    places=True,
)
SKEWNESS_SHIFT = Statistic(
    "skewness_shift",
    "Shift of the skewness",
    "1",
    ORDERED,
    skewness_shift,
    "draws",
    least=-inf,
    places=True,
)
