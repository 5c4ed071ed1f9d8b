"""Neighbouring blocks that are bet on as one: sums of answers until their time is over."""

from dataclasses import dataclass

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.tree import Tree


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """A stretch that is over, and how many scheduled blocks it took."""

    yes: Counts  # (v,)
    totals: Counts  # (v,)
    blocks: int

    @property
    def means(self) -> Floats:
        return shares(self.yes, self.totals)


@dataclass(slots=True, eq=False)
class Stretch:
    """The blocks under way; a stretch ends when its scheduled time does, rows or not."""

    yes: Counts  # (v,)
    totals: Counts  # (v,)
    blocks: int = 0  # scheduled, since the last stretch ended

    @classmethod
    def empty(cls, questions: int) -> "Stretch":
        zeros = np.zeros(questions, dtype=np.int64)
        return cls(zeros, zeros.copy())

    def add(self, yes: Counts, totals: Counts, elapsed: int, length: int) -> list["Ended"]:
        """Take the next block; returns what ended, oldest first.

        elapsed: blocks since the one before it. Time in which there was no block is the
                 next stretch's, if it is longer than what was left of this one.
        """
        ended = []
        if self.totals.any() and self.blocks + elapsed > length:
            left = max(length - self.blocks, 0)
            ended.append(self._end(self.blocks + left))
            elapsed -= left
        self.yes, self.totals = self.yes + yes, self.totals + totals
        self.blocks += elapsed
        if self.blocks >= length:
            ended.append(self._end(self.blocks))
        return ended

    def _end(self, blocks: int) -> "Ended":
        ended = Ended(self.yes, self.totals, blocks)
        self.yes, self.totals = np.zeros_like(self.yes), np.zeros_like(self.totals)
        self.blocks = 0
        return ended

    def to_tree(self) -> Tree:
        return {"yes": self.yes, "totals": self.totals, "blocks": self.blocks}

    @classmethod
    def from_tree(cls, tree: Tree) -> "Stretch":
        return cls(tree["yes"], tree["totals"], tree["blocks"])


def shares(yes: Counts, totals: Counts) -> Floats:
    """NaN where the total is 0."""
    with np.errstate(invalid="ignore"):
        found: Floats = yes / np.where(totals > 0, totals, np.nan)
    return found
