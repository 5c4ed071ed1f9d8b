"""What measures are to be expected of rows, from how many there are and their chances.

A measure is a function of how many rows of each cell are positive. Its value is that at the
expected numbers, and its gradient there says how their uncertainty becomes its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, nan, sqrt
from types import MappingProxyType

import numpy as np

from monitor.core.bins import Floats
from monitor.core.performance import MEASURES, Estimate, Measure
from monitor.core.performance.class_tally import LEAST_SCORE
from monitor.core.performance.intervals import Z, wilson


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Answered rows by score, rising: b scores.

    scores:   (b,) mean scores of the positive class.
    rows:     (b, 2) that were answered with the other class, and with the positive one.
    chance:   (b,) of being positive; cautious: the same for intervals, never quite 0 or 1.
    weights, variances: (b, g) how chances come from groups of labels, and (g,) theirs.
    """

    scores: Floats
    rows: Floats
    chance: Floats
    cautious: Floats
    weights: Floats
    variances: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """gradient: (b, 2) by the number of positive rows in each cell."""

    value: float
    gradient: Floats
    binning: float = 0.0


@dataclass(frozen=True, slots=True)
class EstimatedMeasure:
    """measure: the realised one; is_share: whether it lies in [0, 1].

    of: cells and chances (b,) -> value; NaN where the answers do not define it.
    """

    measure: Measure
    of: Callable[[Cells, Floats], Value]
    is_share: bool = True

    def estimate(self, cells: Cells) -> Estimate:
        """The 95 % interval is for the value that these very rows' labels will give.

        It counts that labels are chance (binomial by cell) and that the calibration is from
        few of them, by the delta method.
        """
        rows, found = int(cells.rows.sum()), self.of(cells, cells.chance)
        if not np.isfinite(found.value):
            return Estimate(nan, rows)
        careful = self.of(cells, cells.cautious)
        variance = _variance(cells, careful.gradient)
        if not self.is_share:
            half = Z * sqrt(variance)
            return Estimate(found.value, rows, max(found.value - half, 0.0), found.value + half)
        # Of as many rows as would leave this much doubt about a share.
        worth = careful.value * (1 - careful.value) / variance if variance > 0 else inf
        low, high = wilson(found.value, worth) if worth < inf else (found.value, found.value)
        return Estimate(found.value, rows, low, high, binning=found.binning)


def _variance(cells: Cells, gradient: Floats) -> float:
    chance = cells.cautious[:, None]
    of_labels = np.sum(gradient**2 * cells.rows * chance * (1 - chance))
    slopes = np.sum(gradient * cells.rows, axis=1) @ cells.weights
    return float(of_labels + np.sum(slopes**2 * cells.variances))


def _flat(cells: Cells, by_answer: tuple[float, float]) -> Floats:
    return np.broadcast_to(np.array(by_answer), cells.rows.shape)


def _accuracy(cells: Cells, chance: Floats) -> Value:
    rows, by_answer = cells.rows.sum(), cells.rows
    right = np.sum(by_answer[:, 0] * (1 - chance)) + np.sum(by_answer[:, 1] * chance)
    return Value(float(right / rows), _flat(cells, (-1 / rows, 1 / rows)))


def _precision(cells: Cells, chance: Floats) -> Value:
    said = cells.rows[:, 1].sum()
    if not said:
        return Value(nan, np.zeros_like(cells.rows))
    return Value(float(np.sum(cells.rows[:, 1] * chance) / said), _flat(cells, (0.0, 1 / said)))


def _recall(cells: Cells, chance: Floats) -> Value:
    true, both = np.sum(cells.rows.sum(axis=1) * chance), np.sum(cells.rows[:, 1] * chance)
    if not true:
        return Value(nan, np.zeros_like(cells.rows))
    value = float(both / true)
    return Value(value, _flat(cells, (-value / true, (1 - value) / true)))


def _f1(cells: Cells, chance: Floats) -> Value:
    either = np.sum(cells.rows.sum(axis=1) * chance) + cells.rows[:, 1].sum()
    if not either:
        return Value(nan, np.zeros_like(cells.rows))
    value = float(2 * np.sum(cells.rows[:, 1] * chance) / either)
    return Value(value, _flat(cells, (-value / either, (2 - value) / either)))


def _mean(if_positive: Floats, if_not: Floats, cells: Cells, chance: Floats) -> Value:
    """Of a loss of each row; both (b,)."""
    of_score, rows = cells.rows.sum(axis=1), cells.rows.sum()
    value = np.sum(of_score * (chance * if_positive + (1 - chance) * if_not)) / rows
    slope = (if_positive - if_not) / rows
    return Value(float(value), np.stack([slope, slope], axis=1))


def _log_loss(cells: Cells, chance: Floats) -> Value:
    positive, other = (
        -np.log(np.maximum(score, LEAST_SCORE)) for score in (cells.scores, 1 - cells.scores)
    )
    return _mean(positive, other, cells, chance)


def _brier(cells: Cells, chance: Floats) -> Value:
    return _mean((1 - cells.scores) ** 2, cells.scores**2, cells, chance)


def _roc_auc(cells: Cells, chance: Floats) -> Value:
    of_score = cells.rows.sum(axis=1)
    positives, negatives = of_score * chance, of_score * (1 - chance)
    m, n = positives.sum(), negatives.sum()
    if not m or not n:
        return Value(nan, np.zeros_like(cells.rows))
    below = np.cumsum(negatives) - negatives / 2  # negatives that a positive row beats
    above = m - np.cumsum(positives) + positives / 2  # positives that beat a negative row
    value = float(np.sum(positives * below) / (m * n))
    # A row that turns positive beats what is below, and no longer loses to what is above.
    slope = (below - above) / (m * n) - value * (1 / m - 1 / n)
    binning = float(np.sum(positives / m * (negatives / n)) / 2)
    return Value(value, np.stack([slope, slope], axis=1), binning)


ESTIMATED: Mapping[str, EstimatedMeasure] = MappingProxyType(
    {
        item.measure.name: item
        for item in (
            EstimatedMeasure(MEASURES["accuracy"], _accuracy),
            EstimatedMeasure(MEASURES["precision"], _precision),
            EstimatedMeasure(MEASURES["recall"], _recall),
            EstimatedMeasure(MEASURES["f1"], _f1),
            EstimatedMeasure(MEASURES["log_loss"], _log_loss, is_share=False),
            EstimatedMeasure(MEASURES["brier"], _brier),
            EstimatedMeasure(MEASURES["roc_auc"], _roc_auc),
        )
    }
)
