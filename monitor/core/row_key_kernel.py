"""The hash of each row of a block of floats, in one pass over the block's memory.

Numpy takes four passes for the same, and three times as long as the histograms; this was
measured to take less than they do.
"""

from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from monitor.core.bins import AnyArray
from monitor.core.jit import kernel
from monitor.core.mixing import Keys


def _signature(bits: object) -> object:
    places, keys = types.Array(types.int64, 1, "C"), types.Array(types.uint64, 1, "C")
    return types.void(types.Array(bits, 2, "C", readonly=True), places, keys, keys, keys)


@kernel(_signature(types.uint32), _signature(types.uint64))
def add_row_keys(
    bits: AnyArray, columns: NDArray[np.int64], factors: Keys, form: Keys, keys: Keys
) -> None:
    """Add the products of each row's words and the factors to its key.

    bits:    (n, w) floats as unsigned integers, borrowed; columns: (f,) below w.
    factors: (f,), odd; form: see `FORMS`.
    keys:    (n,) added to, modulo 2^64.
    """
    sign, infinity, half = form[0], form[1], form[2]
    for i in range(bits.shape[0]):
        total = keys[i]
        for k in range(columns.size):
            word = np.uint64(bits[i, columns[k]])
            size = word & ~sign
            if size > infinity:
                word = infinity + np.uint64(1)  # one of all NaN
            elif size == np.uint64(0):
                word = size
            # An odd factor carries low bits up, but the highest, as of a sign, nowhere.
            total += (word ^ (word >> half)) * factors[k]
        keys[i] = total


def _form(dtype: type[np.floating[Any]]) -> Keys:
    bits = np.dtype(f"u{dtype().itemsize}")
    sign, infinity = np.array([-0.0, np.inf], dtype=dtype).view(bits)
    return np.array([sign, infinity, 4 * bits.itemsize], dtype=np.uint64)


# By bytes of a float: the bits of -0.0 and of infinity, and half as many bits as there are.
FORMS = {4: _form(np.float32), 8: _form(np.float64)}
