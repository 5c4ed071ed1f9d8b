"""Whole numbers scattered over all 64 bits: chance that is the same in every run.

Source: the mixing of SplitMix64 (Steele, Lea and Flood 2014).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def mixed(numbers: NDArray[Any]) -> Keys:
    """(n,) whole numbers; different ones stay different."""
    found = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
