"""The layout of a feature's histogram, and the plain numpy way to fill it.

Laws:
- slots 0..255 are value bins, then missing, below, above, non-finite, unseen;
  every value falls into exactly one slot;
- bin k is right-open, starts[k] <= x < starts[k + 1]; the last one ends at
  `high`, inclusive;
- an exact feature (categories) has one bin per value, and any other value is
  unseen; it is never below or above;
- starts come from the reference alone, so counts add, subtract and replay.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 256
MISSING = 256
BELOW = 257
ABOVE = 258
NONFINITE = 259
UNSEEN = 260
SLOTS = 261
QUALITY_SLOTS = (MISSING, NONFINITE, UNSEEN)

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
AnyArray = NDArray[Any]


def slots_of(values: Floats, starts: Floats, high: float, exact: bool) -> NDArray[np.int64]:
    """The slot of each value; `values` may hold NaN and infinities.

    Slow on purpose: one binary search per value. It fits references and stands
    for what the kernel must equal.
    """
    slots = np.full(values.shape, UNSEEN, dtype=np.int64)
    if starts.size:
        found = np.searchsorted(starts, values, side="right") - 1
        inside = (values >= starts[0]) & (values <= high)
        slots[inside] = found[inside]
        if exact:
            slots[inside & (starts[np.maximum(found, 0)] != values)] = UNSEEN
        else:
            slots[values < starts[0]] = BELOW
            slots[values > high] = ABOVE
    slots[np.isinf(values)] = NONFINITE
    slots[np.isnan(values)] = MISSING
    return slots


def count_slots(values: Floats, starts: Floats, high: float, exact: bool) -> Counts:
    """Histogram of one column: int64[SLOTS]."""
    slots = slots_of(values, starts, high, exact)
    return np.bincount(slots, minlength=SLOTS).astype(np.int64)


def quantile_starts(values: Floats) -> Floats:
    """At most BINS bin starts of near-equal mass: reference values at i/256, merged.

    values: finite, at least one. The starts are reference values themselves, so
    a float32 reference gives starts that float32 rows compare with exactly.
    """
    ordered = np.sort(values)
    ranks = (np.arange(BINS) * ordered.size) // BINS
    return np.unique(ordered[ranks])


def ordered_counts(counts: Counts) -> Counts:
    """(..., SLOTS) -> (..., 258): below, the bins, above; what has a place in the order."""
    return np.concatenate(
        [counts[..., BELOW : BELOW + 1], counts[..., :BINS], counts[..., ABOVE : ABOVE + 1]],
        axis=-1,
    )
