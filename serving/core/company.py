"""Whose requests are worth padding into a batch: what a run costs by itself decides.

Padding is work that nobody asked for, and saves the run that a request would need of
its own. So a line of shorter (or longer) requests joins a batch if the positions that
this pads take less time than a run costs besides its positions.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class RunCost:
    """A run of n positions, which are rows times length, takes each_ns + n * position_ns."""

    each_ns: float = 0.0
    position_ns: float = 1.0

    def run_ns(self, positions: int) -> float:
        return self.each_ns + positions * self.position_ns

    @property
    def positions_paid(self) -> int:
        """So many padded positions cost no more than a run saved."""
        return int(self.each_ns / self.position_ns)


def fit_cost(runs: Iterable[tuple[int, int]]) -> RunCost:
    """The cost that fits (positions, ns) of runs best, by their relative errors.

    No positions at all, or a cost that would be negative, count as no cost: then nothing
    is padded that need not be.
    """
    weight = x = xx = y = xy = 0.0
    for positions, took_ns in runs:
        if positions > 0 and took_ns > 0:
            w = 1.0 / (took_ns * took_ns)
            weight += w
            x += w * positions
            xx += w * positions * positions
            y += w * took_ns
            xy += w * positions * took_ns
    if not weight:
        return RunCost()
    spread = weight * xx - x * x
    if spread > 1e-9 * weight * xx:  # else all runs were of one size
        position_ns = (weight * xy - x * y) / spread
        each_ns = (y - position_ns * x) / weight
        if position_ns > 0.0 and each_ns > 0.0:
            return RunCost(each_ns, position_ns)
    return RunCost(0.0, xy / xx)


class PadKey(NamedTuple):
    """Equal families may share a batch if the shorter are padded; see `Member.key`.

    length: that a request has at least in its batch; 0: it is never padded.
    """

    family: Hashable
    length: int


class Waiting(NamedTuple):
    """A line: all its rows are of one length."""

    length: int
    rows: int


def companions(
    first: Waiting, others: Sequence[Waiting], rows_max: int, cost: RunCost, slack_ns: float
) -> list[int]:
    """The lines that run with `first`, whole, as indexes into `others`.

    others: of different lengths. slack_ns: by how much longer the run may become.
    Each is the one that pads least of those next in length; what does not pay is left.
    """
    length, rows = first
    by_length = sorted(range(len(others)), key=lambda index: others[index].length)
    shorter = [index for index in by_length if others[index].length < length]
    longer = [index for index in reversed(by_length) if others[index].length > length]
    chosen: list[int] = []
    while shorter or longer:
        options = [(_padded(rows, length, others[s[-1]]), s) for s in (shorter, longer) if s]
        padded, side = min(options, key=lambda option: option[0])
        index = side.pop()
        one = others[index]
        wider = max(length, one.length)
        more_ns = (wider * (rows + one.rows) - length * rows) * cost.position_ns
        if (
            rows + one.rows <= rows_max
            and padded * cost.position_ns < cost.each_ns
            and more_ns <= slack_ns
        ):
            slack_ns -= more_ns
            rows, length = rows + one.rows, wider
            chosen.append(index)
    return chosen


def _padded(rows: int, length: int, one: Waiting) -> int:
    """The positions that would be padded if this line joined."""
    if one.length < length:
        return one.rows * (length - one.length)
    return rows * (one.length - length)
