"""The loss of a block's rows by what their scores meant before: evidence that waits for no label.

Laws:
- it is no higher than what a flawless calibration would say of the same rows, but for the
  chance ALPHA: what the calibration does not know is taken off, and a row that it says
  nothing of costs nothing. An e-detector that bets on a rise gathers no more by it than by
  the flawless one, whose null is that of the realised loss;
- a function of sums of whole numbers, so the order of a block's rows is immaterial.
"""

from math import sqrt
from statistics import NormalDist

import numpy as np

from monitor.core.bins import Floats
from monitor.core.block import LossSum
from monitor.core.estimation.answered import UNIT, AnsweredScores
from monitor.core.estimation.calibration import Calibration
from monitor.core.predictions import LOSS_UNITS

ALPHA = 0.001  # that a calibration's own error is larger than what is taken off for it
Z = NormalDist().inv_cdf(1 - ALPHA)


def estimated_loss(
    answered: AnsweredScores, calibration: Calibration, scale: float | None
) -> LossSum:
    """The rows of a block, and the least loss that they are estimated to have.

    scale: of an answer that is the probability itself, the error that costs all; None: the
           answer is a class, and costs 1 if it is wrong.
    """
    used = np.flatnonzero(answered.rows.any(axis=1))
    of_answer = answered.rows[used].astype(np.float64)
    scores: Floats = np.clip(answered.units[used] * UNIT / of_answer.sum(axis=1), 0.0, 1.0)
    held = calibration.holds(scores)
    of_answer, weights = of_answer[held], calibration.weights(scores[held])
    if_positive, if_not = _costs(scores[held], scale)
    chance = np.sum(weights * calibration.shares, axis=1)[:, None]
    expected = np.sum(of_answer * (chance * if_positive + (1 - chance) * if_not))
    slopes = np.sum(of_answer * (if_positive - if_not), axis=1)
    by_group = np.sum(weights * slopes[:, None], axis=0)
    doubt = Z * sqrt(float(np.sum(by_group**2 * calibration.variances)))
    units = int(max(float(expected) - doubt, 0.0) * LOSS_UNITS)
    return LossSum(answered.scored + answered.unscored, units)


def _costs(scores: Floats, scale: float | None) -> tuple[Floats, Floats]:
    """(b, 2) by answer: the loss of a row that is positive, and of one that is not."""
    if scale is None:
        wrong = np.broadcast_to(np.array([1.0, 0.0]), (len(scores), 2))
        return wrong, 1.0 - wrong
    both = np.minimum(np.stack([1.0 - scores, scores]) / scale, 1.0)
    return np.stack([both[0]] * 2, axis=1), np.stack([both[1]] * 2, axis=1)
