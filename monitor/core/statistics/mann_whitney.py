"""Mann-Whitney: how often a live value is the larger one."""

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.entry import ORDERED, Statistic
from monitor.core.statistics.laws import normal_sf
from monitor.core.statistics.normal_interval import normal_interval


def probability_of_larger(binned: Binned) -> Floats:
    """P(live > reference) + P(equal) / 2 of one value of each side.

    Returns (...), in [0, 1]; 1/2 when neither is the larger more often, above it when
    live values rose. Left out, and NaN: as for KS. A constant column: 1/2.
    Bound: values of one bin count as equal, which half of p q, summed, bounds.
    Law: normal, for either direction, corrected for ties and continuity.
    Interval: DeLong's; where no bins overlap it has no width, and says too much.
    Source: scipy.stats.mannwhitneyu(live, reference, method="asymptotic"), U / (n m).
    """
    return np.asarray((binned.live.densities * _placements(binned.reference.below)).sum(axis=-1))


def _placements(below: Floats) -> Floats:
    """Of each place: the share below it, and half of its own."""
    before = np.concatenate([np.zeros_like(below[..., :1]), below[..., :-1]], axis=-1)
    return np.asarray((before + below) / 2)


def _p_value(binned: Binned, effect: Floats) -> Floats:
    n, m = binned.reference.values, binned.live.values
    total = n + m
    ties: Counts = binned.reference.ordered + binned.live.ordered
    cubes = ties.astype(np.float64)
    spare = np.maximum(total * (total - 1), 1.0)
    variance = n * m / 12 * (total + 1 - ((cubes**3 - cubes) / spare[..., None]).sum(axis=-1))
    distance = np.maximum(np.abs(effect - 0.5) * n * m - 0.5, 0.0)
    z = distance / np.sqrt(np.where(variance > 0, variance, np.inf))
    return np.minimum(2 * normal_sf(z), 1.0)


def _interval(binned: Binned, effect: Floats, level: float) -> tuple[Floats, Floats]:
    reference = _variance(binned.reference.densities, _placements(binned.live.below))
    live = _variance(binned.live.densities, _placements(binned.reference.below))
    error = np.sqrt(reference / binned.reference.values + live / binned.live.values)
    low, high = normal_interval(effect, error, level)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _variance(densities: Floats, placements: Floats) -> Floats:
    mean = (densities * placements).sum(axis=-1, keepdims=True)
    return np.asarray((densities * (placements - mean) ** 2).sum(axis=-1))


def _error(binned: Binned) -> Floats:
    reference, live = binned.blurred
    return np.asarray((reference * live).sum(axis=-1) / 2)


MANN_WHITNEY = Statistic(
    "mann_whitney",
    "Mann-Whitney",
    "P(live > reference)",
    ORDERED,
    probability_of_larger,
    "normal",
    null_mean=lambda binned: np.full_like(binned.value_noise, 0.5),
    p_value=_p_value,
    interval=_interval,
    raw_error=_error,
    neutral=0.5,
    most=1.0,
    places=True,
)
