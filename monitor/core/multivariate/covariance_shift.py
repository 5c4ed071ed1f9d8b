"""Distance of the covariances: what moved in how features vary together."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.multivariate.entry import Draws, MultivariateStatistic, Sides
from monitor.core.multivariate.kernel_statistic import kernel_distance, root
from monitor.core.multivariate.permutations import sides


def _draws(given: Sides) -> Draws | None:
    """Frobenius norm of the difference, over that of the reference's own covariance.

    Of differences of pairs of rows, whose covariance is the same and whose mean is 0, so
    that a shift of the mean does not show. Correlations that turn while every feature
    keeps its distribution do. None where the reference does not vary at all.
    Source: the U-statistic of Li and Chen 2012, "Two sample tests for high-dimensional
    covariance matrices", on such differences.
    """
    size = float(np.linalg.norm(np.cov(given.fitted, rowvar=False)))
    if size == 0:
        return None
    reference, live = _differences(given.reference), _differences(given.live)
    rows = np.vstack([reference, live])
    squared = kernel_distance((rows @ rows.T) ** 2, sides(len(reference), len(live), given.seed))
    return Draws(squared, root(squared) / size)


def _differences(rows: Floats) -> Floats:
    """(n // 2, w) of the variance of one row; their order is random, so pairs are too."""
    pairs = len(rows) // 2
    differences: Floats = (rows[: 2 * pairs : 2] - rows[1 : 2 * pairs : 2]) / np.sqrt(2.0)
    return differences


COVARIANCE_SHIFT = MultivariateStatistic(
    "covariance_shift",
    "Shift of the covariance",
    "of the reference's",
    "correlations and variances, whatever the means do",
    _draws,
)
