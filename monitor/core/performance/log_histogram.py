"""A histogram of sizes over many orders of magnitude, bounded, with no edges to choose.

Each octave is cut into PARTS equal bins, so a bin's middle is within 1 / (2 PARTS) of
every value in it, relative to the value. Counts add, in any order.
Source: the log-linear form of Masson, Rim and Lee 2019, "DDSketch".
"""

from dataclasses import dataclass, field
from math import ceil, frexp, ldexp

from monitor.core.tree import Tree

PARTS = 16
OCTAVES = 64  # below 2^-64 is nothing, above 2^64 is the last bin
NOTHING = -OCTAVES * PARTS - 1  # the bin of 0
LAST = OCTAVES * PARTS
RELATIVE_ERROR = 1 / (2 * PARTS)


@dataclass(slots=True)
class LogHistogram:
    """At most 2 OCTAVES PARTS + 2 bins, those that hold something. Mutable."""

    bins: dict[int, int] = field(default_factory=dict)

    def add(self, value: float) -> None:
        """value: finite; below 0 counts as 0."""
        place = bin_of(value)
        self.bins[place] = self.bins.get(place, 0) + 1

    def merge(self, other: "LogHistogram") -> None:
        for place, count in other.bins.items():
            self.bins[place] = self.bins.get(place, 0) + count

    @property
    def rows(self) -> int:
        return sum(self.bins.values())

    def quantile(self, share: float) -> float:
        """The smallest value that at least `share` of all are not above; NaN of none."""
        wanted, seen = max(ceil(share * self.rows), 1), 0
        for place in sorted(self.bins):
            seen += self.bins[place]
            if seen >= wanted:
                return middle_of(place)
        return float("nan")

    def to_tree(self) -> Tree:
        return [[place, self.bins[place]] for place in sorted(self.bins)]

    @classmethod
    def from_tree(cls, tree: Tree) -> "LogHistogram":
        return cls(dict(tree))


def bin_of(value: float) -> int:
    """Which bin; larger values never have smaller ones."""
    mantissa, octave = frexp(value)  # 0.5 <= mantissa < 1
    if value <= 0.0 or octave <= -OCTAVES:
        return NOTHING
    return min(octave * PARTS + int((mantissa - 0.5) * 2 * PARTS), LAST)


def middle_of(place: int) -> float:
    if place == NOTHING:
        return 0.0
    octave, part = divmod(place, PARTS)
    return ldexp(0.5 + (part + 0.5) / (2 * PARTS), octave)
