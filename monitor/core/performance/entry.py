"""What the table says of a measure of performance."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import nan

from monitor.core.performance.tally import Tally


class Task(StrEnum):
    """What answers must be for a measure to say something of them."""

    CLASSES = "classes"
    TWO_CLASSES = "two classes"
    SCORES = "class scores"
    TWO_SCORES = "scores of two classes"
    MANY_SCORES = "scores of more classes"
    NUMBERS = "numbers"


class Better(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure over `rows` labelled rows; NaN where they do not define it.

    low, high: its 95 % interval.
    by_chance: of a version without any fault, for as many rows; None: that is the best value.
    binning:   how far the value may be from that of the rows themselves; 0: not at all.
    undefined: why the value is NaN, in words, where that is worth saying.
    """

    value: float
    rows: int
    low: float = nan
    high: float = nan
    by_chance: float | None = None
    binning: float = 0.0
    undefined: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table.

    name:       in documents and metrics; title: for people.
    definition: what is computed, in a line.
    interval:   where the interval comes from, in a few words.
    estimate:   from a tally; None where it does not apply to its answers.
    """

    name: str
    title: str
    task: Task
    better: Better
    definition: str
    interval: str
    source: str
    estimate: Callable[[Tally], Estimate | None]
