"""Distance of the means over all features together."""

import numpy as np

from monitor.core.multivariate.entry import Draws, MultivariateStatistic, Sides
from monitor.core.multivariate.kernel_statistic import kernel_distance, root
from monitor.core.multivariate.permutations import sides


def _draws(given: Sides) -> Draws:
    """Euclidean, in the reference's deviations: a shift of 0.1 in 768 features is 2.8.

    Source: the U-statistic of Chen and Qin 2010, "A two-sample test for high-dimensional
    data": no covariance is inverted, so rows may be wider than there are of them.
    """
    rows = np.vstack([given.reference, given.live])
    squared = kernel_distance(
        rows @ rows.T, sides(len(given.reference), len(given.live), given.seed)
    )
    return Draws(squared, root(squared))


MEAN_SHIFT = MultivariateStatistic(
    "mean_shift",
    "Shift of the mean, all features",
    "reference deviations",
    "means, also where each moved too little to be seen alone",
    _draws,
)
