"""A batcher in virtual time: arrivals in, what became of them out.

One executor whose runs take what `run_ns` says. The policies are ours, which is the
code that serves, and two that others use: a fixed delay, and a regression that waits
as long as waiting seems to pay. Source of the latter: BentoML's CorkDispatcher.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from serving.core.batch import NEVER_NS, Batch, BatchQueue, Member
from serving.core.dispatch import Dispatch
from serving.core.forecast import Forecast
from serving.core.hold import Hold
from serving.core.latency import LatencyProfile

TICK_NS = 1_000_000  # how often the regression looks
HISTORY = 50  # runs that it fits
WAIT_SHARE = 0.95  # of the mean wait that it may use up


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request. patience_ns: from its arrival to its deadline."""

    at_ns: int
    patience_ns: int = NEVER_NS
    rows: int = 1
    level: int = 0
    key: str = ""


@dataclass(slots=True)
class Outcome:
    """What became of the requests, in the order of their arrivals.

    answers: (index, ns from arrival to answer) of those that ran to their end.
    refused: indexes. expired: indexes of those that were dropped before they ran.
    """

    answers: list[tuple[int, int]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)  # rows of each
    end_ns: int = 0


class Caller(Member):
    """A member that knows which arrival it is."""

    __slots__ = ("index",)

    def __init__(self, index: int, arrival: Arrival) -> None:
        deadline_ns = min(NEVER_NS, arrival.at_ns + arrival.patience_ns)
        super().__init__(arrival.key, arrival.rows, deadline_ns, arrival.at_ns, arrival.level)
        self.index = index


class Policy(Protocol):
    """Lets members in, and forms batches when the executor is free."""

    @property
    def queue(self) -> BatchQueue[Caller]: ...
    def admits(self, member: Caller, now_ns: int, /) -> bool: ...
    def take(self, now_ns: int) -> tuple[Batch[Caller] | None, int]:
        """The batch that runs now, or None and when to look again."""
        ...

    def drops(self, now_ns: int, /) -> list[Caller]: ...
    def ended(self, batch: Batch[Caller], took_ns: int, /) -> None: ...


class Ours:
    """What `serving.worker.batcher` does without a queue delay."""

    def __init__(
        self,
        rows_max: int,
        profile: LatencyProfile,
        *,
        levels: bool = False,
        wait_ns_max: int = 0,
    ) -> None:
        """wait_ns_max: see `Dispatch`; arrivals that can wait for ever name no deadline."""
        queue: BatchQueue[Caller] = BatchQueue(rows_max, levels=levels)
        self._dispatch = Dispatch(
            queue, Forecast(profile, rows_max, alike=True), wait_ns_max=wait_ns_max
        )
        self.queue = queue
        self._end_ns = 0
        self._late: list[Caller] = []

    def admits(self, member: Caller, now_ns: int) -> bool:
        dispatch, deadline_ns = self._dispatch, member.deadline_ns
        dispatch.arrived += member.rows
        if deadline_ns == NEVER_NS and dispatch.standing_ns(now_ns, deadline_ns, member.level):
            return False
        return not dispatch.late_ns(now_ns, deadline_ns, member.rows, member.level)

    def take(self, now_ns: int) -> tuple[Batch[Caller] | None, int]:
        batch, self._late = self._dispatch.take(now_ns)
        if batch is not None:
            self._end_ns = self._dispatch.began(now_ns, batch.rows)
        return batch, NEVER_NS

    def drops(self, now_ns: int) -> list[Caller]:
        expired = self.queue.expire(now_ns) if self.queue.next_deadline_ns() <= now_ns else []
        late, self._late = self._late, []
        return late + expired

    def ended(self, batch: Batch[Caller], took_ns: int) -> None:
        self._dispatch.ended(self._end_ns)
        self._dispatch.forecast.ran(batch.rows, batch.rows, took_ns)


