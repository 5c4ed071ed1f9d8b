"""The fused kernel: all features of a row-major block into histograms, in one pass.

A value's bin is found by a look-up table over a uniform grid of CELLS cells
between the feature's low and high; the starts inside one cell are settled by
binary search, so no distribution costs more than eight comparisons.

Exactness rests on one fact: the cell number is a monotone function of the
value in floating point too, if the table is made with the kernel's own
arithmetic and precision. Hence a start in an earlier cell is below the value,
one in a later cell above it.
"""

from numba import types

from monitor.core.bins import ABOVE, BELOW, MISSING, NONFINITE, UNSEEN, AnyArray
from monitor.core.jit import kernel

CELLS = 2048
# 16 float32 columns are one cache line of a row-major block, and the tables of
# 16 features (64 KiB) stay in the second-level cache while a block is read.
TILE = 16


def _signature(real: types.Float) -> object:
    def borrowed(item: object, dimensions: int) -> object:
        return types.Array(item, dimensions, "C", readonly=True)

    return types.void(
        borrowed(real, 2),  # block
        borrowed(types.int64, 1),  # columns
        borrowed(types.int64, 1),  # slots
        borrowed(types.int16, 2),  # table
        borrowed(real, 2),  # starts
        borrowed(types.int64, 1),  # sizes
        borrowed(real, 1),  # low
        borrowed(real, 1),  # high
        borrowed(real, 1),  # scale
        borrowed(types.uint8, 1),  # exact
        types.Array(types.int64, 2, "C"),  # counts
    )


@kernel(_signature(types.float32), _signature(types.float64))
def count_block(  # noqa: PLR0912 - one pass, and a kernel takes no objects
    block: AnyArray,
    columns: AnyArray,
    slots: AnyArray,
    table: AnyArray,
    starts: AnyArray,
    sizes: AnyArray,
    low: AnyArray,
    high: AnyArray,
    scale: AnyArray,
    exact: AnyArray,
    counts: AnyArray,
) -> None:
    """Add a block's histogram to `counts`.

    block:   (n, w) float32 or float64, borrowed.
    columns: (f,) column of each feature; slots: (f,) its row in `counts`.
    table:   (f, CELLS + 1) number of starts in cells before this one.
    starts:  (f, 257), padded with infinity, low, high, scale: (f,), in the block's precision.
    sizes:   (f,) bins in use; exact: (f,) 1 where only the starts are values.
    counts:  (any, SLOTS) int64, added to.
    """
    for first in range(0, columns.size, TILE):
        last = min(first + TILE, columns.size)
        for i in range(block.shape[0]):
            for f in range(first, last):
                x = block[i, columns[f]]
                if low[f] <= x <= high[f]:
                    place = (x - low[f]) * scale[f]
                    # NaN where the range overflows and the scale is 0: all in one cell.
                    cell = min(int(place), CELLS - 1) if place >= 0 else 0
                    lower = max(int(table[f, cell]) - 1, 0)
                    upper = int(table[f, cell + 1]) - 1
                    while upper - lower > 1:
                        middle = (lower + upper) >> 1
                        if x >= starts[f, middle]:
                            lower = middle
                        else:
                            upper = middle - 1
                    # At most one start is left to decide on; as a sum, not a branch,
                    # since no processor can guess it.
                    lower += int(x >= starts[f, lower + 1])
                    if exact[f] != 0 and starts[f, lower] != x:
                        lower = UNSEEN
                elif x != x:  # noqa: PLR0124 - the cheapest test for NaN
                    lower = MISSING
                elif x - x != 0:
                    lower = NONFINITE
                elif exact[f] != 0 or sizes[f] == 0:
                    lower = UNSEEN
                elif x < low[f]:
                    lower = BELOW
                else:
                    lower = ABOVE
                counts[slots[f], lower] += 1
