"""Whether the parts of a protected slice get an advantage as often as each other.

Two criteria, each a share p of every part:
- parity: of the rows that were answered, those with the positive answer. Their ratio is
  known as disparate impact;
- equal opportunity: of the labelled rows that are truly positive, those that were answered
  so, the true positive rate.

A part is held against the one with the highest share: by the difference and by the ratio.
All confidence sequences of a criterion hold at once, at every time, with 95 %, so that who
looks again and again, and at whichever parts, is not misled more often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import nan

from monitor.core.performance.answers import ClassAnswer, NumberAnswer
from monitor.core.performance.confidence_sequence import share_within
from monitor.core.slice import Slice
from monitor.core.tree import Tree

ALPHA = 0.05  # of one criterion of one slice of one version, over all time


class Criterion(StrEnum):
    PARITY = "parity"
    OPPORTUNITY = "equal opportunity"


class Standing(StrEnum):
    """Of a part beside the one with the highest share."""

    FAIR = "within the limits"
    UNFAIR = "beyond a limit"
    OPEN = "cannot say yet"


@dataclass(slots=True)
class Advantages:
    """Counts of one part. Mutable.

    said: rows with an answer; positive: of these, with the positive one.
    true: labelled rows that are truly positive; found: of these, answered so.
    """

    said: int = 0
    positive: int = 0
    true: int = 0
    found: int = 0

    def add_labelled(self, answer: ClassAnswer | NumberAnswer, item: Slice) -> None:
        if isinstance(answer, NumberAnswer):
            is_true = answer.truth >= item.positive_from
            is_found = answer.said >= item.positive_from
        else:
            is_true = answer.truth == item.positive
            is_found = answer.said == item.positive
        self.true += is_true
        self.found += is_true and is_found

    def counts(self, criterion: Criterion) -> tuple[int, int]:
        """hits and rows."""
        if criterion is Criterion.PARITY:
            return self.positive, self.said
        return self.found, self.true

    def to_tree(self) -> Tree:
        return [self.said, self.positive, self.true, self.found]

    @classmethod
    def from_tree(cls, tree: Tree) -> "Advantages":
        return cls(*tree)


@dataclass(frozen=True, slots=True)
class Bounded:
    """A number and where it surely lies; NaN where rows do not define it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One part by one criterion.

    difference: how much its share is below the highest one, 0 to 1; ratio: to that.
    """

    rows: int
    share: Bounded
    difference: Bounded
    ratio: Bounded
    standing: Standing


def compare(
    item: Slice, parts: Mapping[str, Advantages], criterion: Criterion
) -> Mapping[str, Comparison]:
    """Every part that has rows, beside the one with the highest share.

    Parts without rows say nothing and are left out; of the level they have their part all
    the same, so that it does not depend on what came.
    """
    alpha = ALPHA / len(parts)
    shares: dict[str, tuple[int, Bounded]] = {}
    for name, advantages in parts.items():
        hits, rows = advantages.counts(criterion)
        if rows:
            shares[name] = rows, Bounded(hits / rows, *share_within(hits, rows, alpha))
    return {
        name: _beside(
            item, rows, share, [other for key, (_, other) in shares.items() if key != name]
        )
        for name, (rows, share) in shares.items()
    }


def _beside(item: Slice, rows: int, own: Bounded, others: Sequence[Bounded]) -> Comparison:
    if not others:
        unknown = Bounded(nan, nan, nan)
        return Comparison(rows, own, unknown, unknown, Standing.OPEN)
    top = Bounded(
        max(other.value for other in others),
        max(other.low for other in others),
        max(other.high for other in others),
    )
    difference = Bounded(
        max(top.value - own.value, 0.0),
        max(top.low - own.high, 0.0),
        max(top.high - own.low, 0.0),
    )
    ratio = Bounded(
        _ratio(own.value, top.value), _ratio(own.low, top.high), _ratio(own.high, top.low)
    )
    if difference.low > item.difference_max or ratio.high < item.ratio_min:
        standing = Standing.UNFAIR
    elif difference.high <= item.difference_max and ratio.low >= item.ratio_min:
        standing = Standing.FAIR
    else:
        standing = Standing.OPEN
    return Comparison(rows, own, difference, ratio, standing)


def _ratio(share: float, top: float) -> float:
    """At most 1: the part may have the highest share itself."""
    return min(share / top, 1.0) if top > 0.0 else 1.0
