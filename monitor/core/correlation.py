"""How long traffic stays correlated, from the means of its blocks.

An e-detector's law is about a block given the past: its mean must not be above the
bound, whatever came before. Where rows are alike for minutes, a block of a second
repeats the one before it, and only a longer block may be bet on as if it were new.

What a bet loses by that is the covariance of neighbouring blocks, what it has to
spare is the tolerance: a stake of s loses at most s^2 covariance a block and gains
s tolerance. So blocks are long enough once the covariance is below tolerance / s.

It is estimated at the dyadic lengths k = 1, 2, 4, ... from the Haar variance H_k, a
quarter of the mean squared difference of two neighbouring spans of k blocks. Spans
of k vary by Var_k = H_k + H_2k + H_4k + ..., and neighbours share Var_2k - H_k.

Laws:
- the largest difference of each length is left out: one change of level is drift
  and must not lengthen blocks, several there and back are correlation. Which of the
  two one change begins, nobody can tell yet, so the promise is not covered after it;
- what lasts longer than has been watched cannot be told from drift, by anybody;
- the estimate is a function of the means so far, so the length of the next block
  is known before it begins.

Source: Allan, "Statistics of atomic frequency standards" (differences in place of
levels); Percival, "On estimation of the wavelet variance" (the sum over lengths).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Counts, Floats
from monitor.core.tree import Tree

LENGTHS = 12  # 1 to 2,048 blocks, an hour's pairs of 1 s blocks
PAIRS_MIN = 8  # of a length, for its share of the variance
PAIRS_JUDGED = 4 * PAIRS_MIN  # of a length that is judged: two longer ones are known then
# Correlation at chance: this over the root of the spans. Three deviations, since the
# longest lengths, which have the fewest pairs, weigh most in the sum.
CHANCE = 5.0
BLOCKS_MIN = 256  # fewer say too little
SPARE = 0.5  # of the tolerance is spent on neighbours, the rest on those farther away


@dataclass(frozen=True, slots=True)
class Span:
    """How many blocks are bet on as one, and whether the promise holds for it."""

    blocks: int
    reason: str = ""  # why the promise is not covered; empty: it is

    @property
    def covered(self) -> bool:
        return not self.reason


@dataclass(slots=True, eq=False)
class BlockMeans:
    """s series of block means, as sums of their differences; no block is kept."""

    blocks: int  # so far
    waiting: Floats  # (LENGTHS, s) the first span of a pair; NaN: none
    pairs: Counts  # (LENGTHS, s)
    squares: Floats  # (LENGTHS, s) sum of squared half differences
    largest: Floats  # (LENGTHS, s) of them

    @classmethod
    def empty(cls, series: int) -> "BlockMeans":
        shape = (LENGTHS, series)
        none = np.zeros(shape)
        return cls(0, np.full(shape, np.nan), none.astype(np.int64), none, none.copy())

    def add(self, means: Floats) -> None:
        """means: (s,), NaN where a block has nothing to say: it does not count there."""
        self.blocks += 1
        spans = means
        for length in range(LENGTHS):
            first = self.waiting[length]
            whole = ~np.isnan(spans) & ~np.isnan(first)
            square = np.where(whole, (spans - first) ** 2 / 4, 0.0)
            self.pairs[length] += whole
            self.squares[length] += square
            np.maximum(self.largest[length], square, out=self.largest[length])
            doubled = np.where(whole, (spans + first) / 2, np.nan)
            self.waiting[length] = np.where(np.isnan(first), spans, np.where(whole, np.nan, first))
            if not whole.any():
                return
            spans = doubled

    def covariances(self, left_out: int = 1) -> tuple[Floats, Floats]:
        """Of neighbouring spans, and their correlation: two (LENGTHS, s).

        left_out: 1 for the largest difference of each length, 0 for none.
        Beyond the longest length with enough pairs, spans count as uncorrelated.
        """
        known, haar, longer = self._spectrum(left_out)
        covariance = np.where(known, longer - haar, 0.0)
        variance = longer + haar
        return covariance, covariance / np.where(variance > 0, variance, 1.0)

    def _spectrum(self, left_out: int) -> tuple[NDArray[np.bool_], Floats, Floats]:
        """Lengths with enough pairs, H of each, and the sum of H of all longer ones."""
        known = self.pairs >= PAIRS_MIN
        squares = self.squares - left_out * self.largest
        haar = np.where(known, squares / np.maximum(self.pairs - left_out, 1), 0.0)
        longest = np.maximum(known.sum(axis=0) - 1, 0)
        beyond = np.take_along_axis(haar, longest[None, :], axis=0)
        return known, haar, np.cumsum(haar[::-1], axis=0)[::-1] - haar + beyond

    def long_run(self) -> Floats:
        """b times the variance of a mean over b blocks, for large b: (s,).

        The largest estimate of the lengths with enough pairs: a mean of blocks that are
        alike for k of them varies as if there were b / k. 0 where nothing is known yet.
        """
        _, haar, longer = self._spectrum(0)
        lengths = np.exp2(np.arange(LENGTHS))[:, None]
        found: Floats = np.max(np.where(self._judged(), lengths * (haar + longer), 0.0), axis=0)
        return found

    def moved(self, deviation: float) -> bool:
        """Whether the level of some series moved, and by more than a mean's error explains.

        deviation: half of what the means of neighbouring spans must differ by at least.
        It shows in spans of any length, in one pair of them already.
        """
        lengths = np.exp2(np.arange(LENGTHS))[:, None]
        chance = CHANCE**2 * self.long_run() / (2.0 * lengths)
        return bool(np.any(self.largest > np.maximum(chance, deviation**2)))

    def span(self, limits: Floats, current: int) -> Span:
        """How long blocks must be; limits: (s,) of the covariance.

        current: how long they are; they get shorter only if a quarter would do, since
                 estimates waver.
        """
        if self.blocks < BLOCKS_MIN:
            return Span(current, f"{self.blocks} of {BLOCKS_MIN} blocks seen, too few to know")
        needed = self._needed(limits, 1)
        unresolved = (needed > 0) & (needed >= self._judged().sum(axis=0))
        if unresolved.any():
            blocks = 1 << min(int(np.max(needed[unresolved])) + 2, LENGTHS)
            sentence = f"traffic is correlated for longer than {self.blocks} blocks can show"
            return Span(max(blocks, current), sentence)
        wanted = int(np.max(needed, initial=0))
        blocks = 1 << wanted
        if blocks < current < 4 * blocks:
            blocks = current
        if np.any(self._needed(limits, 0) > wanted):
            sentence = f"its level changed: drift, or correlation longer than {self.blocks} blocks"
            return Span(blocks, sentence)
        return Span(blocks)

    def _judged(self) -> NDArray[np.bool_]:
        """Lengths with enough pairs, of each series: (LENGTHS, s)."""
        return self.pairs >= PAIRS_JUDGED

    def _needed(self, limits: Floats, left_out: int) -> NDArray[np.int64]:
        """log2 of the length that each series needs: one above the longest too short."""
        covariance, correlation = self.covariances(left_out)
        chance = CHANCE / np.sqrt(2.0 * np.maximum(self.pairs, 1))
        short = self._judged() & (covariance > SPARE * limits) & (correlation > chance)
        lengths = np.arange(1, LENGTHS + 1)[:, None]
        found: NDArray[np.int64] = np.max(np.where(short, lengths, 0), axis=0, initial=0)
        return found

    def merged(self, other: "BlockMeans") -> "BlockMeans":
        """With those of another time, as sums: no pair is made across the two."""
        return BlockMeans(
            self.blocks + other.blocks,
            np.full_like(self.waiting, np.nan),
            self.pairs + other.pairs,
            self.squares + other.squares,
            np.maximum(self.largest, other.largest),
        )

    def to_tree(self) -> Tree:
        return {
            "blocks": self.blocks,
            "waiting": self.waiting,
            "pairs": self.pairs,
            "squares": self.squares,
            "largest": self.largest,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "BlockMeans":
        names = ("blocks", "waiting", "pairs", "squares", "largest")
        return cls(*(tree[name] for name in names))
