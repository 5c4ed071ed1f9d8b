"""Wasserstein distance: how far the rows would have to move, on average."""

from math import pi

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.entry import ORDERED, Statistic


def wasserstein(binned: Binned) -> Floats:
    """The first Wasserstein distance over the places, in the feature's unit.

    Returns (...), >= 0. Values outside of the reference's range count as at its
    ends; missing, non-finite and unseen ones are left out of both sides. No value on
    a side: NaN. A constant reference: 0, since its range has one end only; other
    statistics tell of what lies outside.
    Bound: from the distance on raw values it differs by at most half of each bin's
    width times the shares of both sides there.
    Law: no closed one; draws say it.
    Source: scipy.stats.wasserstein_distance(places, places, reference, live).
    """
    return _distance(binned, binned.layout.places)


def winsorised_wasserstein(binned: Binned) -> Floats:
    """The same between the reference's 0.1 % and 99.9 % quantiles, in the feature's unit.

    Where such a quantile lies within a bin that holds less than 1 % of the
    reference, the bin's inner edge stands for it (with 256 bins of equal share: the
    0.4 % and 99.6 % quantiles). So the outermost rows of the reference, which may lie
    anywhere, do not set the scale. Otherwise as `wasserstein`.
    """
    return _distance(binned, binned.layout.inner)


def scaled_wasserstein(binned: Binned) -> Floats:
    """The winsorised distance in standard deviations of the winsorised reference.

    A shift by one deviation gives about 1, and no single value changes that on
    either side. A reference without spread: NaN, since nothing is large or small
    beside it. Otherwise as `winsorised_wasserstein`.
    """
    return winsorised_wasserstein(binned) / _spread(binned)


def _spread(binned: Binned) -> Floats:
    return np.where(binned.layout.spread > 0, binned.layout.spread, np.nan)


def _distance(binned: Binned, places: Floats) -> Floats:
    gaps = np.diff(places, axis=-1)
    return np.asarray((np.abs(binned.differences[..., :-1]) * gaps).sum(axis=-1))


def _mean_distance(binned: Binned, places: Floats) -> Floats:
    """A mean absolute normal in each gap."""
    below = np.cumsum(binned.pooled_densities, axis=-1)[..., :-1]
    variances = np.clip(below * (1 - below), 0.0, None) * binned.value_noise[..., None]
    return np.asarray((np.sqrt(variances * 2 / pi) * np.diff(places, axis=-1)).sum(axis=-1))


def _error(binned: Binned, widths: Floats) -> Floats:
    held = binned.reference.densities + binned.live.densities
    return np.asarray((held * widths).sum(axis=-1) / 2)


WASSERSTEIN = Statistic(
    "wasserstein",
    "Wasserstein distance",
    "the feature's",
    ORDERED,
    wasserstein,
    "draws",
    null_mean=lambda binned: _mean_distance(binned, binned.layout.places),
    raw_error=lambda binned: _error(binned, binned.layout.widths),
    places=True,
    power=2,
)
WASSERSTEIN_WINSORISED = Statistic(
    "wasserstein_winsorised",
    "Wasserstein distance, winsorised",
    "the feature's",
    ORDERED,
    winsorised_wasserstein,
    "draws",
    null_mean=lambda binned: _mean_distance(binned, binned.layout.inner),
    raw_error=lambda binned: _error(binned, binned.layout.inner_widths),
    places=True,
    power=2,
)
WASSERSTEIN_SCALED = Statistic(
    "wasserstein_scaled",
    "Wasserstein distance, scaled",
    "reference deviations",
    ORDERED,
    scaled_wasserstein,
    "draws",
    null_mean=lambda binned: _mean_distance(binned, binned.layout.inner) / _spread(binned),
    raw_error=lambda binned: _error(binned, binned.layout.inner_widths) / _spread(binned),
    places=True,
    power=2,
)
