"""Seeded draws of counts: what chance alone would have made of them.

Laws:
- the seed follows from the counts, so the same counts always get the same draws;
- the work is bounded: DRAWS draws of one feature, whatever its rows.
"""

from zlib import crc32

import numpy as np

from monitor.core.bins import SLOTS, Counts

DRAWS = 499  # p-values in steps of 0.002


def seed_of(reference: Counts, live: Counts) -> int:
    return crc32(live.tobytes(), crc32(reference.tobytes()))


def redrawn(reference: Counts, live: Counts, seed: int) -> tuple[Counts, Counts]:
    """Each side as if drawn again from its own shares (the bootstrap).

    reference, live: (SLOTS,), neither empty. Returns two of (DRAWS, 1, SLOTS).
    """
    generator = np.random.default_rng([seed, 0])
    return _draw(generator, reference, reference), _draw(generator, live, live)


def unmoved(reference: Counts, live: Counts, seed: int) -> tuple[Counts, Counts]:
    """Both sides as if drawn from the shares that they have together.

    Shapes as `redrawn`. What chance makes of a distribution that did not move.
    """
    generator = np.random.default_rng([seed, 1])
    pooled = reference + live
    return _draw(generator, pooled, reference), _draw(generator, pooled, live)


def _draw(generator: np.random.Generator, shares_of: Counts, as_many_as: Counts) -> Counts:
    used = np.flatnonzero(shares_of)
    shares = shares_of[used] / shares_of.sum()
    drawn = np.zeros((DRAWS, 1, SLOTS), dtype=np.int64)
    drawn[:, 0, used] = generator.multinomial(int(as_many_as.sum()), shares, size=DRAWS)
    return drawn
