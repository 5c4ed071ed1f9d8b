"""Which batch runs next and who is let in, of one version: queue and forecast together.

The batcher and the simulator both ask here, so what is simulated is what serves.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Generic

from serving.core.batch import Batch, BatchQueue, Line, M
from serving.core.company import PadKey, RunCost, Waiting, companions
from serving.core.forecast import Forecast
from serving.core.hold import Hold
from serving.core.standing_queue import StandingQueue

PER_NS = 1 << 40  # rates count in this many nanoseconds, some 18 minutes
# Of the time that a request has, so much is left to others by a tenant that has more than
# its share: as much as of the rows (`QUEUE_TO_FREE` in `core/admission.py`).
LEAVE_PART = 5
ARRIVING_SHIFT = 2  # the moving rate of newcomers weighs the last batch 1/4


class Dispatch(Generic[M]):
    """The decisions of one version. Times are those of one monotonic clock."""

    __slots__ = (
        "_arriving", "_cost", "_given_up", "_now_ns", "_standing", "_taken_ns",
        "arrived", "company", "ends_ns", "forecast", "queue", "refused", "refused_standing",
    )  # fmt: skip

    def __init__(
        self,
        queue: BatchQueue[M],
        forecast: Forecast,
        cost: RunCost | None = None,
        wait_ns_max: int = 0,
    ) -> None:
        """cost: of runs, where lines keep each other company; their keys are `PadKey`s.
        wait_ns_max: of who names no deadline, while the queue stands; 0: any.
        """
        self.queue, self.forecast = queue, forecast
        self._cost = cost
        self.company = None if cost is None else self._company
        self.ends_ns: list[int] = []  # when those that run now are expected to end
        self.refused = 0  # requests that would have been too late, as who asks here counts them
        self.refused_standing = 0  # requests without a deadline, as for `refused`
        self._standing = StandingQueue(wait_ns_max) if wait_ns_max else None
        self.arrived = 0  # newcomers since the last batch, let in or not, as they are counted
        self._arriving = 0  # of late, in PER_NS
        self._taken_ns = self._now_ns = 0
        self._given_up: list[M] = []

    def late_ns(
        self, now_ns: int, deadline_ns: int, rows: int, level: int, *, large: bool = False
    ) -> int:
        """By how much a newcomer of `rows` would miss its deadline; 0: it is let in.

        large: its tenant has more than its share. It leaves time for others: it has to be
        answered when a fifth of its time is left.
        An idle version takes everything.
        """
        queue, forecast = self.queue, self.forecast
        if not queue.queued and not self.ends_ns:
            return 0
        due_ns = deadline_ns - (deadline_ns - now_ns) // LEAVE_PART if large else deadline_ns
        if forecast.soon_enough(queue.rows_queued, due_ns - now_ns):
            return 0
        starts_ns = max(now_ns, min(self.ends_ns, default=now_ns))
        after = (starts_ns - now_ns) * self._arriving // PER_NS
        for everybody in (True, False):  # a closer look only where it decides
            before = (
                queue.rows_queued
                if everybody
                else queue.rows_before(queue.rank_of(deadline_ns, level))
            )
            answer_ns = forecast.answer_ns(before, rows, after, deadline_ns - now_ns)
            late_ns = starts_ns + answer_ns - due_ns
            if late_ns <= 0:
                return 0
        return late_ns

    def standing_ns(self, now_ns: int, deadline_ns: int, level: int, *, large: bool = False) -> int:
        """By how much a newcomer that names no deadline would wait too long; 0: it is let in.

        deadline_ns: by which it is lined up all the same. large: its tenant has more than
        its share; such newcomers have a shorter queue, and leave the rest to others. The
        next batches may always fill: however long runs take, the executor never waits for
        work that was refused.
        """
        standing = self._standing
        if standing is None:
            return 0
        queue, forecast = self.queue, self.forecast
        rows = queue.rows_queued
        no_queue = rows <= forecast.rows_at_once
        if no_queue and standing.calm:
            return 0
        seen_by = ~level if large else level
        if no_queue:
            return standing.over_ns(now_ns, 0, seen_by)
        wait_ns = forecast.wait_ns(rows)
        if wait_ns > standing.wait_ns_max and level:
            wait_ns = forecast.wait_ns(queue.rows_before(queue.rank_of(deadline_ns, level)))
        if large:
            wait_ns += wait_ns // (LEAVE_PART - 1)
        return standing.over_ns(now_ns, wait_ns, seen_by)

    def take(self, now_ns: int) -> tuple[Batch[M] | None, list[M]]:
        """The next batch, and members that can no longer be in time: they have left.

        A batch is as large as its first deadline allows. Where too small a batch would be
        in time to be worth it, the size is taken that answers most in time, and those who
        then are not are given up.
        """
        self._now_ns, self._given_up = now_ns, []
        since_ns = now_ns - self._taken_ns
        if since_ns > 0:
            arriving = self.arrived * PER_NS // since_ns
            self._arriving += (arriving - self._arriving) >> ARRIVING_SHIFT
            self._taken_ns, self.arrived = now_ns, 0
        batch = self.queue.take(self._rows_for, self.company)
        return batch, self._given_up

    def take_settled(self, hold: Hold, now_ns: int, spare_ns: int) -> tuple[Batch[M] | None, int]:
        """The next batch of a version that waits for company, or when to look again.

        spare_ns: that a full batch must end before a deadline of its members.
        """
        self._now_ns = now_ns
        margin_ns = self.forecast.full_ns + spare_ns
        return self.queue.take_settled(hold, now_ns, margin_ns, self.company)

    def _company(self, members: list[M], lines: Sequence[Line[M]]) -> list[Line[M]]:
        """Lines that are worth padding into the batch of these members, or these into theirs."""
        cost, rows_max = self._cost, self.forecast.rows_max
        assert cost is not None
        own = members[0].key
        assert isinstance(own, PadKey)
        candidates = []
        for line in lines:
            key = line.head().key
            if isinstance(key, PadKey) and key.family == own.family:
                candidates.append((line, Waiting(key.length, line.rows(rows_max + 1))))
        if not candidates:
            return []
        rows = sum([member.rows for member in members])
        left_ns = min([member.deadline_ns for member in members]) - self._now_ns
        slack_ns = left_ns / self.forecast.slowed_by - cost.run_ns(rows * own.length)
        waiting = [each for _, each in candidates]
        chosen = companions(Waiting(own.length, rows), waiting, rows_max, cost, slack_ns)
        return [candidates[index][0] for index in chosen]

    def _rows_for(self, line: Line[M]) -> int:
        forecast, rows_max = self.forecast, self.forecast.rows_max
        slack_ns = line.head().deadline_ns - self._now_ns
        if slack_ns >= forecast.full_ns:
            return rows_max
        waiting = line.rows(rows_max)
        rows = forecast.rows_for(slack_ns, waiting)
        if rows:
            return rows
        rows, in_time_ns = self._most_in_time(line, waiting)
        self._given_up = self.queue.give_up(line, in_time_ns)
        return rows

    def _most_in_time(self, line: Line[M], waiting: int) -> tuple[int, int]:
        """The size of a batch that answers most of a line in time, and from which deadline on.

        If nobody can be answered in time, the one who would be least late runs alone: some
        run must show when runs have become short again.
        """
        deadlines = sorted([(member.deadline_ns, member.rows) for member in line.values()])
        best, best_rows, best_ns = 0, 1, deadlines[-1][0]
        rows = waiting
        while rows:
            end_ns = self._now_ns + self.forecast.likely_ns(rows)
            first = bisect_left(deadlines, (end_ns, 0))
            in_time = min(rows, sum([count for _, count in deadlines[first:]]))
            if in_time > best:
                best, best_rows, best_ns = in_time, rows, end_ns
            rows = 1 << (rows - 1).bit_length() - 1 if rows > 1 else 0  # the class below
        return best_rows, best_ns

    def began(self, now_ns: int, work: int) -> int:
        """A run of `work` begins. Returns: when it is expected to end, for `ended`."""
        end_ns = now_ns + self.forecast.run_ns(work)
        self.ends_ns.append(end_ns)
        return end_ns

    def ended(self, end_ns: int) -> None:
        """The run that `began` said would end then has ended, well or not."""
        self.ends_ns.remove(end_ns)
