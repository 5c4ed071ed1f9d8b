"""Sums over labelled rows whose answers are numbers: exact, so they merge exactly."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import isfinite

from monitor.core.performance.answers import NumberAnswer
from monitor.core.performance.exact_sum import fraction_of, from_stored, to_stored, units
from monitor.core.performance.log_histogram import LogHistogram
from monitor.core.tree import Tree

# Powers of the error e, its size a and the truth t whose means measures and their intervals need.
POWERS = ("e", "ee", "ea", "eeee", "t", "tt", "ttt", "tttt", "eet", "eett")


@dataclass(slots=True)
class NumberTally:
    """rows: with a finite error; nonfinite: others, which are in no sum. Mutable.

    absolute: sum of |e|; powers: sums of products, all in units of `exact_sum`.
    """

    rows: int = 0
    nonfinite: int = 0
    absolute: int = 0
    powers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(POWERS, 0))
    errors: LogHistogram = field(default_factory=LogHistogram)  # of |e|

    def add(self, answer: NumberAnswer) -> None:
        error = answer.said - answer.truth
        if not isfinite(error):
            self.nonfinite += 1
            return
        self.rows += 1
        self.absolute += units(abs(error))
        values = {"e": error, "a": abs(error), "t": answer.truth}
        for power in POWERS:
            self.powers[power] += units(*(values[factor] for factor in power))
        self.errors.add(abs(error))

    def merge(self, other: "NumberTally") -> None:
        self.rows += other.rows
        self.nonfinite += other.nonfinite
        self.absolute += other.absolute
        for power in POWERS:
            self.powers[power] += other.powers[power]
        self.errors.merge(other.errors)

    def mean(self, power: str) -> Fraction:
        """Of a product over the rows, of which there must be one."""
        return fraction_of(self.powers[power]) / self.rows

    @property
    def mean_absolute(self) -> Fraction:
        return fraction_of(self.absolute) / self.rows

    def to_tree(self) -> Tree:
        return {
            "rows": self.rows,
            "nonfinite": self.nonfinite,
            "absolute": to_stored(self.absolute),
            "powers": {power: to_stored(total) for power, total in self.powers.items()},
            "errors": self.errors.to_tree(),
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "NumberTally":
        return cls(
            tree["rows"],
            tree["nonfinite"],
            from_stored(tree["absolute"]),
            {power: from_stored(tree["powers"][power]) for power in POWERS},
            LogHistogram.from_tree(tree["errors"]),
        )