class FixedDelay:
    """An idle executor waits for a full batch, but no longer than the delay."""

    def __init__(self, rows_max: int, delay_ns: int) -> None:
        self.queue: BatchQueue[Caller] = BatchQueue(rows_max, preserve_ordering=True)
        self._hold = Hold.of(delay_ns, (), rows_max)

    def admits(self, _member: Caller, _now_ns: int) -> bool:
        return True

    def take(self, now_ns: int) -> tuple[Batch[Caller] | None, int]:
        if self._hold is None:
            return self.queue.take(), NEVER_NS
        return self.queue.take_settled(self._hold, now_ns, -NEVER_NS)

    def drops(self, _now_ns: int) -> list[Caller]:
        return []

    def ended(self, _batch: Batch[Caller], _took_ns: int) -> None: ...


class Regression:
    """Waits while the queue's wait is below its mean; refuses who has waited too long."""

    def __init__(self, rows_max: int) -> None:
        self.queue: BatchQueue[Caller] = BatchQueue(rows_max, preserve_ordering=True)
        self._rows_max = rows_max
        self._runs: list[tuple[int, int]] = []  # rows, ns
        self._slope_ns, self._base_ns, self._wait_ns = 0.0, 0.0, 0.0
        self._looked_ns = 0

    def admits(self, _member: Caller, _now_ns: int) -> bool:
        return True

    def take(self, now_ns: int) -> tuple[Batch[Caller] | None, int]:
        count = self.queue.queued
        if not count:
            return None, NEVER_NS
        waited_ns = now_ns - self.queue.oldest_queued_ns()
        worth_ns = count * (waited_ns + TICK_NS + self._slope_ns)
        if count < self._rows_max and worth_ns <= WAIT_SHARE * self._wait_ns:
            return None, now_ns + TICK_NS
        batch = self.queue.take()
        if batch is not None:
            total_ns = sum(now_ns - m.queued_ns for m in batch.members)
            self._wait_ns += (total_ns / len(batch.members) - self._wait_ns) / HISTORY
        return batch, NEVER_NS

    def drops(self, now_ns: int) -> list[Caller]:
        """Those that a run as it was measured would make late."""
        run_ns = int(self._base_ns + self._slope_ns * self.queue.rows_queued)
        return self.queue.expire(now_ns + min(run_ns, NEVER_NS)) if self.queue.queued else []

    def ended(self, batch: Batch[Caller], took_ns: int) -> None:
        self._runs = [*self._runs[-HISTORY + 1 :], (batch.rows, took_ns)]
        count = len(self._runs)
        mean_rows = sum(rows for rows, _ in self._runs) / count
        mean_ns = sum(took for _, took in self._runs) / count
        spread = sum((rows - mean_rows) ** 2 for rows, _ in self._runs)
        together = sum((rows - mean_rows) * (took - mean_ns) for rows, took in self._runs)
        self._slope_ns = max(0.0, together / spread) if spread else 0.0
        self._base_ns = max(0.0, mean_ns - self._slope_ns * mean_rows)


def simulate(
    arrivals: Sequence[Arrival], policy: Policy, run_ns: Callable[[int, int], int]
) -> Outcome:
    """arrivals: by time. run_ns: (number of the batch, its rows) -> what it takes."""
    outcome = Outcome()
    running: Batch[Caller] | None = None
    now_ns = began_ns = done_ns = position = 0
    look_ns = NEVER_NS
    while True:
        if position < len(arrivals):
            look_ns = min(look_ns, arrivals[position].at_ns)
        now_ns = min(done_ns, look_ns) if running is not None else look_ns
        if now_ns >= NEVER_NS:
            outcome.end_ns = done_ns
            return outcome
        look_ns = NEVER_NS
        if running is not None and done_ns <= now_ns:
            policy.queue.succeed(running)
            policy.ended(running, done_ns - began_ns)
            outcome.answers += [(m.index, done_ns - m.queued_ns) for m in running.members]
            running = None
        while position < len(arrivals) and arrivals[position].at_ns <= now_ns:
            member = Caller(position, arrivals[position])
            if policy.admits(member, now_ns):
                policy.queue.submit(member)
            else:
                outcome.refused.append(position)
            position += 1
        if running is None:
            outcome.expired += [m.index for m in policy.drops(now_ns)]
            running, look_ns = policy.take(now_ns)
            if running is not None:
                began_ns = now_ns
                done_ns = now_ns + run_ns(len(outcome.batches), running.rows)
                outcome.batches.append(running.rows)
