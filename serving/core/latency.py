"""What a run takes, by how much runs: L(work), measured at load and by every run since.

Work is rows where a version runs batches of rows of one shape, else the elements of
all inputs, so that one profile serves every shape. It is kept in classes that double,
each with a moving mean, for runs that add up, and a high quantile, for the one run
that has a deadline to meet. Laws: estimates never fall with the work; a class that
never ran is estimated from its neighbours, never from nothing if anything ran; no
estimate stays too high only because it keeps its class from running.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serving.core.datatypes import Array
from serving.core.signature import Signature

CLASSES = 48  # of 2**0 to 2**47: beyond `signature.ELEMENTS_MAX` there is nothing
MEAN_SHIFT = 3  # the moving mean weighs the last run 1/8
# The high quantile steps up by 19 parts when a run took longer, else down by one, so it
# settles where one run in 20 takes longer. A part is 1/256 of the mean: after a sudden
# slowdown it is there within some 14 runs, and one outlier lifts it by 7 %.
RISE, PART_SHIFT = 19, 8
HIGH_TO_MEAN_MAX = 4  # so that it follows a mean that falls
# Twice the work takes at most so many times as long: caches may be lost by it, no more.
# What is known of a class that nobody runs any more, since it seems too slow, falls by this.
DOUBLING_MAX = 3


@dataclass(frozen=True, slots=True)
class Point:
    """What is known of one class: work of at most `work`; times in nanoseconds."""

    work: int
    runs: int
    mean_ns: int
    high_ns: int


class LatencyProfile:
    """Estimates of one version. All operations take constant time."""

    __slots__ = ("_high", "_last", "_mean", "_runs")

    def __init__(self, seeds: Iterable[tuple[int, int]] = ()) -> None:
        """seeds: (work, ns) of runs at load."""
        self._runs = [0] * CLASSES
        self._mean = [0] * CLASSES
        self._high = [0] * CLASSES
        self._last = 0  # the largest class that ran
        for work, took_ns in seeds:
            self.observe(work, took_ns)

    def observe(self, work: int, took_ns: int, *, wrong: bool = False) -> None:
        """A run of `work` has taken so long. wrong: what is known of such runs is known to be."""
        index = _class_of(work)
        mean, high = self._mean[index], self._high[index]
        if not self._runs[index]:
            mean = high = took_ns
            self._last = max(self._last, index)
        else:
            mean += (took_ns - mean) >> MEAN_SHIFT
            part = (mean >> PART_SHIFT) + 1
            high = high + RISE * part if took_ns > high else high - part
            high = mean if wrong else min(max(high, mean), HIGH_TO_MEAN_MAX * mean)
        self._mean[index], self._high[index] = mean, high
        self._runs[index] += 1
        if max(self._mean[: index + 1]) > mean:
            self._lower(range(index), mean, high)
        for more in range(index + 1, self._last + 1):
            if self._runs[more]:
                growth = DOUBLING_MAX ** (more - index)
                if self._mean[more] > growth * mean:
                    self._lower((more,), growth * mean, growth * high)
                break

    def _lower(self, classes: Iterable[int], mean_ns: int, high_ns: int) -> None:
        """What was once measured of these cannot be any more, by what is measured now."""
        for index in classes:
            self._mean[index] = min(self._mean[index], mean_ns)
            self._high[index] = min(self._high[index], high_ns)

    def has_run(self, work: int) -> bool:
        """Whether anything of its class ever ran."""
        return self._runs[_class_of(work)] > 0

    def likely_ns(self, work: int) -> int:
        """The mean; 0 if nothing ever ran."""
        return self._estimate(self._mean, _class_of(work))

    def surely_ns(self, work: int) -> int:
        """What 19 runs of 20 stay below; 0 if nothing ever ran."""
        return self._estimate(self._high, _class_of(work))

    def work_within(self, budget_ns: int, work_max: int) -> int:
        """The most work, up to `work_max`, that surely takes no longer; 0 if none does."""
        if self.surely_ns(work_max) <= budget_ns:
            return work_max
        for index in reversed(range(_class_of(work_max))):
            if self._estimate(self._high, index) <= budget_ns:
                return 1 << index
        return 0

    def _estimate(self, times: Sequence[int], index: int) -> int:
        least = max(times[: index + 1])
        if self._runs[index]:
            return least
        for more in range(index + 1, CLASSES):
            if self._runs[more]:
                return max(least, times[more])
        for less in range(index - 1, -1, -1):
            if self._runs[less]:
                return max(least, times[less] << (index - less))
        return 0

    def points(self) -> list[Point]:
        """The classes that ran, the smallest first."""
        columns = zip(self._runs, self._mean, self._high, strict=True)
        return [Point(1 << i, *column) for i, column in enumerate(columns) if column[0]]


def counts_rows(signature: Signature) -> bool:
    """Whether a version's work is its rows."""
    return signature.rows_alike and signature.max_batch_size > 0


def work_of(signature: Signature, rows: int, inputs: Sequence[Array]) -> int:
    """The work of a run."""
    return rows if counts_rows(signature) else sum(array.size for array in inputs)


def _class_of(work: int) -> int:
    return (work - 1).bit_length() if work > 1 else 0
