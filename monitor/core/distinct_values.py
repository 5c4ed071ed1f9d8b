"""How many different values categorical and discrete features had.

Values with a bin of their own are known from the counts, exactly. Only the others (rare
and unseen ones) are sketched, so a feature that has none of them costs nothing.

Laws:
- the sketches are functions of the set of values: order, how reads were cut and restarts
  do not show in them;
- missing and non-finite values are no values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.core.bins import UNSEEN, Counts
from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.hyperloglog import HyperLogLog, number_hashes, text_hashes
from monitor.core.mixing import Keys
from monitor.core.predictions import rows_of
from monitor.core.profile import FeatureProfile, text_of
from monitor.core.tree import Tree

NOTHING = HyperLogLog()
Sketches = dict[int, HyperLogLog]  # by feature, those that hold any


def live_distinct(feature: FeatureProfile, counts: Counts, rest: HyperLogLog) -> int | None:
    """Different values among rows; None: of a continuous feature, or it is not known.

    counts: (SLOTS,) of these rows; rest: of their values without a bin of their own.
    """
    if not feature.exact:
        return None
    if _rest_rows(feature, counts) and not rest.data:
        return None  # rows that were counted elsewhere: their values are gone
    return int(np.count_nonzero(counts[: feature.named])) + round(rest.estimate)


def with_distinct(feature: FeatureProfile, rest: HyperLogLog) -> FeatureProfile:
    """The profile, knowing how many values its rows had beyond those that it names."""
    if not feature.exact or not rest.data:
        return feature
    named = rest.with_hashes(text_hashes(feature.rare)) if feature.is_text else rest
    return replace(feature, distinct=feature.named + round(named.estimate))


def sketch(sketches: Sketches, parts: Sequence[Part], counts: Counts, counter: Counter) -> Sketches:
    """Take in a block's values; counts: (f + p, SLOTS) of its rows."""
    found = dict(sketches)
    for place, feature in enumerate(counter.profile.features):
        if feature.exact and _rest_rows(feature, counts[place]):
            for part in parts:
                hashes = _hashes(feature, part, counter)
                if hashes is not None and len(hashes):
                    found[place] = found.get(place, NOTHING).with_hashes(hashes)
    return found


def _rest_rows(feature: FeatureProfile, counts: Counts) -> int:
    """Rows whose values have no bin of their own."""
    return int(counts[UNSEEN]) + int(counts[feature.named : feature.starts.size].sum())


def _hashes(feature: FeatureProfile, part: Part, counter: Counter) -> Keys | None:
    """Of a part's values without a bin of their own; None where it has no such feature."""
    tensor = counter.tensor(feature, part.inputs)
    if tensor is None or counter.is_withheld(feature, part.inputs, part.withheld):
        return None
    flat = rows_of(tensor)
    is_text = tensor.dtype.kind in "OSU"
    if feature.index >= flat.shape[1] or is_text is not feature.is_text:
        return None
    column = flat[:, feature.index]
    if is_text:
        named = set(feature.categories[: feature.named])
        texts = {text_of(value) for value in set(column.tolist()) if value is not None}
        return text_hashes(sorted(texts - named))
    if feature.datatype == "BF16" and tensor.dtype == np.uint16:
        column = (column.astype(np.uint32) << 16).view(np.float32)
    values = np.unique(column.astype(np.float64))
    return number_hashes(values[np.isfinite(values) & ~np.isin(values, feature.starts)])


@dataclass(slots=True)
class LiveDistinct:
    """Of the last full window of blocks and of the one under way. Mutable."""

    half: int = -1
    previous: Sketches = field(default_factory=dict)
    current: Sketches = field(default_factory=dict)

    def move_to(self, half: int) -> None:
        """Start window `half` if it is a later one."""
        if half > self.half:
            self.previous = self.current if half == self.half + 1 else {}
            self.current, self.half = {}, half

    def add(self, parts: Sequence[Part], counts: Counts, counter: Counter) -> None:
        self.current = sketch(self.current, parts, counts, counter)

    def rest(self, place: int) -> HyperLogLog:
        """Of a feature's values without a bin of their own, in the whole live window."""
        return self.previous.get(place, NOTHING).merged(self.current.get(place, NOTHING))

    def to_tree(self) -> Tree:
        return [self.half, sketches_to_tree(self.previous), sketches_to_tree(self.current)]

    @classmethod
    def from_tree(cls, tree: Tree) -> "LiveDistinct":
        half, previous, current = tree
        return cls(half, sketches_from_tree(previous), sketches_from_tree(current))


def sketches_to_tree(sketches: Sketches) -> Tree:
    places = sorted(sketches)
    data = b"".join(sketches[place].data for place in places)
    sizes = [[place, len(sketches[place].data)] for place in places]
    return [sizes, np.frombuffer(data, dtype=np.uint8)]


def sketches_from_tree(tree: Tree) -> Sketches:
    sizes, array = tree
    data, found, start = array.tobytes(), {}, 0
    for place, size in sizes:
        found[place] = HyperLogLog(data[start : start + size])
        start += size
    return found
