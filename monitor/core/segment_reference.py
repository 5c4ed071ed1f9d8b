"""What the reference rows were answered, segment by segment: counts, and of which features."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.core.bins import Counts

VALUE_GROUPS = 5  # of a feature's values; the largest that leaves pairs rows enough
GROUPS = VALUE_GROUPS + 1  # and one of rows whose value has no place among them
ANSWERS = 7
CELLS = ANSWERS + 1  # of answers, likewise
FEATURES_MAX = 32
PAIRED_MAX = 6  # features that are looked at in pairs, 15 pairs
COUNT_MAX = 2**53


@dataclass(frozen=True, slots=True, eq=False)
class SegmentReference:
    """features: their places in the profile; pairs: places in `features`.

    counts: int64 (size,), first (features, GROUPS, CELLS), then (pairs, GROUPS, GROUPS, CELLS).
    """

    features: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    counts: Counts

    @property
    def size(self) -> int:
        return (len(self.features) + len(self.pairs) * GROUPS) * GROUPS * CELLS

    def segments(self, counts: Counts) -> Counts:
        """(s, CELLS): of counts in this layout, a row for each segment."""
        return counts.reshape(-1, CELLS)

    def members(self, segment: int) -> tuple[tuple[int, int], ...]:
        """The features (places in the profile) and their groups that make up a segment."""
        ones = len(self.features) * GROUPS
        if segment < ones:
            place, group = divmod(segment, GROUPS)
            return ((self.features[place], group),)
        place, groups = divmod(segment - ones, GROUPS * GROUPS)
        first, second = self.pairs[place]
        one, other = divmod(groups, GROUPS)
        return (self.features[first], one), (self.features[second], other)

    def to_tree(self) -> dict[str, Any]:
        used = np.flatnonzero(self.counts)
        return {
            "features": list(self.features),
            "pairs": [list(pair) for pair in self.pairs],
            "counts": {str(place): int(self.counts[place]) for place in used},
        }

    @classmethod
    def from_tree(cls, tree: Any, features: int) -> "SegmentReference":
        """features: of the profile. Raises: ValueError and what comes of other trees."""
        chosen = tuple(int(place) for place in tree["features"])
        pairs = tuple((int(first), int(second)) for first, second in tree["pairs"])
        sound = (
            len(chosen) <= FEATURES_MAX
            and len(pairs) <= PAIRED_MAX * (PAIRED_MAX - 1) // 2
            and all(0 <= place < features for place in chosen)
            and all(0 <= place < len(chosen) for pair in pairs for place in pair)
        )
        if not sound:
            raise ValueError("segments are of features that the profile has not, or too many")
        found = cls(chosen, pairs, np.zeros(0, dtype=np.int64))
        counts = np.zeros(found.size, dtype=np.int64)
        for place, count in tree["counts"].items():
            if not 0 <= int(place) < counts.size or not 0 <= int(count) <= COUNT_MAX // CELLS:
                raise ValueError(f"segments: place {place} holds {count}")
            counts[int(place)] = int(count)
        return cls(chosen, pairs, counts)
