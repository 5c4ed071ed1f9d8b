"""Everything about the labelled rows of a version in a span of time, as mergeable counts."""

from dataclasses import dataclass, field

from monitor.core.performance.answers import ClassAnswer, NumberAnswer, of_probability
from monitor.core.performance.class_tally import ClassTally
from monitor.core.performance.log_histogram import LogHistogram
from monitor.core.performance.number_tally import NumberTally
from monitor.core.tree import Tree


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """predicted_ns: when it was answered; arrived_ns: when its label came.

    parts: which part of each of the model's slices it is in.
    """

    predicted_ns: int
    arrived_ns: int
    answer: ClassAnswer | NumberAnswer
    parts: tuple[int, ...] = ()


@dataclass(slots=True)
class Tally:
    """Mutable.

    answered: rows that the version answered in the span; covered: those of them that have
              a label by now. Other labels of the span are of rows from before it.
    delay:    seconds from a row's answer to its label.
    """

    answered: int = 0
    covered: int = 0
    rows: int = 0
    delay: LogHistogram = field(default_factory=LogHistogram)
    classes: ClassTally = field(default_factory=ClassTally)
    numbers: NumberTally = field(default_factory=NumberTally)

    def add(self, row: LabelledRow) -> None:
        """Count a label; not as covering, which is the caller's to say."""
        self.rows += 1
        self.delay.add((row.arrived_ns - row.predicted_ns) / 1e9)
        answer = row.answer
        if isinstance(answer, NumberAnswer):
            self.numbers.add(answer)
            probability = of_probability(answer)
            if probability is not None:
                self.classes.add(probability)
        else:
            self.classes.add(answer)

    def merge(self, other: "Tally") -> None:
        self.answered += other.answered
        self.covered += other.covered
        self.rows += other.rows
        self.delay.merge(other.delay)
        self.classes.merge(other.classes)
        self.numbers.merge(other.numbers)

    @property
    def coverage(self) -> float:
        """The share of the span's rows that have a label by now; NaN where it has none."""
        return min(self.covered / self.answered, 1.0) if self.answered else float("nan")

    @property
    def are_classes(self) -> bool:
        """Whether every answer was a class, or the probability of one."""
        return 0 < self.classes.rows == self.rows

    def to_tree(self) -> Tree:
        return {
            "answered": self.answered,
            "covered": self.covered,
            "rows": self.rows,
            "delay": self.delay.to_tree(),
            "classes": self.classes.to_tree() if self.classes.rows else None,
            "numbers": self.numbers.to_tree()
            if self.numbers.rows + self.numbers.nonfinite
            else None,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "Tally":
        classes, numbers = tree["classes"], tree["numbers"]
        return cls(
            tree["answered"],
            tree["covered"],
            tree["rows"],
            LogHistogram.from_tree(tree["delay"]),
            ClassTally.from_tree(classes) if classes else ClassTally(),
            NumberTally.from_tree(numbers) if numbers else NumberTally(),
        )
