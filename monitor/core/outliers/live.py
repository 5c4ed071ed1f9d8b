"""Live rows unlike the reference: how many, and the strongest of them.

Laws:
- of each block a fair sample of at most about ROWS_PER_BLOCK rows is looked at, by the hash
  of their numbers in the log, so neither order nor restarts show in what is found;
- rows are counted over the live window, the last full window of blocks and the one under
  way; the strongest are kept for longer, over the last full hour and the one under way;
- where the log's policy withholds any feature, no row is looked at, and what was kept of
  rows is forgotten at once;
- what is kept is bounded: STRONGEST_MAX rows of each hour, SHOWN_MAX values of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.multivariate.row_sample import row_keys
from monitor.core.outliers.scorer import Scorer, Share
from monitor.core.predictions import rows_of
from monitor.core.profile import FeatureProfile, text_of
from monitor.core.tree import Tree

HOUR_NS = 3600 * 10**9
ROWS_PER_BLOCK = 512  # 5 to 7 ms of a core for 100 features
STRONGEST_MAX = 20
SHOWN_MAX = 4  # features of a row, those that add most
TEXT_MAX = 32  # characters of a text that is shown
COUNTED = 3  # rows, of them looked at, of them outliers

Value = float | str | None  # None: missing


@dataclass(frozen=True, slots=True)
class Shown:
    """One feature of an outlier, by its place in the profile; see `Share`."""

    feature: int
    value: Value
    expected: Value
    drop: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """A row, or rows that are alike in all features: then the first number names them.

    producer, sequence, row: the number that the log gives the row's request, and the row's
                             place in it. ts_ns: Unix time at which the request arrived.
    times:                   rows that are alike to the score, since the first was kept.
    """

    score: float
    producer: str
    sequence: int
    row: int
    ts_ns: int
    features: tuple[Shown, ...]
    times: int = 1

    @property
    def rank(self) -> tuple[float, str, int, int]:
        """Rises from the strongest; of equal scores by what names the row."""
        return (-self.score, self.producer, self.sequence, self.row)

    def to_tree(self) -> Tree:
        shown = [[s.feature, s.value, s.expected, s.drop] for s in self.features]
        name = [self.producer, self.sequence, self.row, self.ts_ns]
        return [self.score, *name, shown, self.times]

    @classmethod
    def from_tree(cls, tree: Tree) -> "Outlier":
        score, producer, sequence, row, ts_ns, shown, times = tree
        features = tuple(Shown(*item) for item in shown)
        return cls(score, producer, sequence, row, ts_ns, features, times)


Strongest = tuple[Outlier, ...]


def merged(first: Strongest, second: Strongest) -> Strongest:
    """The strongest of both; those that are alike are one."""
    found: dict[tuple[float, tuple[Shown, ...]], Outlier] = {}
    for item in sorted((*first, *second), key=lambda item: item.rank):
        key = (item.score, item.features)
        other = found.get(key)
        found[key] = replace(other, times=other.times + item.times) if other else item
    return tuple(found.values())[:STRONGEST_MAX]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """An outlier of the block under way: a row of a part, and its values as they were scored."""

    score: float
    part: Part
    row: int
    values: Floats

    @property
    def rank(self) -> tuple[float, str, int]:
        return (-self.score, self.part.producer, int(self.part.sequences[self.row]))


@dataclass(slots=True)
class LiveOutliers:
    """Of one version. Mutable.

    counted: (COUNTED,) of the last full window, and of the one under way; strongest: of hours.
    """

    half: int = -1
    hour: int = -1
    counted: tuple[Counts, Counts] = field(
        default_factory=lambda: (np.zeros(COUNTED, dtype=np.int64),) * 2
    )
    strongest: tuple[Strongest, Strongest] = ((), ())
    withheld: bool = False

    def move_to(self, half: int, start_ns: int) -> None:
        """Start window `half`, and the hour of a block, if they are later ones."""
        hour, nothing = start_ns // HOUR_NS, np.zeros(COUNTED, dtype=np.int64)
        if half > self.half:
            self.counted = (self.counted[1] if half == self.half + 1 else nothing, nothing)
            self.half = half
        if hour > self.hour:
            self.strongest = (self.strongest[1] if hour == self.hour + 1 else (), ())
            self.hour = hour

    def add(self, parts: Sequence[Part], counter: Counter, scorer: Scorer) -> Counts:
        """Look at a block's rows of one version; returns what was counted: (COUNTED,).

        Rows of no log, and rows that do not fit the reference, are not looked at.
        """
        counted = np.zeros(COUNTED, dtype=np.int64)
        numbered = [part for part in parts if len(part.sequences)]
        if not numbered:
            return counted
        features = counter.profile.features
        self.withheld = any(
            counter.is_withheld(feature, part.inputs, part.withheld)
            for part in numbered
            if part.withheld
            for feature in features
        )
        if self.withheld:
            self.strongest = ((), ())
            return counted
        counted[0] = sum(len(part.sequences) for part in numbered)
        step = -(-int(counted[0]) // ROWS_PER_BLOCK)
        found: list[Candidate] = []
        for part in numbered:
            keys = row_keys(part.producer, part.sequences)
            rows = np.flatnonzero(keys % np.uint64(step) == 0)
            values = scorer.read(part, counter, rows) if len(rows) else None
            if values is None:
                continue
            scores = scorer.scores(values)
            above = np.flatnonzero(scores > scorer.reference.threshold)
            counted[1:] += len(rows), len(above)
            found += [Candidate(float(scores[at]), part, int(rows[at]), values[at]) for at in above]
        self.counted = (self.counted[0], self.counted[1] + counted)
        self._keep(found, counter, scorer)
        return counted

    def _keep(self, candidates: list["Candidate"], counter: Counter, scorer: Scorer) -> None:
        """Take in what is as strong as the weakest that is kept; only that is explained."""
        before, kept = self.strongest
        weakest = kept[-1].score if len(kept) == STRONGEST_MAX else 0.0
        alike: dict[bytes, list[Candidate]] = {}
        for candidate in sorted(candidates, key=lambda item: item.rank):
            if candidate.score >= weakest:
                alike.setdefault(candidate.values.tobytes(), []).append(candidate)
        new = [_outlier(same, counter, scorer) for same in list(alike.values())[:STRONGEST_MAX]]
        self.strongest = (before, merged(kept, tuple(new)))

    @property
    def live(self) -> Counts:
        """(COUNTED,) of the whole live window."""
        return self.counted[0] + self.counted[1]

    @property
    def shown(self) -> Strongest:
        """The strongest of the last hour or two."""
        return merged(*self.strongest)

    def to_tree(self) -> Tree:
        return {
            "half": self.half,
            "hour": self.hour,
            "counted": list(self.counted),
            "strongest": [[item.to_tree() for item in kept] for kept in self.strongest],
            "withheld": self.withheld,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "LiveOutliers":
        previous, current = (
            tuple(Outlier.from_tree(item) for item in kept) for kept in tree["strongest"]
        )
        half, hour, counted = tree["half"], tree["hour"], tuple(tree["counted"])
        return cls(half, hour, counted, (previous, current), tree["withheld"])


def _outlier(same: Sequence[Candidate], counter: Counter, scorer: Scorer) -> Outlier:
    """Rows that are alike, under the name of the first."""
    first = same[0]
    part, row = first.part, first.row
    shares = [share for share in scorer.explain(first.values) if share.drop > 0][:SHOWN_MAX]
    features = tuple(_shown(share, part, row, counter) for share in shares)
    place = int(part.rows[row]) if len(part.rows) else 0
    ts_ns = int(part.ts_ns[row]) if len(part.ts_ns) else 0
    first_sequence = int(part.sequences[row]) - place
    return Outlier(first.score, part.producer, first_sequence, place, ts_ns, features, len(same))


def _shown(share: Share, part: Part, row: int, counter: Counter) -> Shown:
    feature = counter.profile.features[share.feature]
    expected = share.expected
    if isinstance(expected, str):
        expected = expected[:TEXT_MAX]
    return Shown(share.feature, _value(feature, part, row, counter), expected, share.drop)


def _value(feature: FeatureProfile, part: Part, row: int, counter: Counter) -> Value:
    """As the log holds it."""
    if feature.is_text:
        tensor = counter.tensor(feature, part.inputs)
        assert tensor is not None  # it was scored
        value = rows_of(tensor)[row, feature.index]
        return None if value is None else text_of(value)[:TEXT_MAX]
    block = counter.numbers(feature.tensor, part.inputs, np.array([row], dtype=np.int64))
    assert block is not None
    number = float(block[0, feature.index])
    return None if np.isnan(number) else number
