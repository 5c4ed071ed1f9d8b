"""Kolmogorov-Smirnov distance, from counts."""

import numpy as np

from monitor.core.bins import Counts, Floats, ordered_counts


def kolmogorov_smirnov(reference: Counts, live: Counts) -> Floats:
    """Largest difference of the two cumulative shares, over the bins' order.

    reference, live: (..., SLOTS) counts. Returns (...), in [0, 1].
    Missing, non-finite and unseen values have no place in the order and are
    left out of both sides; a side without any value gives NaN. Ties and empty
    bins need no care: a share that does not move adds no difference.
    Bound: at most one bin's reference mass below the distance on raw data
    (1/256, plus ties).
    Source: scipy.stats.ks_2samp on the bin numbers gives the same number.
    """
    shares = [_cumulative(ordered_counts(counts)) for counts in (reference, live)]
    return np.asarray(np.max(np.abs(shares[0] - shares[1]), axis=-1))


def _cumulative(counts: Counts) -> Floats:
    total = counts.sum(axis=-1, keepdims=True).astype(np.float64)
    total[total == 0] = np.nan
    return np.asarray(np.cumsum(counts, axis=-1) / total)
