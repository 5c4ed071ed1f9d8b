"""From 256 bins of a reference to the few bars that tell it to a person; no drawing here.

Bins of equal mass say nothing in a picture, all bars of the reference being equal. So
a range is cut anew into equal widths: between the reference's 1 % and 99 % quantiles,
so that a long tail does not press everything into one bar, and what lies beyond gets
a bar of its own at either end.
"""

from dataclasses import dataclass

import numpy as np

from monitor.core.bins import ABOVE, BELOW, BINS, UNSEEN, Counts, Floats
from monitor.core.effects import Effect
from monitor.core.profile import FeatureKind, FeatureProfile
from monitor.report.words import number

BARS = 32
VALUES_MAX = 24  # bars of a discrete feature
CATEGORIES_SHOWN = 8
TAIL = 0.01
HEAVY = 2.0  # times the share of a bin: too much for rows that are spread out
# Where all is positive and the top is so many times the median, equal widths of the
# logarithm show more.
LOGARITHMIC_FROM = 20.0


@dataclass(frozen=True, slots=True)
class Bars:
    """Shares of the rows that have a value, in the order of the values.

    labels: one per bar, or the two ends of a range.
    tails:  the first and last bar are what lies beyond the range.
    """

    reference: Floats
    live: Floats
    labels: tuple[str, ...]
    tails: bool = False
    logarithmic: bool = False


def bars_of(effect: Effect) -> Bars | None:
    """None: the reference or the live side has no value to show."""
    feature, live = effect.feature, effect.live
    size = feature.starts.size
    if not size or not _has_values(feature.counts) or not _has_values(live):
        return None
    if feature.kind is FeatureKind.CATEGORICAL:
        return _categories(feature, live)
    if feature.exact:
        return _values(feature, live)
    return _range(feature, live)


def _has_values(counts: Counts) -> bool:
    return bool(counts[:BINS].any() or counts[[BELOW, ABOVE, UNSEEN]].any())


def _shares(counts: Counts) -> Floats:
    return np.asarray(counts / max(int(counts.sum()), 1), dtype=np.float64)


def _categories(feature: FeatureProfile, live: Counts) -> Bars:
    """The commonest on either side, the rest as one, and what the reference never held."""
    size = feature.starts.size
    sides = [_shares(np.append(c[:size], c[UNSEEN])) for c in (feature.counts, live)]
    larger = np.maximum(*sides)[:size]
    chosen = np.argsort(-larger, kind="stable")[:CATEGORIES_SHOWN]
    labels = [feature.categories[code] for code in chosen]
    rest = size - chosen.size
    shown = [side[chosen] for side in sides]
    if rest:
        labels.append(f"{rest} more" if rest > 1 else "1 more")
        others = [side[:size].sum() - part.sum() for side, part in zip(sides, shown, strict=True)]
        shown = [np.append(part, max(o, 0.0)) for part, o in zip(shown, others, strict=True)]
    if live[UNSEEN]:
        labels.append("unseen")
        shown = [np.append(part, side[-1]) for part, side in zip(shown, sides, strict=True)]
    return Bars(shown[0], shown[1], tuple(labels))


def _values(feature: FeatureProfile, live: Counts) -> Bars:
    """A bar for each number, or for each few neighbours, and one for what was never seen."""
    size, values = feature.starts.size, feature.starts
    groups = [*np.array_split(np.arange(size), min(size, VALUES_MAX))]
    labels = [
        number(values[g[0]]) if len(g) == 1 else f"{number(values[g[0]])}–{number(values[g[-1]])}"
        for g in groups
    ]
    if live[UNSEEN]:
        groups.append(np.array([UNSEEN]))
        labels.append("unseen")
    reference, now = (
        _shares(np.array([counts[group].sum() for group in groups]))
        for counts in (feature.counts, live)
    )
    return Bars(reference, now, tuple(labels))


def _range(feature: FeatureProfile, live: Counts) -> Bars:
    (edges, before), (_, now) = _cumulative(feature, feature.counts), _cumulative(feature, live)
    low, middle, high = (float(np.interp(q, before, edges)) for q in (TAIL, 0.5, 1 - TAIL))
    if high <= low:
        low, high = float(edges[0]), float(edges[-1])
    logarithmic = bool(edges[0] > 0 and high > LOGARITHMIC_FROM * middle)
    grid = np.geomspace(low, high, BARS + 1) if logarithmic else np.linspace(low, high, BARS + 1)
    bars = []
    for side in (before, now):
        reached = np.interp(grid, edges, side)
        inside = np.diff(reached)
        bars.append(np.concatenate([[reached[0]], inside, [1 - reached[-1]]]))
    return Bars(bars[0], bars[1], (number(low), number(high)), tails=True, logarithmic=logarithmic)


def _cumulative(feature: FeatureProfile, counts: Counts) -> tuple[Floats, Floats]:
    """Places and the share of the ordered rows below each: two of (2 m + 1,).

    Rows are even within a bin, but for one that holds more than its share of the
    reference: what is in it is the value at its start, which many rows have.
    """
    starts, size = feature.starts, feature.starts.size
    usual = feature.counts[:size] / max(int(feature.counts[:size].sum()), 1)
    one_value = usual > HEAVY / BINS
    total = max(int(counts[:BINS].sum() + counts[BELOW] + counts[ABOVE]), 1)
    inside = counts[:size] / total
    ahead = counts[BELOW] / total + np.concatenate([[0.0], np.cumsum(inside)])
    just_after = np.nextafter(starts, np.inf)
    places = np.append(np.stack([starts, just_after], axis=1), max(feature.high, just_after[-1]))
    below = np.stack([ahead[:-1], ahead[:-1] + np.where(one_value, inside, 0.0)], axis=1)
    return places, np.append(below, ahead[-1])
