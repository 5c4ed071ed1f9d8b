"""How well scores tell rows of a class from others: the area under the ROC curve, of counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranking:
    """The area, and what its uncertainty is made of.

    negatives, positives:       how many rows of each, more than 0.
    of_negatives, of_positives: variance of the area's mean over the rows of each (DeLong).
    binning:                    how far the area may be from that of the scores themselves.
    """

    value: float
    negatives: int
    positives: int
    of_negatives: float
    of_positives: float
    binning: float

    @property
    def variance(self) -> float:
        return self.of_positives + self.of_negatives


def ranking_of(counts: NDArray[np.int64]) -> Ranking | None:
    """The chance that a positive row scores higher than a negative one, ties counting one half.

    counts: (2, b): negatives and positives by rising score.
    Returns: None without a row of either.
    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44.
    """
    negatives, positives = counts
    n, m = int(negatives.sum()), int(positives.sum())
    if n == 0 or m == 0:
        return None
    below = (np.cumsum(negatives) - negatives / 2) / n  # of a positive of each bin
    above = (m - np.cumsum(positives) + positives / 2) / m  # of a negative
    value = float(np.sum(positives * below) / m)
    of_positives = float(np.sum(positives * (below - value) ** 2) / m)
    of_negatives = float(np.sum(negatives * (above - value) ** 2) / n)
    binning = float(np.sum(positives / m * (negatives / n)) / 2)
    return Ranking(value, n, m, of_negatives / n, of_positives / m, binning)
