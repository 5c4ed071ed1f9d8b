"""Make an outlier reference: half of the rows say what is usual, the others how unusual."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from monitor.core.bins import AnyArray, Floats
from monitor.core.mixing import mixed
from monitor.core.outliers.reference import FEATURES_MAX, HELD_MIN, Marginal, OutlierReference
from monitor.core.outliers.scorer import Scorer, count_slots_in, places_of
from monitor.core.profile import DISCRETE_VALUES_MAX, ReferenceProfile, held_out, numbers_of

SHARE = 0.001  # of the reference's rows are outliers by definition: 1 in 1,000
BEYOND_MIN = 10  # held out rows that make the threshold: of fewer, chance would
ROWS_MAX = 200_000  # of the reference: 100 held out rows are then above the threshold
KNOTS = 33  # of a number: every quarter of a deviation
# No direction varies by less than this share of a feature's variance: copies of a feature
# may differ by rounding alone, and that is no outlier.
EIGENVALUE_MIN = 0.01
CHUNK = 8192  # rows at a time


def outliers_of_reference(
    profile: ReferenceProfile, columns: Sequence[AnyArray]
) -> OutlierReference | None:
    """columns: (n,) of each feature, as it was fitted. None: too few rows, or too many features."""
    features = profile.features
    if not features or len(features) > FEATURES_MAX:
        return None
    step = -(-profile.rows // ROWS_MAX)
    drawn = np.flatnonzero(mixed(np.arange(profile.rows)) % np.uint64(step) == 0)
    fitted = held_out(profile.rows)[drawn]
    if np.count_nonzero(~fitted) < HELD_MIN or not fitted.any():
        return None
    values = np.stack(
        [numbers_of(c[drawn], f) for c, f in zip(columns, features, strict=True)], axis=1
    )
    own, held = values[fitted], values[~fitted]
    marginals = tuple(
        Marginal(
            *(_knots(own[:, i]) if feature.is_number else (np.zeros(0), np.zeros(0))),
            count_slots_in(feature, own[:, i]),
        )
        for i, feature in enumerate(features)
    )
    numbers = [place for place, feature in enumerate(features) if feature.is_number]
    bare = OutlierReference(
        marginals, _precision(own[:, numbers], [marginals[p] for p in numbers]), 0.0, 1, 1
    )
    scorer = Scorer(profile, bare)
    scores = np.concatenate(
        [scorer.scores(held[at : at + CHUNK]) for at in range(0, len(held), CHUNK)]
    )
    beyond = max(round(SHARE * len(held)), BEYOND_MIN)
    threshold = float(np.sort(scores)[-beyond])
    return OutlierReference(marginals, bare.precision, threshold, beyond, len(held))


def _knots(column: Floats) -> tuple[Floats, Floats]:
    """Values and their normal scores: each value of few, else quantiles at even scores."""
    ordered = np.sort(column[np.isfinite(column)])
    rows = ordered.size
    if not rows:
        return np.zeros(0), np.zeros(0)
    normal = NormalDist()
    values, counts = np.unique(ordered, return_counts=True)
    if values.size <= DISCRETE_VALUES_MAX:
        middles = (np.cumsum(counts) - counts / 2) / rows
        return values, np.array([normal.inv_cdf(float(p)) for p in middles])
    end = normal.inv_cdf(1.0 - 0.5 / rows)
    scores = np.linspace(-end, end, KNOTS)
    ranks = [min(int(normal.cdf(float(score)) * rows), rows - 1) for score in scores]
    knots, which = np.unique(ordered[ranks], return_inverse=True)
    return knots, np.bincount(which, scores) / np.bincount(which)  # a lump stands at its middle


def _precision(columns: Floats, marginals: Sequence[Marginal]) -> Floats:
    """(w, w): the inverse of the correlations of normal scores, over rows that have both."""
    width = columns.shape[1]
    if not width:
        return np.zeros((0, 0))
    places = np.stack(
        [places_of(columns[:, i], marginal) for i, marginal in enumerate(marginals)], axis=1
    )
    known = ~np.isnan(places)
    rows = np.maximum(known.sum(axis=0), 1)
    zeros = np.where(known, places, 0.0)
    centred = np.where(known, zeros - zeros.sum(axis=0) / rows, 0.0)
    both = known.astype(np.float64)
    pairs = np.maximum(both.T @ both, 1.0)
    covariance = centred.T @ centred / pairs
    deviation = np.sqrt(np.diag(covariance))
    scale = np.where(deviation > 0, deviation, 1.0)
    correlation = covariance / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    sizes, directions = np.linalg.eigh(correlation)
    held = (directions * np.maximum(sizes, EIGENVALUE_MIN)) @ directions.T
    unit = np.sqrt(np.diag(held))
    inverse = np.linalg.inv(held / np.outer(unit, unit))
    symmetric: Floats = np.ascontiguousarray((inverse + inverse.T) / 2)
    return symmetric
