"""Maximum mean discrepancy: any change, if it is large or there are rows enough."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.multivariate.entry import Draws, MultivariateStatistic, Sides
from monitor.core.multivariate.kernel_statistic import kernel_distance, root
from monitor.core.multivariate.permutations import sides


def _draws(given: Sides) -> Draws | None:
    """Root of the unbiased estimate of MMD^2, with a Gaussian kernel: 0 to the root of 2.

    Its width is the median distance of two rows of the reference. None where most rows of
    that are the same.
    Source: Gretton et al. 2012, "A Kernel Two-Sample Test", Lemma 6 and Section 8.
    """
    width = _median_distance(given.fitted)
    if width == 0:
        return None
    apart = squared_distances(np.vstack([given.reference, given.live]))
    kernel = np.exp(-apart / (2.0 * width))
    squared = kernel_distance(kernel, sides(len(given.reference), len(given.live), given.seed))
    return Draws(squared, root(squared))


def squared_distances(rows: Floats) -> Floats:
    """(n, n)."""
    own = np.einsum("nw,nw->n", rows, rows)
    apart: Floats = np.maximum(own[:, None] + own - 2.0 * (rows @ rows.T), 0.0)
    return apart


def _median_distance(rows: Floats) -> float:
    """Squared, of two different rows; what is left of equal ones by rounding is 0."""
    pairs = np.triu_indices(len(rows), 1)
    median = float(np.median(squared_distances(rows)[pairs]))
    return median if median > 1e-9 else 0.0


MMD = MultivariateStatistic(
    "mmd",
    "Maximum mean discrepancy",
    "0 to 1.41",
    "any change of the joint distribution",
    _draws,
)
