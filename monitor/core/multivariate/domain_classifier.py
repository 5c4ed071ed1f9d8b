"""Domain classifier: how well live rows can be told from the reference's."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.multivariate.entry import Draws, MultivariateStatistic, Sides
from monitor.core.multivariate.permutations import DRAWS, sides

PENALTY = 1.0  # half the squared coefficients count beside the log likelihood, as usual
STEPS = 8  # near chance the first is nearly the last; where sides are far apart it shows anyway
SCORE_DIGITS = 9  # equal rows are to have equal scores, whatever the order of additions


def _draws(given: Sides) -> Draws:
    """AUC of a logistic regression on rows that it was not trained on: 0.5 is chance.

    Two folds: trained on the one, measured on the other, and the mean of both. Each draw
    exchanges sides within the folds and trains anew, so it holds for the whole procedure.
    Linear: it finds shifts of means, and not of correlations alone.
    Source: Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests"; the
    ascent is Böhning and Lindsay's 1988, by one bound on the curvature for all draws.
    """
    folds = [_fold(given, part) for part in (0, 1)]
    found = [
        area(rows @ fit(trained_on, labels), live)
        for (trained_on, labels), (rows, live) in (folds, folds[::-1])
    ]
    mean = np.mean(found, axis=0)
    return Draws(mean, mean)


def _fold(given: Sides, part: int) -> tuple[Floats, Floats]:
    """Every second row of both sides with a 1 before it, and who is live: (n, 1 + draws)."""
    reference, live = given.reference[part::2], given.live[part::2]
    rows = np.vstack([reference, live])
    ones = np.ones((len(rows), 1))
    labels = sides(len(reference), len(live), given.seed + part, DRAWS)
    return np.hstack([ones, rows]), labels


def fit(rows: Floats, labels: Floats) -> Floats:
    """Coefficients of ridge logistic regressions: (w, d).

    rows: (n, w), the first column ones, which is not penalised; labels: 0 or 1, (n, d).
    """
    penalty = np.full(rows.shape[1], PENALTY)
    penalty[0] = 1e-9  # and yet the bound below can be inverted
    # p (1 - p) <= 1/4: no step overshoots.
    inverse = np.linalg.inv(rows.T @ rows / 4.0 + np.diag(penalty))
    found: Floats = np.zeros((rows.shape[1], labels.shape[1]))
    for _ in range(STEPS):
        expected = 0.5 + 0.5 * np.tanh(rows @ found / 2.0)
        found += inverse @ (rows.T @ (labels - expected) - penalty[:, None] * found)
    return found


def area(scores: Floats, live: Floats) -> Floats:
    """Chance that a live row scores higher than another, ties half: (n, d) twice, (d,)."""
    rounded = np.round(scores, SCORE_DIGITS)
    ranks = np.empty_like(rounded)
    for draw, column in enumerate(rounded.T):
        ordered = np.sort(column)
        below = np.searchsorted(ordered, column, side="left")
        ranks[:, draw] = (below + np.searchsorted(ordered, column, side="right") + 1) / 2.0
    n = live.sum(axis=0)
    above = np.einsum("nd,nd->d", ranks, live) - n * (n + 1) / 2.0
    shares: Floats = above / (n * (len(live) - n))
    return shares


DOMAIN_CLASSIFIER = MultivariateStatistic(
    "domain_classifier",
    "Domain classifier (AUC)",
    "0.5 to 1",
    "shifts along any one direction",
    _draws,
)
