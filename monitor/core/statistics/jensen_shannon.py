"""Jensen-Shannon distance, from counts."""

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.statistics.groups import merged_counts


def jensen_shannon(reference: Counts, live: Counts) -> Floats:
    """Root of the Jensen-Shannon divergence in bits, over deciles and special slots.

    reference, live: (..., SLOTS) counts. Returns (...), in [0, 1].
    Empty bins need no smoothing: their term is 0 or the other side's share.
    No rows on a side: NaN. NaN values are rows of the slot `missing`.
    Source: scipy.spatial.distance.jensenshannon(p, q, base=2).
    """
    sides = [counts.astype(np.float64) for counts in merged_counts(reference, live)]
    with np.errstate(invalid="ignore"):
        p, q = (side / side.sum(axis=-1, keepdims=True) for side in sides)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.asarray(np.sqrt(np.clip(divergence, 0.0, 1.0)))


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * np.log2(p / q))
    return np.asarray(terms.sum(axis=-1))
