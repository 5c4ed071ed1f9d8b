"""Scores of each of more than two classes, of the rows that are of it and of all others.

Laws:
- everything is a count, so they merge exactly, however rows are split;
- of classes the RANKED_MAX first ones in their order are kept, as in a tally of classes;
  a row with more columns than that is not ranked at all;
- memory is RANKED_MAX times 3.75 KiB at most, whatever the traffic.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitor.core.performance.answers import class_order
from monitor.core.performance.score_histogram import HALF, bin_of
from monitor.core.tree import Tree

RANKED_MAX = 32  # classes: 120 KiB of counts, and as many updates for each labelled row
COARSER = 4  # of the bins for two classes: 4 to an octave, since there are as many sets as classes
BINS = 2 * HALF // COARSER


def _nothing() -> "array[int]":
    return array("q", bytes(8 * 2 * BINS))


@dataclass(slots=True)
class ClassRankings:
    """of_class: by name, counts of the rows of other classes by bin, then of its own. Mutable."""

    of_class: dict[str, "array[int]"] = field(default_factory=dict)

    def add(self, names: Sequence[str], scores: Sequence[float], truth: str) -> None:
        """One row: scores in [0, 1] of the classes `names`, and its true class."""
        if len(names) > RANKED_MAX:
            return
        for name, score in zip(names, scores, strict=True):
            self._of(name)[(name == truth) * BINS + bin_of(score) // COARSER] += 1
        self._bound()

    def merge(self, other: "ClassRankings") -> None:
        for name, counts in other.of_class.items():
            np.frombuffer(self._of(name), dtype=np.int64)[:] += np.frombuffer(counts, np.int64)
        self._bound()

    def counts(self, name: str) -> NDArray[np.int64]:
        """(2, BINS): rows of other classes and of this one, by rising score."""
        return np.array(self.of_class[name], dtype=np.int64).reshape(2, BINS)

    def _of(self, name: str) -> "array[int]":
        found = self.of_class.get(name)
        if found is None:
            found = self.of_class[name] = _nothing()
        return found

    def _bound(self) -> None:
        while len(self.of_class) > RANKED_MAX:
            del self.of_class[max(self.of_class, key=class_order)]

    def to_tree(self) -> Tree:
        return [[name, *_sparse(self.of_class[name])] for name in sorted(self.of_class)]

    @classmethod
    def from_tree(cls, tree: Tree) -> "ClassRankings":
        return cls({name: _dense(places, counts) for name, places, counts in tree})


def _sparse(counts: "array[int]") -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Most scores of one class are in few bins."""
    dense = np.frombuffer(counts, dtype=np.int64)
    places = np.flatnonzero(dense)
    return places.astype(np.int16), dense[places]


def _dense(places: NDArray[np.int16], counts: NDArray[np.int64]) -> "array[int]":
    found = _nothing()
    np.frombuffer(found, dtype=np.int64)[places] = counts
    return found
