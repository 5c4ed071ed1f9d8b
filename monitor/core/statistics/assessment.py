"""The whole table for one feature: effect, null mean, interval, p-value.

A tenth of a second or so for one feature, so it is made when somebody asks for it
and never for a block. Effect sizes alone cost a few microseconds a feature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan, sqrt

import numpy as np

from monitor.core.bins import BINS, UNSEEN, Counts, Floats
from monitor.core.profile import FeatureProfile
from monitor.core.statistics.binned import Binned, Layout
from monitor.core.statistics.draws import redrawn, seed_of, unmoved
from monitor.core.statistics.entry import Statistic

LEVEL = 0.95
# Values that a discrete reference never held have no place in its order. If more of
# them came than this share of the noise (the root of 1/n + 1/m), what is left of the
# live side is no fair sample of it, and a p-value would be small with nothing moved.
LEFT_OUT_MAX = 0.1
# The cells of a discrete or categorical reference are the values it happened to hold. It
# lacks as many rows of others as it holds values only once (Good and Turing), and live
# rows of those make a difference with nothing moved. More than this share of chi-square's
# own deviation, and p-values of cells would be small for that alone.
NOVEL_MAX = 0.25
# The cells of a continuous reference end at rows of its own. With fewer rows their shares
# are so rough that p-values of cells fall below 0.05 twice as often as they should.
CONTINUOUS_ROWS_MIN = 100
# Two ways to the same number may differ in the last digits; draws that equal the
# effect must count as equal.
SAME = 1e-12


@dataclass(frozen=True, slots=True)
class Assessment:
    """One statistic of one feature; NaN where it is not defined.

    null_mean: what chance alone makes of the effect, on average.
    low, high: LEVEL interval for the effect without sampling error.
    p_value:   chance of such an effect or a larger one if nothing has moved. For one
               look: many features or many looks make small ones by themselves. NaN too
               where the order lacks too many live values, a reference with a long tail
               too many cells, or a continuous one has too few rows to cut cells by.
    drawn:     the p-value comes from draws, since the law does not hold for so few rows
               or there is none.
    raw_error: how far the effect on raw values may be away; None: exact or not bounded.
    """

    statistic: Statistic
    effect: float
    null_mean: float
    low: float
    high: float
    p_value: float
    drawn: bool
    raw_error: float | None


def assess(
    feature: FeatureProfile, live: Counts, statistics: Mapping[str, Statistic]
) -> list[Assessment]:
    """Every statistic that says something about the feature's kind, in the table's order.

    live: (SLOTS,). Pure: the same counts give the same numbers, draws included.
    """
    layout, reference = Layout.of([feature]), feature.counts
    binned = Binned.of(layout, reference[None], live[None])
    chosen = [item for item in statistics.values() if feature.kind in item.kinds]
    if not reference.any() or not live.any():
        return [Assessment(item, nan, nan, nan, nan, nan, False, None) for item in chosen]
    seed = seed_of(reference, live)
    again = Binned.of(layout, *redrawn(reference, live, seed))
    null = Binned.of(layout, *unmoved(reference, live, seed))
    fair = {
        True: int(live[UNSEEN]) / live.sum() <= LEFT_OUT_MAX * np.sqrt(binned.row_noise[0]),
        False: _has_fair_cells(feature, float(binned.freedom[0])),
    }
    with np.errstate(over="ignore", invalid="ignore"):
        return [_assess(item, binned, again, null, fair[item.places]) for item in chosen]


def _has_fair_cells(feature: FeatureProfile, freedom: float) -> bool:
    """Whether with nothing moved live rows fall into the cells as reference rows did."""
    if feature.exact:
        return _novel_rows(feature) <= NOVEL_MAX * sqrt(2 * freedom)
    values = int(feature.counts[:BINS].sum())
    return values == 0 or values >= CONTINUOUS_ROWS_MIN


def _novel_rows(feature: FeatureProfile) -> float:
    """How many rows of as many as an exact reference has hold a value that it lacks."""
    once = float(np.count_nonzero(feature.counts[:BINS] == 1))
    if not feature.rare:
        return once
    # Of the rare ones only the sum was kept, and what one half lacks of the other.
    return max(once, feature.novel / max(feature.held, 1) * float(feature.counts.sum()))


def _assess(item: Statistic, binned: Binned, again: Binned, null: Binned, fair: bool) -> Assessment:
    effect = item.effect(binned)
    p_value = item.p_value(binned, effect) if item.p_value and fair else np.array([nan])
    drawn = isnan(p_value[0]) and not isnan(effect[0]) and fair
    needed = drawn or item.null_mean is None
    by_chance = item.effect(null)[:, 0] if needed else np.zeros(0)
    low, high = (
        item.interval(binned, effect, LEVEL) if item.interval else _resampled(item, binned, again)
    )
    return Assessment(
        item,
        float(effect[0]),
        float(item.null_mean(binned)[0]) if item.null_mean else _mean(by_chance),
        float(low[0]),
        float(high[0]),
        _share_beyond(item, float(effect[0]), by_chance) if drawn else float(p_value[0]),
        drawn,
        float(item.raw_error(binned)[0]) if item.raw_error else None,
    )


def _resampled(item: Statistic, binned: Binned, again: Binned) -> tuple[Floats, Floats]:
    """A bootstrap interval within the statistic's range.

    The draws of a distance are turned round about the effect, as squares: what chance
    adds to it, it adds to the draws once more, so turned round it is taken off. Near
    no change the plain percentiles would hold the truth hardly ever. A signed number
    has no such bias, and a quantile none of the symmetry that turning round needs.
    """
    size = item.uncorrected or item.effect
    effect, drawn = float(size(binned)[0]), size(again)[:, 0]
    known = drawn[~np.isnan(drawn)]
    if isnan(effect) or not known.size:
        return np.array([nan]), np.array([nan])
    outer = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if not item.signed:
        turned = np.maximum(2 * effect**item.power - outer[::-1] ** item.power, 0.0)
        outer = turned ** (1 / item.power)
    low, high = np.clip(outer, item.least, item.most)
    return np.array([low]), np.array([high])


def _share_beyond(item: Statistic, effect: float, by_chance: Floats) -> float:
    """The p-value by draws, the data counted as one of them: never 0."""
    known = by_chance[~np.isnan(by_chance)]
    far = np.abs(known - item.neutral) >= abs(effect - item.neutral) * (1 - SAME)
    return (1 + int(far.sum())) / (1 + known.size)


def _mean(by_chance: Floats) -> float:
    known = by_chance[~np.isnan(by_chance)]
    return float(known.mean()) if known.size else nan
