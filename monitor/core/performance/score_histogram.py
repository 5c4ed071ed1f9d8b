"""Scores of rows that are of the positive class and of those that are not.

Bins are finest where probabilities gather, near 0 and near 1: each octave of the
distance to the nearer end is cut into PARTS. What is lost is which of two rows in the
same bin has the larger score, and by how much that can matter follows from the counts.
"""

from dataclasses import dataclass, field
from math import frexp

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Floats
from monitor.core.tree import Tree

PARTS = 16
OCTAVES = 30  # nearer than 2^-30 to an end is at the end; float32 tells no more apart near 1
HALF = OCTAVES * PARTS  # bins below one half
BINS = 2 * HALF


@dataclass(slots=True)
class ScoreHistogram:
    """bins: place in the order -> [negatives, positives], those that hold any. Mutable."""

    bins: dict[int, list[int]] = field(default_factory=dict)

    def add(self, score: float, is_positive: bool) -> None:
        """score: in [0, 1]."""
        self.bins.setdefault(bin_of(score), [0, 0])[int(is_positive)] += 1

    def merge(self, other: "ScoreHistogram") -> None:
        for place, counts in other.bins.items():
            mine = self.bins.setdefault(place, [0, 0])
            mine[0] += counts[0]
            mine[1] += counts[1]

    def counts(self) -> NDArray[np.int64]:
        """(2, b): negatives and positives by rising score."""
        ordered = [self.bins[place] for place in sorted(self.bins)]
        return np.array(ordered, dtype=np.int64).reshape(-1, 2).T

    def to_tree(self) -> Tree:
        return [[place, *self.bins[place]] for place in sorted(self.bins)]

    @classmethod
    def from_tree(cls, tree: Tree) -> "ScoreHistogram":
        return cls({place: [negatives, positives] for place, negatives, positives in tree})


def bin_of(score: float) -> int:
    """0 to 2 HALF - 1; larger scores never have smaller ones."""
    return _near(score) if score < 0.5 else 2 * HALF - 1 - _near(1.0 - score)


def bins_of(scores: Floats) -> NDArray[np.int64]:
    """`bin_of` of each score in [0, 1]."""
    is_low = scores < 0.5
    near = _near_all(np.where(is_low, scores, 1.0 - scores))
    return np.where(is_low, near, BINS - 1 - near)


def bin_edges() -> tuple[Floats, Floats]:
    """Where each bin begins and ends: (BINS,) twice."""
    octave, part = np.divmod(np.arange(HALF), PARTS)
    low = np.ldexp(0.5 + part / (2 * PARTS), octave - OCTAVES + 1)
    high = np.ldexp(0.5 + (part + 1) / (2 * PARTS), octave - OCTAVES + 1)
    low[0] = 0.0
    low, high = np.minimum(low, 0.5), np.minimum(high, 0.5)
    return np.concatenate([low, 1.0 - high[::-1]]), np.concatenate([high, 1.0 - low[::-1]])


def _near_all(distances: Floats) -> NDArray[np.int64]:
    mantissas, octaves = np.frexp(distances)
    parts = ((mantissas - 0.5) * 2 * PARTS).astype(np.int64)
    places = np.minimum((octaves.astype(np.int64) + OCTAVES - 1) * PARTS + parts, HALF - 1)
    return np.where((distances <= 0.0) | (octaves <= -OCTAVES), 0, places)


def _near(distance: float) -> int:
    """Of a distance of at most one half to the nearer end."""
    mantissa, octave = frexp(distance)
    if distance <= 0.0 or octave <= -OCTAVES:
        return 0
    return min((octave + OCTAVES - 1) * PARTS + int((mantissa - 0.5) * 2 * PARTS), HALF - 1)
