"""What chance alone would have made of a number: sides exchanged at random.

Where nothing has moved, each row might as well have come from the other side, so what is
computed with the true sides is one of so many like it: its p-value is exact for any n.

Laws:
- the seed follows from the rows, so the same rows always get the same answer;
- the true sides are one of the draws, so a p-value is never 0.
"""

from zlib import crc32

import numpy as np

from monitor.core.bins import Floats

DRAWS = 199  # p-values in steps of 0.005
SAME = 1e-12  # two ways to one number differ in its last digits; these count as equal


def seed_of(reference: Floats, live: Floats) -> int:
    return crc32(live.tobytes(), crc32(reference.tobytes()))


def sides(reference: int, live: int, seed: int, draws: int = DRAWS) -> Floats:
    """Which rows are live: 0 or 1, (reference + live, 1 + draws), the true sides first."""
    random = np.random.default_rng(seed)
    true = np.zeros((reference + live, 1))
    true[reference:] = 1.0
    return np.hstack([true, random.permuted(np.tile(true, draws), axis=0)])


def p_value(found: Floats) -> float:
    """found: (1 + draws,), the true one first, larger ones speak against chance."""
    slack = SAME * max(float(np.max(np.abs(found))), 1.0)
    return float(np.mean(found >= found[0] - slack))
