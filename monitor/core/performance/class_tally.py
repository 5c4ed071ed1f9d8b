"""Counts and sums over labelled rows whose answers are classes.

Laws:
- everything is a sum over rows, so tallies merge exactly, however rows are split;
- of classes the CLASSES_MAX first ones in their order are told apart. Which those are
  does not depend on the order of rows: a class that was pushed out has more than
  CLASSES_MAX before it, and will have in every larger tally.
"""

from dataclasses import dataclass, field
from math import log

from monitor.core.performance.answers import ClassAnswer, Scores, class_order
from monitor.core.performance.class_rankings import ClassRankings
from monitor.core.performance.exact_sum import from_stored, to_stored, units
from monitor.core.performance.score_histogram import ScoreHistogram
from monitor.core.tree import Tree

CLASSES_MAX = 256
NAME_MAX = 128  # characters; a class of a longer name counts as one of the others
CALIBRATION_BINS = 15  # as in Guo et al. 2017
LEAST_SCORE = 2.0**-23  # float32 tells no less from 1; the log of 0 costs as much


@dataclass(slots=True)
class ClassCount:
    """truth: rows of the class; said: rows that were answered with it; both: rightly so."""

    truth: int = 0
    said: int = 0
    both: int = 0

    def merge(self, other: "ClassCount") -> None:
        self.truth += other.truth
        self.said += other.said
        self.both += other.both


@dataclass(slots=True)
class ScoreSums:
    """Of rows with probabilities; sums in units of `exact_sum`, of values and their squares.

    agreeing:    rows whose largest score is of the class that was answered.
    calibration: per bin of the largest score: rows, of these right ones, sum of the scores.
    """

    rows: int = 0
    agreeing: int = 0
    log_loss: list[int] = field(default_factory=lambda: [0, 0])
    squares: list[int] = field(default_factory=lambda: [0, 0])
    calibration: dict[int, list[int]] = field(default_factory=dict)

    def add(self, scores: Scores) -> None:
        self.rows += 1
        self.agreeing += scores.agrees
        loss = -log(max(scores.of_truth, LEAST_SCORE))
        for sums, value in ((self.log_loss, loss), (self.squares, scores.squares)):
            sums[0] += units(value)
            sums[1] += units(value, value)
        place = min(int(scores.top * CALIBRATION_BINS), CALIBRATION_BINS - 1)
        cell = self.calibration.setdefault(place, [0, 0, 0])
        cell[0] += 1
        cell[1] += scores.top_is_truth
        cell[2] += units(scores.top)

    def merge(self, other: "ScoreSums") -> None:
        self.rows += other.rows
        self.agreeing += other.agreeing
        for mine, theirs in ((self.log_loss, other.log_loss), (self.squares, other.squares)):
            mine[0] += theirs[0]
            mine[1] += theirs[1]
        for place, counts in other.calibration.items():
            cell = self.calibration.setdefault(place, [0, 0, 0])
            for i, count in enumerate(counts):
                cell[i] += count

    def to_tree(self) -> Tree:
        return {
            "rows": self.rows,
            "agreeing": self.agreeing,
            "log_loss": [to_stored(total) for total in self.log_loss],
            "squares": [to_stored(total) for total in self.squares],
            "calibration": [
                [place, rows, right, to_stored(total)]
                for place, (rows, right, total) in sorted(self.calibration.items())
            ],
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "ScoreSums":
        return cls(
            tree["rows"],
            tree["agreeing"],
            [from_stored(total) for total in tree["log_loss"]],
            [from_stored(total) for total in tree["squares"]],
            {
                place: [rows, right, from_stored(total)]
                for place, rows, right, total in tree["calibration"]
            },
        )


@dataclass(slots=True)
class ClassTally:
    """positive: as in `ClassAnswer`. Mutable.

    histogram: of the positive class's scores; rankings: of all classes' scores, where there
               are more than two.
    """

    rows: int = 0
    right: int = 0
    positive: str = ""
    of_class: dict[str, ClassCount] = field(default_factory=dict)
    others: ClassCount = field(default_factory=ClassCount)
    scores: ScoreSums = field(default_factory=ScoreSums)
    histogram: ScoreHistogram = field(default_factory=ScoreHistogram)
    rankings: ClassRankings = field(default_factory=ClassRankings)

    def add(self, answer: ClassAnswer) -> None:
        is_right = answer.said == answer.truth
        self.rows += 1
        self.right += is_right
        self.positive = max(self.positive, answer.positive)
        self._count(answer.truth, ClassCount(1, int(is_right), int(is_right)))
        if not is_right:
            self._count(answer.said, ClassCount(0, 1, 0))
        if answer.scores is not None:
            self.scores.add(answer.scores)
            if answer.scores.positive is not None:
                self.histogram.add(answer.scores.positive, answer.truth == answer.positive)
            self.rankings.add(answer.scores.names, answer.scores.of_classes, answer.truth)

    def merge(self, other: "ClassTally") -> None:
        self.rows += other.rows
        self.right += other.right
        self.positive = max(self.positive, other.positive)
        for name, count in other.of_class.items():
            self._count(name, count)
        self.others.merge(other.others)
        self.scores.merge(other.scores)
        self.histogram.merge(other.histogram)
        self.rankings.merge(other.rankings)

    def _count(self, name: str, count: ClassCount) -> None:
        found = self.of_class.get(name)
        if found is not None:
            found.merge(count)
        elif len(name) > NAME_MAX:
            self.others.merge(count)
        else:
            self.of_class[name] = ClassCount(count.truth, count.said, count.both)
            if len(self.of_class) > CLASSES_MAX:
                last = max(self.of_class, key=class_order)
                self.others.merge(self.of_class.pop(last))

    def to_tree(self) -> Tree:
        return {
            "rows": self.rows,
            "right": self.right,
            "positive": self.positive,
            "of_class": [
                [name, count.truth, count.said, count.both]
                for name, count in sorted(self.of_class.items())
            ],
            "others": [self.others.truth, self.others.said, self.others.both],
            "scores": self.scores.to_tree(),
            "histogram": self.histogram.to_tree(),
            "rankings": self.rankings.to_tree(),
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "ClassTally":
        return cls(
            tree["rows"],
            tree["right"],
            tree["positive"],
            {name: ClassCount(*counts) for name, *counts in tree["of_class"]},
            ClassCount(*tree["others"]),
            ScoreSums.from_tree(tree["scores"]),
            ScoreHistogram.from_tree(tree["histogram"]),
            ClassRankings.from_tree(tree["rankings"]),
        )
