"""A set of sequence numbers, kept as disjoint half-open intervals."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from eventlog.core.record import Run


class Intervals:
    """Numbers come in roughly rising, so an `add` at the end is constant time."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.update(runs)

    def __len__(self) -> int:
        """The number of intervals, which is what memory is bounded by."""
        return len(self._starts)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self._ends[index]

    @property
    def total(self) -> int:
        """How many numbers are in the set."""
        return sum(self._ends) - sum(self._starts)

    @property
    def end(self) -> int:
        """One more than the largest number; 0 when empty."""
        return self._ends[-1] if self._ends else 0

    def add(self, first: int, count: int) -> None:
        """Add `count` numbers from `first`; those already there stay once."""
        if count <= 0:
            return
        starts, ends = self._starts, self._ends
        if starts and first == ends[-1]:
            ends[-1] += count
            return
        if not starts or first > ends[-1]:
            starts.append(first)
            ends.append(first + count)
            return
        low, high = bisect_left(ends, first), bisect_right(starts, first + count)
        if low < high:
            first, stop = min(first, starts[low]), max(first + count, ends[high - 1])
        else:
            stop = first + count
        starts[low:high] = [first]
        ends[low:high] = [stop]

    def update(self, runs: Iterable[Run]) -> None:
        for first, count in runs:
            self.add(first, count)

    def runs(self) -> tuple[Run, ...]:
        """The intervals, ascending."""
        return tuple((s, e - s) for s, e in zip(self._starts, self._ends, strict=True))

    def missing(self, stop: int) -> tuple[Run, ...]:
        """What of [0, stop) is not in the set, ascending."""
        holes: list[Run] = []
        position = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            if start >= stop:
                break
            if start > position:
                holes.append((position, start - position))
            position = end
        if position < stop:
            holes.append((position, stop - position))
        return tuple(holes)

    def minus(self, other: "Intervals") -> tuple[Run, ...]:
        """What is in this set and not in `other`, ascending."""
        left: list[Run] = []
        holes = other.missing(self.end)
        for first, count in self.runs():
            for hole, size in holes:
                low, high = max(first, hole), min(first + count, hole + size)
                if low < high:
                    left.append((low, high - low))
        return tuple(left)


def drop_first(runs: Iterable[Run], numbers: int) -> tuple[Run, ...]:
    """`runs` without their first `numbers` numbers."""
    left: list[Run] = []
    for first, count in runs:
        skipped = min(numbers, count)
        numbers -= skipped
        if skipped < count:
            left.append((first + skipped, count - skipped))
    return tuple(left)
