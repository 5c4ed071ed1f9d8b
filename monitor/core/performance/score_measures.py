"""Measures of classes' probabilities: how good they are, and how well they rank.

They are taken only while scores and answers agree: if most rows' largest score is not of
the class that was answered, then the columns' names are not known after all.
"""

from collections.abc import Callable
from math import nan, pi, sqrt

import numpy as np

from monitor.core.performance.class_measures import SKLEARN, positive_of
from monitor.core.performance.class_tally import ScoreSums
from monitor.core.performance.entry import Better, Estimate, Measure, Task
from monitor.core.performance.exact_sum import as_float, fraction_of
from monitor.core.performance.intervals import Z, normal, shrunk_variance, wilson
from monitor.core.performance.ranking import ranking_of
from monitor.core.performance.tally import Tally

NO_NAMES = "in most rows the largest score is not of the answered class: columns are misnamed"


def agrees(scores: ScoreSums) -> bool:
    return 2 * scores.agreeing > scores.rows


def _of_scores(make: Callable[[ScoreSums], Estimate]) -> Callable[[Tally], Estimate | None]:
    def estimate(tally: Tally) -> Estimate | None:
        scores = tally.classes.scores
        if not tally.are_classes or not scores.rows:
            return None
        return make(scores) if agrees(scores) else Estimate(nan, scores.rows, undefined=NO_NAMES)

    return estimate


def _mean(sums: list[int], rows: int, most: float) -> Estimate:
    mean = fraction_of(sums[0]) / rows
    variance = as_float(fraction_of(sums[1]) / rows - mean**2)
    value = as_float(mean)
    low, high = normal(value, variance, rows)
    return Estimate(value, rows, max(low, 0.0), min(high, most))


def _calibration_error(scores: ScoreSums) -> Estimate:
    value = chance = variance = 0.0
    for _, (rows, right, total) in sorted(scores.calibration.items()):
        confidence = as_float(fraction_of(total) / rows)
        weight = rows / scores.rows
        value += weight * abs(right / rows - confidence)
        # The mean distance of a share from its own chance: that of a normal from its middle.
        chance += weight * sqrt(2 / pi * confidence * (1 - confidence) / rows)
        variance += weight**2 * shrunk_variance(right, rows)
    half = Z * sqrt(variance)
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return Estimate(value, scores.rows, low, high, by_chance=chance)


def _ranking(tally: Tally) -> Estimate | None:
    classes = tally.classes
    if not tally.are_classes or positive_of(classes) is None or not classes.histogram.bins:
        return None
    counts = classes.histogram.counts()
    rows = int(counts.sum())
    if not agrees(classes.scores):
        return Estimate(nan, rows, undefined=NO_NAMES)
    found = ranking_of(counts)
    if found is None:
        return Estimate(nan, rows, undefined="the labelled rows with scores are all of one class")
    if found.variance == 0.0:
        low, high = wilson(found.value, min(found.negatives, found.positives))
    else:
        half = Z * sqrt(found.variance)
        low, high = found.value - half, found.value + half
    return Estimate(found.value, rows, max(low, 0.0), min(high, 1.0), binning=found.binning)


LOG_LOSS = Measure(
    "log_loss",
    "Log loss",
    Task.SCORES,
    Better.LOWER,
    "mean of -ln of the true class's score, of at least 2^-23",
    "normal",
    f"{SKLEARN}.log_loss",
    _of_scores(lambda scores: _mean(scores.log_loss, scores.rows, np.inf)),
)
BRIER = Measure(
    "brier",
    "Brier score",
    Task.SCORES,
    Better.LOWER,
    "mean squared distance of the scores from the truth; of two classes, of one of them",
    "normal",
    "Brier 1950, Monthly Weather Review 78",
    _of_scores(lambda scores: _mean(scores.squares, scores.rows, 2.0)),
)
ECE = Measure(
    "ece",
    "Calibration error (ECE)",
    Task.SCORES,
    Better.LOWER,
    "mean distance of the share of right rows from the largest score, over 15 equal bins of it",
    "delta method, Agresti-Coull by bin",
    "Guo et al. 2017, On Calibration of Modern Neural Networks",
    _of_scores(_calibration_error),
)
ROC_AUC = Measure(
    "roc_auc",
    "ROC AUC",
    Task.TWO_SCORES,
    Better.HIGHER,
    "chance that a row of the positive class scores higher than another; ties count one half",
    "DeLong, on the bins; of a perfect ranking, Wilson by the smaller class",
    "DeLong et al. 1988, Biometrics 44",
    _ranking,
)
