"""Whether a feature's values are the reference's times a constant, as after a change of unit.

With X the reference, P(k X < e) = P(X < e / k): the reference's own distribution says what
a histogram over its bins would be for each k. A k that explains nearly all of a difference
is reported, or the range of those that do: bins beyond the reference's range are one, so
how far beyond cannot be said.
"""

from dataclasses import dataclass

import numpy as np

from monitor.core.bins import BINS, Counts, Floats, ordered_counts
from monitor.core.profile import FeatureKind, FeatureProfile

FACTOR_MIN = 2.0  # smaller factors look like drift: prices rise, units jump
FACTOR_MAX = 2.0**20
PER_OCTAVE = 4
EDGES = 24
# Of the difference at most this share may be left once the factor is taken account of.
LEFT_MAX = 0.25
# Values that are all beyond one end of the range may have been shifted as well.
BEYOND_MAX = 0.99
# A bin of more than this holds a value that is repeated, at its beginning.
SPREAD_SHARE = 1.5 / BINS

# Smaller factors are tried as well: what one of them may have done is no change of unit.
_STEPS = np.arange(1.0, np.log2(FACTOR_MAX) * PER_OCTAVE + 1) / PER_OCTAVE
FACTORS: Floats = 2.0 ** np.concatenate([-_STEPS[::-1], _STEPS])
_IS_UNIT = np.maximum(FACTORS, 1.0 / FACTORS) >= FACTOR_MIN


@dataclass(frozen=True, slots=True)
class UnitChange:
    """Factors from `low` to `high` explain what is seen; `best` of them best."""

    low: float
    best: float
    high: float

    def __str__(self) -> str:
        if self.low <= FACTORS[0]:
            return f"multiplied by {self.high:.2g} or less"
        if self.high >= FACTORS[-1]:
            return f"multiplied by {self.low:.2g} or more"
        return f"multiplied by about {self.best:.2g}"


def unit_change(feature: FeatureProfile, live: Counts, moved_min: float) -> UnitChange | None:
    """The factor by which live values differ from the reference's; None if none explains it.

    live:      (SLOTS,) of the feature.
    moved_min: the largest distance of the two distributions that is no change.
    Only of continuous features: what a discrete one never held has no place in an order.
    """
    if feature.kind is not FeatureKind.CONTINUOUS or feature.starts.size < 2:
        return None
    reference, now = ordered_counts(feature.counts), ordered_counts(live)
    if reference.sum() == 0 or now.sum() == 0:
        return None
    if max(now[0], now[-1]) > BEYOND_MAX * now.sum():
        return None
    ends = np.append(feature.starts, feature.high)
    # P(value < end) for each start, P(value <= high) for the last.
    below = np.cumsum(now)[: ends.size] / now.sum()
    chosen = np.unique(np.linspace(0, ends.size - 1, min(EDGES, ends.size)).astype(np.int64))
    law = _Law(feature, reference)
    moved = float(np.max(np.abs(law.below(ends[chosen]) - below[chosen])))
    if moved <= moved_min:
        return None
    expected = law.below(ends[chosen][None, :] / FACTORS[:, None])
    left = np.max(np.abs(expected - below[chosen]), axis=1)
    fits, best = np.flatnonzero((left <= LEFT_MAX * moved) & _IS_UNIT), int(np.argmin(left))
    may_be_drift = not _IS_UNIT[best] or np.min(left[~_IS_UNIT]) <= moved_min
    if fits.size == 0 or may_be_drift:
        return None
    return UnitChange(float(FACTORS[fits[0]]), float(FACTORS[best]), float(FACTORS[fits[-1]]))


class _Law:
    """The reference's distribution, between its edges too."""

    def __init__(self, feature: FeatureProfile, ordered: Counts) -> None:
        """ordered: the reference's counts in their order."""
        size = feature.starts.size
        shares = ordered / ordered.sum()
        before = np.cumsum(shares)[:size]
        inside = shares[1 : size + 1]
        repeated = np.where(inside > SPREAD_SHARE, inside - 1.0 / BINS, 0.0)
        after_start = np.nextafter(feature.starts, np.inf)
        order = np.stack([feature.starts, after_start], axis=1).ravel()
        self._places = np.append(order, feature.high)
        values = np.stack([before, before + repeated], axis=1).ravel()
        self._values = np.append(values, before[-1] + inside[-1])

    def below(self, places: Floats) -> Floats:
        """P(value < place) for places of any shape."""
        found: Floats = np.interp(places, self._places, self._values, left=0.0, right=1.0)
        return found
