"""The tallies of some rows of a version: of the last window, the rollout, and all their time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.core.performance.tally import LabelledRow, Tally
from monitor.core.tree import Tree


class Span(StrEnum):
    WINDOW = "window"  # labels of the last one to two windows of blocks
    ROLLOUT = "rollout"  # rows answered since the rollout under way began
    SINCE = "since"  # everything since the version began to answer


@dataclass(frozen=True, slots=True)
class Times:
    """half_ns: of one of the two windows; since_ns: when the version began to answer.

    rollout_ns: the first row of the rollout under way; None: none is.
    """

    half_ns: int
    since_ns: int
    rollout_ns: int | None


@dataclass(slots=True)
class Spans:
    """half: which window `current` is. Mutable."""

    half: int = -1
    previous: Tally = field(default_factory=Tally)
    current: Tally = field(default_factory=Tally)
    rollout: Tally = field(default_factory=Tally)
    since: Tally = field(default_factory=Tally)

    def move_to(self, half: int) -> None:
        """Begin window `half` if it is a later one."""
        if half > self.half:
            self.previous = self.current if half == self.half + 1 else Tally()
            self.current, self.half = Tally(), half

    def answered(self, rows: int, *, rollout: bool) -> None:
        """rollout: whether one is under way."""
        self.current.answered += rows
        self.since.answered += rows
        if rollout:
            self.rollout.answered += rows

    def labelled(self, rows: Iterable[LabelledRow], times: Times) -> None:
        """Each row is counted once, and merged into the spans that it is in."""
        during, before = Tally(), Tally()
        for row in rows:
            is_during = times.rollout_ns is not None and row.predicted_ns >= times.rollout_ns
            (during if is_during else before).add(row)
            self.since.covered += row.predicted_ns >= times.since_ns
            age = self.half - row.predicted_ns // times.half_ns
            self.current.covered += age <= 0
            self.previous.covered += age == 1
        self.rollout.merge(during)
        self.rollout.covered += during.rows
        for tally in (during, before):
            self.current.merge(tally)
            self.since.merge(tally)

    def of(self, *, rollout: bool) -> Mapping[Span, Tally]:
        """rollout: whether one is under way."""
        window = Tally()
        window.merge(self.previous)
        window.merge(self.current)
        found = {Span.WINDOW: window, Span.ROLLOUT: self.rollout, Span.SINCE: self.since}
        return found if rollout else {s: t for s, t in found.items() if s is not Span.ROLLOUT}

    def to_tree(self) -> Tree:
        return {
            "half": self.half,
            "previous": self.previous.to_tree(),
            "current": self.current.to_tree(),
            "rollout": self.rollout.to_tree(),
            "since": self.since.to_tree(),
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "Spans":
        names = ("previous", "current", "rollout", "since")
        return cls(tree["half"], *(Tally.from_tree(tree[name]) for name in names))
