"""Which segments' answers moved most against the reference, with chance taken off.

Of each segment: the total variation distance between the answers that its reference rows and
its live rows got, and what chance alone makes of that with so many rows. The p-value is that
of the two-sample chi-square; as many are looked at as there are segments with rows enough on
both sides, and those are named that Benjamini and Yekutieli's rule names, whose false ones
are at most ALPHA of all named on average, whatever the segments have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Counts, Floats
from monitor.core.profile import FeatureProfile, ReferenceProfile
from monitor.core.segment_reference import ANSWERS, VALUE_GROUPS, SegmentReference
from monitor.core.segment_words import name_of
from monitor.core.statistics.laws import chi_square_sf

ALPHA = 0.05
ROWS_MIN = 50  # on each side
EXPECTED_MIN = 5.0  # rows of a cell on the smaller side; rarer answers count as one


@dataclass(frozen=True, slots=True)
class Member:
    feature: str
    group: str  # which of its values, in words


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the rows got an answer."""

    answer: str
    reference: float
    live: float


@dataclass(frozen=True, slots=True)
class Segment:
    """effect: total variation distance, 0 to 1; by_chance: its mean where nothing moved.

    named: by the rule on false discoveries; most: the answer whose share moved most.
    """

    members: tuple[Member, ...]
    reference_rows: int
    live_rows: int
    effect: float
    by_chance: float
    p_value: float
    named: bool
    most: Share


@dataclass(frozen=True, slots=True)
class Ranking:
    """segments: named ones first, then by how far the effect is above chance."""

    looked_at: int
    segments: Sequence[Segment]


def rank_segments(
    profile: ReferenceProfile, reference: SegmentReference, live: Counts, shown: int
) -> Ranking:
    """live: (size,) in the reference's layout; shown: at most so many are returned."""
    before, after = reference.segments(reference.counts), reference.segments(live)
    enough = np.minimum(before.sum(axis=1), after.sum(axis=1)) >= ROWS_MIN
    places = np.flatnonzero(enough)
    before, after = before[places], after[places]
    effect, by_chance, p_value = _compare(before, after)
    named = discoveries(p_value)
    order = sorted(
        range(places.size), key=lambda i: (not named[i], by_chance[i] - effect[i], int(places[i]))
    )
    segments = [
        Segment(
            tuple(
                Member(profile.features[f].name, name_of(profile.features[f], group, VALUE_GROUPS))
                for f, group in reference.members(int(places[i]))
            ),
            int(before[i].sum()),
            int(after[i].sum()),
            float(effect[i]),
            float(by_chance[i]),
            float(p_value[i]),
            bool(named[i]),
            _most(profile.predictions[0], before[i], after[i]),
        )
        for i in order[:shown]
    ]
    return Ranking(places.size, segments)


def discoveries(p_values: Floats) -> NDArray[np.bool_]:
    """(s,): which are named, so that at most ALPHA of those are false on average.

    Source: Benjamini and Yekutieli 2001, "The control of the false discovery rate in multiple
    testing under dependency", Ann. Stat. 29.
    """
    total = p_values.size
    if not total:
        return np.zeros(0, dtype=np.bool_)
    level = ALPHA / (total * (1.0 / np.arange(1, total + 1)).sum())
    ordered = np.sort(p_values)
    passed = np.flatnonzero(ordered <= level * np.arange(1, total + 1))
    named: NDArray[np.bool_] = p_values <= (ordered[passed[-1]] if passed.size else -1.0)
    return named


def _compare(before: Counts, after: Counts) -> tuple[Floats, Floats, Floats]:
    """Effect, its mean by chance, and p-value of each segment: (s,)."""
    n, m = before.sum(axis=1, keepdims=True), after.sum(axis=1, keepdims=True)
    pooled = (before + after) / np.maximum(n + m, 1)
    rare = pooled * np.minimum(n, m) < EXPECTED_MIN
    p, q = (
        _together(side, rare) / np.maximum(side.sum(axis=1, keepdims=True), 1)
        for side in (before, after)
    )
    noise = 1.0 / np.maximum(n, 1) + 1.0 / np.maximum(m, 1)
    h = (p * n + q * m) / np.maximum(n + m, 1)
    effect = np.abs(p - q).sum(axis=1) / 2
    # The mean distance of a normal from its middle, cell by cell.
    by_chance = np.sqrt(2 / pi * h * (1 - h) * noise).sum(axis=1) / 2
    chi_square = ((p - q) ** 2 / np.where(h > 0, h, 1.0)).sum(axis=1) / noise[:, 0]
    freedom = np.maximum((h > 0).sum(axis=1) - 1, 0)
    return effect, by_chance, chi_square_sf(chi_square, freedom.astype(np.float64))


def _together(counts: Counts, rare: NDArray[np.bool_]) -> Counts:
    """(s, CELLS + 1): the rare cells' rows in a cell of their own."""
    joined = np.where(rare, counts, 0).sum(axis=1, keepdims=True)
    return np.concatenate([np.where(rare, 0, counts), joined], axis=1)


def _most(answer: FeatureProfile, before: Counts, after: Counts) -> Share:
    p, q = before / before.sum(), after / after.sum()
    cell = int(np.argmax(np.abs(p - q)))
    return Share(name_of(answer, cell, ANSWERS), float(p[cell]), float(q[cell]))
