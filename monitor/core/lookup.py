"""Look-up tables for the counting kernel: how the bins of each feature are found fastest.

A cell is a slice of a feature's range; the table says which bin a value is at
least in, given its cell. Slices are cut in the better of two ways:
- evenly in value, for what is spread like normal or uniform numbers;
- evenly in the order of floating-point numbers, so many slices per power of
  two, for heavy tails and for small numbers beside large ones.
Better is what leaves fewer starts in the fullest cell, since that cell decides
how often the kernel halves, for every value of the feature alike. So the cost
is known when the table is made, and no live distribution changes it.

Laws:
- tables are a function of the profile and of the rows' precision; they are not stored;
- they are made with the kernel's own arithmetic, or its cells would be others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import BINS, AnyArray, Counts
from monitor.core.count_kernel import ALL, CELLS, HALVINGS, REACH, Tables, count_block
from monitor.core.profile import FeatureProfile

_CELL_BITS = CELLS.bit_length() - 1
_INTEGERS: dict[type[Any], type[Any]] = {np.float32: np.int32, np.float64: np.int64}


@dataclass(frozen=True, slots=True)
class Slicing:
    """Where the cells lie: evenly in value by `scale`, or, if that is 0, in order.

    cells:  (m,) the cell of each start.
    scale:  cells per unit of value.
    origin: the key of the lowest start; shift: what a key loses to become a cell.
    """

    cells: NDArray[np.int64]
    scale: Any = 0.0
    origin: int = 0
    shift: int = 0

    @property
    def halvings(self) -> int:
        """How often the candidates of the fullest cell are halved, one of HALVINGS."""
        starts = np.bincount(self.cells)
        starts[0] -= 1  # every value is at least in the first bin
        needed = int(starts.max()).bit_length()
        return next(halvings for halvings in HALVINGS if halvings >= needed)


def count(block: AnyArray, tables: Tables, counts: Counts) -> None:
    """block: (n, w), C-contiguous, in the tables' precision; borrowed."""
    count_block(block, block.view(_INTEGERS[block.dtype.type]), tables, counts)


def make_tables(
    features: Sequence[FeatureProfile],
    columns: Sequence[int],
    slots: Sequence[int],
    dtype: type[Any],
) -> Tables:
    """dtype: np.float32 or np.float64, that of the blocks to come."""
    total = len(features)
    tables = Tables(
        columns=np.array(columns, dtype=np.int64),
        slots=np.array(slots, dtype=np.int64),
        cells=np.zeros((total, CELLS), dtype=np.uint8),
        starts=np.full((total, BINS + REACH), np.inf, dtype=dtype),
        low=np.full(total, np.inf, dtype=dtype),
        high=np.full(total, -np.inf, dtype=dtype),
        scale=np.zeros(total, dtype=dtype),
        origin=np.zeros(total, dtype=np.int64),
        shift=np.zeros(total, dtype=np.uint64),
        halvings=np.ones(total, dtype=np.int64),
        exact=np.array([f.exact or not f.starts.size for f in features], dtype=np.bool_),
    )
    for f, feature in enumerate(features):
        starts, high = _in_precision(feature, dtype)
        if starts.size:
            tables.starts[f, : starts.size] = starts
            tables.low[f], tables.high[f] = max(starts[0], np.finfo(dtype).min), high
        if tables.low[f] <= high:
            _slice(tables, f, starts.size)
    return tables


def _in_precision(feature: FeatureProfile, dtype: type[Any]) -> tuple[AnyArray, Any]:
    """The starts that finite values of this precision can reach, and the range's end.

    A profile of float64 may lie beyond float32, above or below all it can say.
    """
    largest = np.finfo(dtype).max
    with np.errstate(over="ignore"):
        starts, high = feature.starts.astype(dtype), dtype(feature.high)
    return starts[starts <= largest], min(high, largest)


def _slice(tables: Tables, f: int, bins: int) -> None:
    """Cut the range of a feature that has one into cells."""
    high = tables.high[f]
    starts = np.maximum(tables.starts[f, :bins], tables.low[f])  # it may begin at -infinity
    slicings = [_even(starts, high), _in_order(starts, high)]
    slicing = min((s for s in slicings if s is not None), key=lambda s: s.halvings)
    tables.scale[f], tables.origin[f] = slicing.scale, slicing.origin
    tables.shift[f], tables.halvings[f] = slicing.shift, slicing.halvings
    if slicing.halvings < ALL:
        before = np.searchsorted(slicing.cells, np.arange(CELLS), side="left")
        tables.cells[f] = np.maximum(before - 1, 0)


def _even(starts: AnyArray, high: Any) -> Slicing | None:
    """None where the range is empty, or its arithmetic overflows."""
    low, real = starts[0], starts.dtype.type
    with np.errstate(all="ignore"):
        scale = real(CELLS) / (high - low)
        if not (np.isfinite(scale) and np.isfinite((high - low) * scale)):
            return None
        cells = np.minimum(((starts - low) * scale).astype(np.int64), CELLS - 1)
    return Slicing(cells, scale)


def _in_order(starts: AnyArray, high: Any) -> Slicing:
    keys = _keys(np.append(starts, high))
    origin = int(keys[0])
    shift = max((int(keys[-1]) - origin).bit_length() - _CELL_BITS, 0)
    places = (keys[:-1] - keys[0]).view(np.uint64) >> np.uint64(shift)
    return Slicing(places.astype(np.int64), origin=origin, shift=shift)


def _keys(values: AnyArray) -> NDArray[np.int64]:
    """Integers in the values' order; the two zeros have one key.

    The bits of a float are its sign and then its magnitude in rising order.
    """
    integer = _INTEGERS[values.dtype.type]
    bits = values.view(integer).astype(np.int64)
    keys: NDArray[np.int64] = np.where(bits >= 0, bits, np.int64(np.iinfo(integer).min) - bits)
    return keys
