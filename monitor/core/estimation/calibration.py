"""How often a row of a score is of the positive class, by labels that have come.

Labelled rows are grouped by rising score. Between the groups' middles the share of positive
rows is taken as linear: rows that lie otherwise within a group than the labelled ones did,
as they do when inputs shift, are then not taken for the group's mean.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Floats
from monitor.core.performance.score_histogram import ScoreHistogram, bin_edges

GROUPS_MAX = 40  # more say nothing more: within one of them a share is all but linear
GROUP_ROWS = 25  # with fewer, a group's share is a guess
WIDTH_MAX = 0.2  # of a group, in score: a share is not linear for ever
REACH = 0.02  # in score: so near to a group's rows is among them
LOW, HIGH = bin_edges()
MIDDLE = (LOW + HIGH) / 2


@dataclass(frozen=True, eq=False)
class Calibration:
    """Groups of labelled rows, (g,) each.

    rows, positives: how many; at: their mean score, rising; low, high: from where to where.
    """

    rows: NDArray[np.int64]
    positives: NDArray[np.int64]
    at: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, labelled: ScoreHistogram) -> "Calibration":
        """labelled: with at least one row."""
        places, counts = np.array(sorted(labelled.bins)), labelled.counts()
        rows = counts.sum(axis=0)
        starts = _starts(places, rows)
        ends = np.append(starts[1:], len(places)) - 1
        grouped = np.add.reduceat(rows, starts)
        return cls(
            grouped,
            np.add.reduceat(counts[1], starts),
            np.add.reduceat(rows * MIDDLE[places], starts) / grouped,
            LOW[places[starts]],
            HIGH[places[ends]],
        )

    @cached_property
    def shares(self) -> Floats:
        return np.asarray(self.positives / self.rows)

    @cached_property
    def cautious(self) -> Floats:
        """The shares for intervals: a group with no positive row does not say there is none."""
        return np.asarray((self.positives + 0.5) / (self.rows + 1))

    @cached_property
    def variances(self) -> Floats:
        return np.asarray(self.cautious * (1 - self.cautious) / (self.rows + 1))

    def weights(self, scores: Floats) -> Floats:
        """(n, g): by which shares of groups add up to that of each score."""
        found = np.zeros((len(scores), len(self.at)))
        right = np.clip(np.searchsorted(self.at, scores), 0, len(self.at) - 1)
        left = np.maximum(right - 1, 0)
        gap = self.at[right] - self.at[left]
        apart = np.where(gap > 0, gap, 1.0)
        part = np.where(gap > 0, np.clip((scores - self.at[left]) / apart, 0.0, 1.0), 1.0)
        each = np.arange(len(scores))
        found[each, left] = 1.0 - part
        found[each, right] += part
        return found

    def holds(self, scores: Floats) -> NDArray[np.bool_]:
        """(n,): which scores enough labelled rows had, or scores next to them."""
        sound = self.rows >= GROUP_ROWS
        low, high = self.low[sound] - REACH, self.high[sound] + REACH
        return np.asarray(np.any((scores[:, None] >= low) & (scores[:, None] <= high), axis=1))


def _starts(places: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each group begins among the bins that hold any, from the lowest score on."""
    wanted = max(GROUP_ROWS, -(-int(rows.sum()) // GROUPS_MAX))
    starts, held = [0], 0
    for at, count in enumerate(rows.tolist()):
        is_wide = HIGH[places[at]] - LOW[places[starts[-1]]] > WIDTH_MAX
        if held and (held >= wanted or is_wide):
            starts.append(at)
            held = 0
        held += count
    # What is left over at the end goes into the last group if there is room for it.
    is_little = len(starts) > 1 and held < wanted
    if is_little and HIGH[places[-1]] - LOW[places[starts[-2]]] <= WIDTH_MAX:
        starts.pop()
    return np.array(starts, dtype=np.intp)
