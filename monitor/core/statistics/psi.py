"""Population stability index, from counts, with half-count smoothing."""

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Counts, Floats
from monitor.core.statistics.groups import merged_counts

# An empty bin counts half a row: the smallest count that could as well have
# been one. A fixed floor would make one stray row look like a shift.
HALF_COUNT = 0.5


def population_stability(reference: Counts, live: Counts) -> Floats:
    """Sum of (q - p) ln(q / p) over reference deciles and the special slots.

    reference, live: (..., SLOTS) counts. Returns (...), in nats, >= 0.
    Empty bins: every bin that either side uses gets half a count more on both
    sides; bins empty on both sides do not exist. No rows on a side: NaN.
    NaN values are rows of the slot `missing`, so a rise of them counts.
    Null mean: about (bins - 1)(1/n + 1/m).
    """
    merged = merged_counts(reference, live)
    used = (merged[0] + merged[1]) > 0
    p, q = (_smoothed(side, used) for side in merged)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(used, (q - p) * np.log(q / p), 0.0)
    empty = (reference.sum(axis=-1) == 0) | (live.sum(axis=-1) == 0)
    return np.where(empty, np.nan, terms.sum(axis=-1))


def _smoothed(counts: Counts, used: NDArray[np.bool_]) -> Floats:
    raised = np.where(used, counts + HALF_COUNT, 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(raised / raised.sum(axis=-1, keepdims=True))
