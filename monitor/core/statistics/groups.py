"""Merging 256 bins into reference deciles, for distances that grow with the bins."""

import numpy as np

from monitor.core.bins import BINS, SLOTS, Counts

DECILES = 10


def merged_counts(reference: Counts, live: Counts) -> tuple[Counts, Counts]:
    """(..., SLOTS) on both sides -> (..., DECILES + 5) each.

    A bin belongs to the decile in which the middle of its reference mass lies,
    so the cut depends on the reference alone. The special slots stay as they are.
    """
    inside = reference[..., :BINS]
    total = np.maximum(inside.sum(axis=-1, keepdims=True), 1)
    middle = np.cumsum(inside, axis=-1) - inside / 2
    decile = np.minimum((middle * DECILES / total).astype(np.int64), DECILES - 1)
    return _merge(reference, decile), _merge(live, decile)


def _merge(counts: Counts, decile: Counts) -> Counts:
    merged = [
        np.where(decile == k, counts[..., :BINS], 0).sum(axis=-1, dtype=np.int64)
        for k in range(DECILES)
    ]
    special = [counts[..., slot] for slot in range(BINS, SLOTS)]
    return np.stack([*merged, *special], axis=-1)
