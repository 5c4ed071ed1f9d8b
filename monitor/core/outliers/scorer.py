"""The score of a row: how unlike the reference it is, and because of which features.

The score is minus twice the log likelihood of the row, up to a constant, in a model of the
reference that takes its features' own distributions as they are:
- a number is replaced by its place in the reference, in deviations of a normal
  distribution (normal scores), so units do not matter and heavy tails do no harm; the
  squared Mahalanobis distance of all numbers finds what single features do not show;
- a category counts -2 log(p / p of the commonest); and so does, of a number, that it is
  missing or not finite, or that it is there where it mostly is not;
- what is missing has no part in the distance: it is that of the numbers that are there.

Law: a row's score is a function of the row and the profile alone, to the last bit.

Source: the Gaussian copula as a density (Liu, Lafferty and Wasserman 2009, "The
nonparanormal"); categories as in HBOS (Goldstein and Dengel 2012), independent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import MISSING, NONFINITE, SLOTS, AnyArray, Floats, slots_of
from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.outliers.reference import Marginal, OutlierReference
from monitor.core.outliers.score_kernel import add_distances
from monitor.core.profile import FeatureProfile, ReferenceProfile

# Beyond the reference's range a number's place goes on by the logarithm of its distance, at
# first as fast as within: 10 deviations out are about 6 more, a million are 50 more. So a
# heavy tail, where such distances are usual, does not drown the other features.
TAIL = 4.0
PLACE_MAX = 100.0
VALUE = 0  # the slot of a number that is there

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Share:
    """What one feature adds to a row's score.

    drop:     by how much less the score would be without this value.
    expected: of a number, what the row's others make one expect; of a category, the
              commonest one; None: nothing is known.
    """

    feature: int
    drop: float
    expected: float | str | None


class Scorer:
    """Scores rows against a profile that has an outlier reference; never changed."""

    def __init__(self, profile: ReferenceProfile, reference: OutlierReference) -> None:
        self.reference = reference
        self._features = profile.features
        self._numbers = [place for place, f in enumerate(profile.features) if f.is_number]
        self._surprises = [
            _surprises(feature, marginal)
            for feature, marginal in zip(profile.features, reference.marginals, strict=True)
        ]

    def read(self, part: Part, counter: Counter, rows: Places) -> Floats | None:
        """(k, f): those rows of a part; text as its code. None: they do not fit the profile."""
        found = np.empty((len(rows), len(self._features)))
        for tensor in dict.fromkeys(feature.tensor for feature in self._features):
            block = counter.numbers(tensor, part.inputs, rows)
            if block is None:
                return None
            for place, feature in enumerate(self._features):
                if feature.tensor == tensor:
                    found[:, place] = block[:, feature.index]
        return found

    def scores(self, values: Floats) -> Floats:
        """(n,) of (n, f) values, as `read` gives them."""
        scores, places, slots = self._parts(values)
        for feature, table in enumerate(self._surprises):
            scores += table[slots[feature]]
        add_distances(places, self.reference.precision, scores)
        return scores

    def explain(self, row: Floats) -> list[Share]:
        """Of one row (f,): what each feature adds, most first; of equal ones the first."""
        _, places, slots = self._parts(row[None, :])
        found = []
        known = [at for at in range(len(self._numbers)) if not np.isnan(places[0, at])]
        # The whole row, then the row without each of its numbers.
        trials = np.repeat(places, 1 + len(known), axis=0)
        trials[1 + np.arange(len(known)), known] = np.nan
        distances = np.zeros(len(trials))
        add_distances(trials, self.reference.precision, distances)
        drops = dict(zip(known, (distances[0] - distances[1:]).tolist(), strict=True))
        at_of = {feature: at for at, feature in enumerate(self._numbers)}
        for feature, table in enumerate(self._surprises):
            drop, expected = float(table[slots[feature][0]]), self._commonest(feature)
            if (at := at_of.get(feature)) is not None:
                drop += drops.get(at, 0.0)
                trial = 1 + known.index(at) if at in drops else 0
                expected = self._value_at(feature, float(trials[trial, at]))
            found.append(Share(feature, drop, expected))
        return sorted(found, key=lambda share: (-share.drop, share.feature))

    def _parts(self, values: Floats) -> tuple[Floats, Floats, list[Places]]:
        """(n,) zeros, (n, w) places of the numbers, and of each feature the (n,) slots."""
        slots = [slots_in(f, values[:, i]) for i, f in enumerate(self._features)]
        marginals = self.reference.marginals
        places = np.full((len(values), len(self._numbers)), np.nan)
        for at, feature in enumerate(self._numbers):
            places[:, at] = places_of(values[:, feature], marginals[feature])
        return np.zeros(len(values)), places, slots

    def _value_at(self, feature: int, place: float) -> float | None:
        marginal = self.reference.marginals[feature]
        if not marginal.knots.size:
            return None
        return float(np.interp(place, marginal.places, marginal.knots))

    def _commonest(self, feature: int) -> float | str | None:
        named = self._features[feature]
        counts = {s: c for s, c in self.reference.marginals[feature].counts if s < named.named}
        if not counts:
            return None
        slot = max(counts, key=lambda s: (counts[s], -s))
        return named.categories[slot] if named.is_text else float(named.starts[slot])


def places_of(values: Floats, marginal: Marginal) -> Floats:
    """(n,) normal scores of values; NaN where they are no number, or none is known."""
    knots, places = marginal.knots, marginal.places
    if not knots.size:
        return np.full(values.shape, np.nan)
    finite = np.where(np.isfinite(values), values, np.nan)
    middle = float(np.interp(0.0, places, knots))
    found = np.interp(finite, knots, places)
    with np.errstate(over="ignore"):
        above, below = finite - knots[-1], knots[0] - finite
        found += _tail(above, knots[-1] - middle, places[-1], middle)
        found -= _tail(below, middle - knots[0], -places[0], middle)
    return np.clip(found, -PLACE_MAX, PLACE_MAX)


def _tail(beyond: Floats, span: float, deviations: float, middle: float) -> Floats:
    """How far a value's place lies outside, where `beyond` is positive."""
    unit = span / deviations if span > 0 and deviations > 0 else abs(middle) or 1.0
    found: Floats = TAIL * np.log1p(np.maximum(beyond, 0.0) / (TAIL * unit))
    return found


