"""The fused kernel: all features of a row-major block into histograms, in one pass.

A value's bin is found in two moves, neither of which branches on the value:
a look-up table gives the last bin that begins before the value's cell, and a
fixed number of halvings, the feature's own, settles the starts inside the
cell. So all values in the range cost the same; a branch that no processor can
guess would cost more than all the comparisons together.

Exactness rests on one fact: the cell is a monotone function of the value in
floating point too, if the table is made with the kernel's own arithmetic and
precision (`lookup`). Hence a start in an earlier cell is below the value, one
in a later cell above it.

Bins are unsigned here, since numba looks at the sign of any other index, which
was measured to cost a quarter of the rate. Rows are read in place, a column of a
tile at a time. A tile is as wide as a cache line, so its lines are fetched once;
transposing it first was measured to cost more than it saves, at 1 to 1,024 columns.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from monitor.core.bins import ABOVE, BELOW, MISSING, NONFINITE, UNSEEN, AnyArray
from monitor.core.jit import kernel, kernel_part

CELLS = 4096
# How often candidates may be halved. Each has a loop of its own, a second of compiling,
# in which no halving depends on a condition; more were measured to gain nothing.
HALVINGS = (1, 4, 8)
ALL = HALVINGS[-1]  # leaves one of 256
REACH = 16  # starts that four halvings look at beyond a table's bin, which may be the last
# 16 float32 columns are one cache line, 512 of those stay in the first-level
# cache while each column is counted in turn.
TILE_COLUMNS = 16
TILE_ROWS = 512


class Tables(NamedTuple):
    """How f features of a block are counted; made by `lookup`, in the block's precision.

    columns:   (f,) column of each feature; slots: (f,) its row in the counts.
    cells:     (f, CELLS) uint8, the last bin that begins before the cell; 0 if none does.
    starts:    (f, BINS + REACH), padded with infinity.
    low, high: (f,) the range; the wrong way round where no value is in it.
    scale:     (f,) cells per unit of value; 0: cells are of the values' keys.
    origin:    (f,) key of `low`; shift: (f,) bits of a key below its cell.
    halvings:  (f,) one of HALVINGS; with the last, cells are not looked at.
    exact:     (f,) bool, whether only the starts are values.
    """

    columns: NDArray[np.int64]
    slots: NDArray[np.int64]
    cells: NDArray[np.uint8]
    starts: AnyArray
    low: AnyArray
    high: AnyArray
    scale: AnyArray
    origin: NDArray[np.int64]
    shift: NDArray[np.uint64]
    halvings: NDArray[np.int64]
    exact: NDArray[np.bool_]


def _signature(real: types.Float, whole: types.Integer) -> object:
    def row_major(item: object, dimensions: int, *, readonly: bool = False) -> object:
        return types.Array(item, dimensions, "C", readonly=readonly)

    fields = {
        "cells": row_major(types.uint8, 2),
        "starts": row_major(real, 2),
        **{name: row_major(real, 1) for name in ("low", "high", "scale")},
        "shift": row_major(types.uint64, 1),
        "exact": row_major(types.boolean, 1),
    }
    tables = [fields.get(name, row_major(types.int64, 1)) for name in Tables._fields]
    return types.void(
        row_major(real, 2, readonly=True),
        row_major(whole, 2, readonly=True),
        types.NamedTuple(tables, Tables),
        row_major(types.int64, 2),
    )


@kernel_part
def _ordered_cell(bits: Any, minus_zero: Any, origin: Any, shift: Any) -> Any:
    """The cell of the number with these bits, by its place in the order of numbers.

    minus_zero: the bits of -0.0, which has the key of 0.0.
    """
    # minus_zero - bits if that is negative, without a branch, since signs are a toss-up.
    sign = np.int64(bits) >> 63
    key = (bits ^ sign) - sign + (minus_zero & sign)
    return np.int64(np.uint64(key - origin) >> shift)


@kernel_part
def _slot_outside(x: Any, low: Any, exact: Any) -> Any:
    """Where a value counts that is in no bin's range."""
    if x != x:  # noqa: PLR0124 - the cheapest test for NaN
        return MISSING
    if x - x != 0:
        return NONFINITE
    if exact:
        return UNSEEN
    return BELOW if x < low else ABOVE


@kernel_part
def _halve(x: Any, least: Any, starts: AnyArray, power: int) -> Any:
    """`least`, or the bin 2**power further on, if that begins at or below x."""
    further = np.uint64(1) << np.uint64(power)
    return least + (np.uint64(x >= starts[least + further]) << np.uint64(power))


@kernel_part
def _settle(x: Any, least: Any, starts: AnyArray, halvings: int) -> Any:
    """The last bin that begins at or below x, of `least` and the 2**halvings - 1 after it."""
    if halvings > 4:
        least = _halve(x, least, starts, 7)
        least = _halve(x, least, starts, 6)
        least = _halve(x, least, starts, 5)
        least = _halve(x, least, starts, 4)
    if halvings > 1:
        least = _halve(x, least, starts, 3)
        least = _halve(x, least, starts, 2)
        least = _halve(x, least, starts, 1)
    return _halve(x, least, starts, 0)


@kernel_part
def _count_column(
    block: AnyArray, bits: AnyArray, tables: Tables, f: int, top: int, bottom: int,
    histogram: AnyArray, even: bool, halvings: int,
) -> None:  # fmt: skip
    """Count one feature in the rows top to bottom; `halvings` is a constant where it is called."""
    column, cells, starts = tables.columns[f], tables.cells[f], tables.starts[f]
    low, high, scale = tables.low[f], tables.high[f], tables.scale[f]
    origin, shift, exact = tables.origin[f], tables.shift[f], tables.exact[f]
    minus_zero = np.int64(np.iinfo(bits.dtype).min)
    for i in range(top, bottom):
        x = block[i, column]
        if low <= x <= high:
            if even:
                cell = min(np.int64((x - low) * scale), np.int64(CELLS - 1))
            else:
                cell = _ordered_cell(bits[i, column], minus_zero, origin, shift)
            least = np.uint64(cells[np.uint64(cell)]) if halvings < ALL else np.uint64(0)
            slot = _settle(x, least, starts, halvings)
            if exact and starts[slot] != x:
                slot = np.uint64(UNSEEN)
        else:
            slot = np.uint64(_slot_outside(x, low, exact))
        histogram[slot] += 1


@kernel(_signature(types.float32, types.int32), _signature(types.float64, types.int64))
def count_block(block: AnyArray, bits: AnyArray, tables: Tables, counts: AnyArray) -> None:
    """Add a block's histogram to `counts`.

    block:  (n, w) float32 or float64, borrowed; bits: the same memory as integers.
    counts: (any, SLOTS) int64, added to.
    """
    for first in range(0, tables.columns.size, TILE_COLUMNS):
        last = min(first + TILE_COLUMNS, tables.columns.size)
        for top in range(0, block.shape[0], TILE_ROWS):
            bottom = min(top + TILE_ROWS, block.shape[0])
            for f in range(first, last):
                histogram, even = counts[tables.slots[f]], tables.scale[f] > 0
                halvings = tables.halvings[f]
                if halvings == 1:
                    _count_column(block, bits, tables, f, top, bottom, histogram, even, 1)
                elif halvings == 4:
                    _count_column(block, bits, tables, f, top, bottom, histogram, even, 4)
                else:
                    _count_column(block, bits, tables, f, top, bottom, histogram, even, ALL)
