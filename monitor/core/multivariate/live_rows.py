"""Samples of a version's live rows, in every space that its reference has rows in.

Laws:
- the live window is the last full window of blocks and the one under way, as that of the
  histograms, so a space keeps two samples;
- a block in which the log's policy withheld any feature of a space brings none of its rows
  there, and those that were kept until then are forgotten at once;
- memory is bounded by rows and values, whatever the traffic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.mixing import Keys
from monitor.core.multivariate.reference_rows import Rows, rows_within
from monitor.core.multivariate.row_sample import Places, RowSample, row_keys
from monitor.core.multivariate.spaces import Space
from monitor.core.tree import Tree

LIVE_VALUES_MAX = 1 << 17  # of all spaces: 512 KiB a window, since the state is stored often


@dataclass(slots=True)
class SpaceRows:
    """Of one space: the last full window's sample, and that of the one under way. Mutable."""

    space: Space
    previous: RowSample
    current: RowSample
    withheld: bool = False

    def to_tree(self) -> Tree:
        return {
            "previous": self.previous.to_tree(),
            "current": self.current.to_tree(),
            "withheld": self.withheld,
        }

    @classmethod
    def from_tree(cls, tree: Tree, space: Space) -> "SpaceRows":
        previous, current = (RowSample.from_tree(tree[name]) for name in ("previous", "current"))
        return cls(space, previous, current, tree["withheld"])

    @classmethod
    def empty(cls, space: Space) -> "SpaceRows":
        nothing = RowSample.empty(len(space.members))
        return cls(space, nothing, nothing)

    def forget(self) -> None:
        self.previous = self.current = RowSample.empty(len(self.space.members))


@dataclass(slots=True)
class LiveRows:
    """Mutable; most: rows of a sample, 0: none are kept."""

    most: int
    spaces: list[SpaceRows] = field(default_factory=list)
    half: int = -1

    @classmethod
    def start(cls, spaces: Sequence[Space], rows: int) -> "LiveRows":
        """rows: at most so many of each space."""
        width = sum(len(space.members) for space in spaces)
        most = rows_within(width, rows, LIVE_VALUES_MAX)
        return cls(most, [SpaceRows.empty(space) for space in spaces] if most else [])

    def move_to(self, half: int) -> None:
        """Start window `half` if it is a later one."""
        if half <= self.half:
            return
        for rows in self.spaces:
            nothing = RowSample.empty(len(rows.space.members))
            rows.previous = rows.current if half == self.half + 1 else nothing
            rows.current = nothing
        self.half = half

    def add(self, parts: Sequence[Part], counter: Counter) -> None:
        """Offer a block's rows; counter: that of the profile whose spaces these are."""
        if not parts or not self.spaces:
            return
        keys = [row_keys(part.producer, part.sequences) for part in parts]
        for rows in self.spaces:
            rows.withheld = any(_is_withheld(rows.space, part, counter) for part in parts)
            if rows.withheld:
                rows.forget()
                continue
            offered = zip(parts, keys, strict=True)
            found = [self._candidates(rows, part, own, counter) for part, own in offered]
            together = [np.concatenate(of_parts) for of_parts in zip(*found, strict=True)]
            rows.current = rows.current.with_rows(together[0], together[1], self.most)

    def _candidates(
        self, rows: SpaceRows, part: Part, keys: Keys, counter: Counter
    ) -> tuple[Keys, Rows]:
        """The part's rows that may belong to the sample: (k,) keys, (k, w) values."""
        chosen = rows.current.candidates(keys, self.most)
        values = _read(rows.space, part, counter, chosen)
        if values is None:
            return keys[:0], np.zeros((0, len(rows.space.members)), dtype=np.float32)
        return keys[chosen], values

    def live(self, space: SpaceRows) -> RowSample:
        """The sample of the whole live window."""
        current = space.current
        return space.previous.with_rows(current.keys, current.values, self.most)

    def to_tree(self) -> Tree:
        return {
            "half": self.half,
            "spaces": {rows.space.name: rows.to_tree() for rows in self.spaces},
        }

    @classmethod
    def from_tree(cls, tree: Tree, spaces: Sequence[Space], rows: int) -> "LiveRows":
        """Raises: KeyError when it is of other spaces."""
        found = cls.start(spaces, rows)
        stored = tree["spaces"]
        found.spaces = [
            SpaceRows.from_tree(stored[own.space.name], own.space) for own in found.spaces
        ]
        found.half = tree["half"]
        return found


def _read(space: Space, part: Part, counter: Counter, rows: Places) -> Rows | None:
    """(k, w): those rows of a part; None where its tensors are not the reference's."""
    features = [counter.profile.features[member] for member in space.members]
    found = np.empty((len(rows), len(features)), dtype=np.float32)
    for tensor in dict.fromkeys(feature.tensor for feature in features):
        block = counter.numbers(tensor, part.inputs, rows)
        if block is None:
            return None
        columns = [place for place, feature in enumerate(features) if feature.tensor == tensor]
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
            found[:, columns] = block[:, [features[place].index for place in columns]]
    return found


def _is_withheld(space: Space, part: Part, counter: Counter) -> bool:
    features = (counter.profile.features[member] for member in space.members)
    return bool(part.withheld) and any(
        counter.is_withheld(feature, part.inputs, part.withheld) for feature in features
    )
