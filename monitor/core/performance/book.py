"""The tallies of the versions of a model, of all their rows and of each part of its slices.

Laws:
- a label counts in the block in which it arrived, for the version that answered its row;
- at most VERSIONS_MAX versions are kept; those that had neither rows nor labels for longest
  go first;
- the state is a function of the blocks alone, and within a block of sums.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.core.block import Arm, ArmRows, Outcome
from monitor.core.estimation.answered import AnsweredScores
from monitor.core.estimation.estimation import Estimation
from monitor.core.performance.fairness import Advantages
from monitor.core.performance.spans import Spans, Times
from monitor.core.performance.tally import LabelledRow, Tally
from monitor.core.slice import Slice
from monitor.core.slicing import SliceCounts
from monitor.core.tree import Tree

VERSIONS_MAX = 4  # stable, the candidate, what was stable before, and one more


@dataclass(slots=True)
class SlicePart:
    """advantages: since the version began to answer; of a protected slice alone. Mutable."""

    spans: Spans = field(default_factory=Spans)
    advantages: Advantages = field(default_factory=Advantages)

    def to_tree(self) -> Tree:
        return [self.spans.to_tree(), self.advantages.to_tree()]

    @classmethod
    def from_tree(cls, tree: Tree) -> "SlicePart":
        return cls(Spans.from_tree(tree[0]), Advantages.from_tree(tree[1]))


@dataclass(slots=True)
class Measured:
    """One version. slices: the parts of each, in the order of the settings. Mutable."""

    version: str
    digest: str
    since_ns: int
    last_index: int = 0
    whole: Spans = field(default_factory=Spans)
    slices: list[list[SlicePart]] = field(default_factory=list)
    estimation: Estimation = field(default_factory=Estimation)

    def move_to(self, half: int) -> None:
        """Begin window `half` if it is a later one."""
        self.estimation.move_to(half, self.whole)
        for spans in self.all_spans():
            spans.move_to(half)

    def all_spans(self) -> list[Spans]:
        return [self.whole, *(part.spans for parts in self.slices for part in parts)]

    def to_tree(self) -> Tree:
        return {
            "version": self.version,
            "since_ns": self.since_ns,
            "last_index": self.last_index,
            "whole": self.whole.to_tree(),
            "slices": [[part.to_tree() for part in parts] for parts in self.slices],
            "estimation": self.estimation.to_tree(),
        }

    @classmethod
    def from_tree(cls, digest: str, tree: Tree) -> "Measured":
        return cls(
            tree["version"],
            digest,
            tree["since_ns"],
            tree["last_index"],
            Spans.from_tree(tree["whole"]),
            [[SlicePart.from_tree(part) for part in parts] for parts in tree["slices"]],
            Estimation.from_tree(tree["estimation"]),
        )


@dataclass(slots=True)
class PerformanceBook:
    """slices: as configured. Mutable.

    rollout: id and first row of the one under way; "" and 0: none is.
    """

    slices: Sequence[Slice] = ()
    versions: dict[str, Measured] = field(default_factory=dict)  # by digest
    rollout: str = ""
    rollout_ns: int = 0

    def follow(self, rollout: str, first_ns: int) -> None:
        """The rollout of the next block; its tallies begin anew with another one."""
        if rollout != self.rollout:
            self.rollout, self.rollout_ns = rollout, first_ns
            for measured in self.versions.values():
                for spans in measured.all_spans():
                    spans.rollout = Tally()

    def fold(
        self,
        index: int,
        block_ns: int,
        window_blocks: int,
        arms: Mapping[Arm, ArmRows],
        outcomes: Iterable[Outcome],
        sliced: Mapping[Arm, Sequence[SliceCounts]] | None = None,
        scored: Mapping[Arm, AnsweredScores] | None = None,
    ) -> None:
        """Take account of a block: rows by arm, and the labels that arrived in it.

        sliced: the rows of each arm by the parts of every slice; scored: the scores of each.
        """
        half_ns = block_ns * window_blocks
        half = index // window_blocks
        for measured in self.versions.values():
            measured.move_to(half)
        for arm, rows in sorted(arms.items()):
            if rows.rows:
                measured = self._of(arm.version, arm.digest, index, block_ns, half)
                measured.whole.answered(rows.rows, rollout=bool(self.rollout))
                self._answered_by_part(measured, sliced[arm] if sliced else ())
                if scored:
                    measured.estimation.current.merge(scored[arm])
        for (digest, version), labelled in _by_version(outcomes).items():
            measured = self._of(version, digest, index, block_ns, half)
            times = Times(half_ns, measured.since_ns, self.rollout_ns if self.rollout else None)
            measured.whole.labelled(labelled, times)
            self._labelled_by_part(measured, labelled, times)
        while len(self.versions) > VERSIONS_MAX:
            oldest = min(self.versions.values(), key=lambda item: (item.last_index, item.digest))
            del self.versions[oldest.digest]

    def _of(self, version: str, digest: str, index: int, block_ns: int, half: int) -> Measured:
        measured = self.versions.get(digest)
        if measured is None:
            parts = [[SlicePart() for _ in item.parts] for item in self.slices]
            measured = Measured(version, digest, index * block_ns, slices=parts)
            for spans in measured.all_spans():
                spans.half = half
            self.versions[digest] = measured
        measured.version, measured.last_index = version, index
        return measured

    def _answered_by_part(self, measured: Measured, counts: Sequence[SliceCounts]) -> None:
        for parts, count in zip(measured.slices, counts, strict=False):
            for place, part in enumerate(parts):
                part.spans.answered(int(count.rows[place]), rollout=bool(self.rollout))
                part.advantages.said += int(count.said[place])
                part.advantages.positive += int(count.positive[place])

    def _labelled_by_part(
        self, measured: Measured, labelled: Sequence[LabelledRow], times: Times
    ) -> None:
        for at, (item, parts) in enumerate(zip(self.slices, measured.slices, strict=True)):
            for place, part in enumerate(parts):
                own = [row for row in labelled if row.parts and row.parts[at] == place]
                part.spans.labelled(own, times)
                if item.protected:
                    for row in own:
                        part.advantages.add_labelled(row.answer, item)

    def to_tree(self) -> Tree:
        return {
            "versions": {digest: self.versions[digest].to_tree() for digest in self.versions},
            "rollout": self.rollout,
            "rollout_ns": self.rollout_ns,
        }

    @classmethod
    def from_tree(cls, tree: Tree, slices: Sequence[Slice] = ()) -> "PerformanceBook":
        """slices: those that the tree was made with."""
        versions = {
            digest: Measured.from_tree(digest, item) for digest, item in tree["versions"].items()
        }
        return cls(slices, versions, tree["rollout"], tree["rollout_ns"])


def _by_version(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], list[LabelledRow]]:
    """Labelled rows by digest and version."""
    found: dict[tuple[str, str], list[LabelledRow]] = {}
    for outcome in outcomes:
        if outcome.answer is not None:
            row = LabelledRow(
                outcome.predicted_ns, outcome.arrived_ns, outcome.answer, outcome.parts
            )
            found.setdefault((outcome.digest, outcome.version), []).append(row)
    return found
