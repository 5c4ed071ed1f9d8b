"""Whether labels that came later say the same of scores as those before.

Where both an estimate and a label are known, the number of positive rows is held against
the one that was to be expected: over all of the rows, and in stretches of rising score.
"""

from math import asin, sqrt
from statistics import NormalDist

import numpy as np

from monitor.core.estimation.calibration import MIDDLE, Calibration
from monitor.core.performance.score_histogram import ScoreHistogram

ALPHA = 0.001  # of one look; there is one at each block, mostly at the same labels again
ROWS_MIN = 30  # fewer show nothing
STRETCHES_MAX = 5  # by score: more of them see less of a change that is all over
EXPECTED_MIN = 5.0  # rows that might be otherwise; of fewer, a sum is not like a normal


def disagree(calibration: Calibration, labelled: ScoreHistogram) -> bool:
    """labelled: other rows than those of the calibration; False too where they are too few."""
    if not labelled.bins:
        return False
    places, (negatives, positives) = np.array(sorted(labelled.bins)), labelled.counts()
    held = calibration.holds(MIDDLE[places])
    places, positives = places[held], positives[held]
    rows = negatives[held] + positives
    if rows.sum() < ROWS_MIN:
        return False
    weights = calibration.weights(MIDDLE[places])
    chance, cautious = weights @ calibration.shares, weights @ calibration.cautious
    total = int(rows.sum())
    stretches = min(STRETCHES_MAX, total // ROWS_MIN)
    # The stretch that the middle row of each score is in.
    stretch = np.floor((np.cumsum(rows) - rows / 2) * stretches / total).astype(np.int64)
    limit = NormalDist().inv_cdf(1 - ALPHA / 2 / (len(np.unique(stretch)) + 1))
    for number in np.unique(stretch):
        own = stretch == number
        count = int(rows[own].sum())
        share = float(rows[own] @ chance[own]) / count
        doubt = float((rows[own] / count @ weights[own]) ** 2 @ calibration.variances)
        if _distance(int(positives[own].sum()), count, share, doubt) > limit:
            return True
    doubt = float((rows @ weights) ** 2 @ calibration.variances)
    varied = float(np.sum(rows * cautious * (1 - cautious)))
    missed = max(abs(float(positives.sum() - rows @ chance)) - 0.5, 0.0)
    return varied >= EXPECTED_MIN and missed > limit * sqrt(varied + doubt)


def _distance(positives: int, rows: int, share: float, doubt: float) -> float:
    """Of the number of positives from `share`, known to within the variance `doubt`.

    In standard deviations, on the scale on which those of counts are alike.
    Source: Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial
    data", Biometrika 35.
    """
    found, expected = (
        asin(sqrt((count + 0.375) / (rows + 0.75))) for count in (positives, rows * share)
    )
    middle = (rows * share + 0.375) / (rows + 0.75)
    variance = 1 / (rows + 0.5) + doubt / (middle * (1 - middle))
    return 2 * abs(found - expected) / sqrt(variance)