def slots_in(feature: FeatureProfile, values: Floats) -> Places:
    """(n,) which of the things that a marginal counts a value is."""
    if not feature.is_number:
        return slots_of(values, feature.starts, feature.high, feature.exact)
    found = np.where(np.isnan(values), MISSING, np.where(np.isinf(values), NONFINITE, VALUE))
    return found.astype(np.int64)


def _surprises(feature: FeatureProfile, marginal: Marginal) -> Floats:
    """(SLOTS,): -2 log(p / largest p) of each; half a row more everywhere, so none is infinite.

    Categories that are rare, new, or not in the half that was fitted cannot be told apart
    in live rows, so they are one, with the rows of all of them.
    """
    counts: Mapping[int, int] = dict(marginal.counts)
    own: Sequence[int] = [VALUE]
    if not feature.is_number:
        own = [slot for slot in range(feature.named) if counts.get(slot)]
    alone = {*own, MISSING, NONFINITE}
    rows = np.full(SLOTS, 0.5 + sum(c for slot, c in counts.items() if slot not in alone))
    for slot in alone:
        rows[slot] = 0.5 + counts.get(slot, 0)
    used = max(float(rows[slot]) for slot in alone) if feature.is_number else float(rows.max())
    found: Floats = 2.0 * (np.log(used) - np.log(rows))
    return found


def count_slots_in(feature: FeatureProfile, values: AnyArray) -> tuple[tuple[int, int], ...]:
    """(slot, rows) of a column, for its marginal."""
    found, rows = np.unique(slots_in(feature, values), return_counts=True)
    return tuple(zip(found.tolist(), rows.tolist(), strict=True))
