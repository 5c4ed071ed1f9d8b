"""Natural batching: whatever arrived while the last batch ran is the next batch.

A submit schedules one flush for the end of the loop's turn, and the flush takes
all that is there. No timer makes a request wait for company, unless the model's
configuration sets a queue delay; the only other timer is for deadlines that pass
while a slow batch runs in its thread. Which batch, how large, and who is let in is
`core/dispatch.py`'s matter. Without a delay and a queue timeout the flush asks
`_by_policy` once per batch, and nothing per request.
"""

import asyncio
import sys
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from serving.core.batch import NEVER_NS, Batch, BatchQueue, Member
from serving.core.batcher_facts import BatcherFacts
from serving.core.datatypes import Array
from serving.core.dispatch import Dispatch
from serving.core.errors import DeadlineExceeded, ModelFailed, Overloaded, ServeError
from serving.core.forecast import Forecast
from serving.core.hold import Hold
from serving.core.latency import LatencyProfile, counts_rows, work_of
from serving.core.padding import Padder
from serving.core.queue_settings import QueueSettings
from serving.core.signature import Signature
from serving.worker.buffers import BufferPool
from serving.worker.run_threads import RunThreads

SLOW_NS = 5_000_000  # an average beyond this moves an inline version to a thread
COLD_NS = 100_000_000  # without a run; the next one is no measure of those that follow
AVERAGE_SHIFT = 3  # the moving average weighs the last run 1/8
TIMER_NS = 1_000_000  # the event loop's timers count in milliseconds
# A hold ends this long before a run would have to begin: a timer may be late by two
# of its steps.
HOLD_SLACK_NS = 2 * TIMER_NS
NO_QUEUE = QueueSettings()

Release = Callable[[], None]


class Runs(Protocol):
    """What runs a batch; OnnxSession, or a fake in tests."""

    def run(self, arrays: Sequence[Array]) -> list[Array]: ...


class Task(Member):
    """A member with its inputs, in the order of the signature."""

    __slots__ = ("arrays",)

    def __init__(
        self,
        key: Hashable,
        rows: int,
        arrays: list[Array],
        deadline_ns: int,
        queued_ns: int = 0,
    ) -> None:
        super().__init__(key, rows, deadline_ns, queued_ns)
        self.arrays = arrays


T = TypeVar("T", bound=Task)


class Receiver(Protocol[T]):
    """Takes what becomes of members; called on the loop, must not raise."""

    def batch_done(
        self,
        batch: Batch[T],
        inputs: list[Array],
        outputs: list[Array],
        release: Release | None,
        loggable: bool,
        began_ns: int,
        ready_ns: int,
        run_ns: int,
    ) -> None:
        """began_ns, ready_ns: when the batch was formed, and its inputs were together."""
        ...

    def member_failed(self, member: T, error: ServeError, *, ran: bool) -> None: ...


class Batcher(Generic[T]):
    """The queue of one version, its session, and the turn-taking between them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock_ns: Callable[[], int],
        signature: Signature,
        session: Runs,
        receiver: Receiver[T],
        threads: RunThreads,
        *,
        inline: bool,
        profile: LatencyProfile,
        queue: QueueSettings = NO_QUEUE,
        load_run_ns: int | None = None,
        padder: Padder | None = None,
        wait_ns_max: int = 0,
    ) -> None:
        """threads: where a slow version runs; profile: of the runs at load, of which
        load_run_ns is the largest batch's. padder: keys of members are then its own.
        wait_ns_max: see `Dispatch`; a configuration that bounds its queue has its own way.
        """
        self._loop, self._clock_ns = loop, clock_ns
        self._signature, self._session = signature, session
        self._receiver, self._threads = receiver, threads
        self._rows_max = signature.max_batch_size or 1
        # Two runs at a time could end in another order than they began.
        self._instances = 1 if queue.preserve_ordering else queue.instances
        self._hold = _hold_of(queue, self._rows_max)
        self._queue: BatchQueue[T] = BatchQueue(
            self._rows_max,
            sizes=() if self._hold is not None else queue.preferred_sizes,
            preserve_ordering=queue.preserve_ordering,
            levels=queue.priority_levels > 0,
        )
        self._dispatch = Dispatch(
            self._queue,
            Forecast(
                profile, self._rows_max, alike=counts_rows(signature), instances=self._instances
            ),
            None if padder is None else padder.cost,
            0 if queue.max_queue_size or queue.default_timeout_us else wait_ns_max,
        )
        self._padder = padder
        self._pool = (
            BufferPool(signature.inputs, self._rows_max)
            if signature.max_batch_size and BufferPool.fits(signature.inputs)
            else None
        )
        self._inline = self._inline_at_load = inline
        self._load_run_ns = load_run_ns
        self._run_ns = 0  # moving average; not of the runs at load, which may be disturbed
        self._scheduled = False
        self._running = 0  # batches in threads
        self._drainers: list[asyncio.Future[None]] = []
        self._earliest_ns = NEVER_NS
        self._timer: asyncio.TimerHandle | None = None
        # Whether a request's own `timeout` counts: a model may insist on its default.
        self.heeds_timeout = not queue.default_timeout_us or queue.allow_timeout_override
        self._queue_max = queue.max_queue_size or sys.maxsize
        self._refused_full = 0  # requests, since as many waited as may
        self._timeout_ns = queue.default_timeout_us * 1000
        self._timeout_delays = queue.timeout_delays
        self.settings = queue
        self._by_policy = self._hold is not None or self._timeout_ns > 0
        self._look: asyncio.TimerHandle | None = None
        self._look_ns = NEVER_NS
        self._ended_ns = 0  # when the last run did
        self._backlog_ns = 0  # when the last run ended, if others waited for that
        self._no_room_asked = 0  # see `has_no_room`
        self._no_room_until_ns = 0

    @property
    def queue(self) -> BatchQueue[T]:
        return self._queue

    def facts(self) -> BatcherFacts:
        """What it does and knows now; cheap, whatever waits."""
        queue, oldest_ns = self._queue, self._queue.oldest_queued_ns()
        return BatcherFacts(
            inline=self._inline,
            inline_at_load=self._inline_at_load,
            load_run_ns=self._load_run_ns,
            mean_run_ns=self._run_ns,
            instances=self._instances,
            hold_ns=0 if self._hold is None else self._hold.delay_ns,
            running=self._running,
            queued=queue.queued,
            rows_queued=queue.rows_queued,
            shapes_queued=queue.shapes_queued,
            oldest_wait_ns=max(0, self._clock_ns() - oldest_ns),
            refused_full=self._refused_full,
            refused_late=self._dispatch.refused,
            refused_standing=self._dispatch.refused_standing,
            work_is_rows=counts_rows(self._signature),
            slowed_by=self._dispatch.forecast.slowed_by,
            profile=tuple(self._dispatch.forecast.profile.points()),
            positions_paid=None if self._padder is None else self._padder.cost.positions_paid,
        )

    def check_room(
        self,
        now_ns: int,
        deadline_ns: int,
        rows: int,
        level: int,
        *,
        patient: bool = False,
        large: bool = False,
    ) -> None:
        """Whether a request of `rows` may be queued now.

        patient: the deadline is not its own, but everybody's. large: see `Dispatch.late_ns`.
        Raises: Overloaded if as many wait as the model's configuration allows, if the
        answer would most likely come after the deadline, or if a patient one finds a queue
        that stands.
        """
        self._dispatch.arrived += rows
        if self._queue.queued >= self._queue_max:
            self._refused_full += 1
            raise Overloaded(
                f"Exceeds maximum queue size: {self._queue_max} requests of model "
                f"'{self._signature.model}' may wait, and as many do"
            )
        late_ns = self._dispatch.late_ns(now_ns, deadline_ns, rows, level, large=large)
        if late_ns:
            self._dispatch.refused += 1
            raise Overloaded(
                f"the deadline cannot be met: behind the queue of model "
                f"'{self._signature.model}' the answer would come {late_ns // 1000} us late"
            )
        over_ns = 0
        if patient:
            over_ns = self._dispatch.standing_ns(now_ns, deadline_ns, level, large=large)
        if over_ns:
            self._dispatch.refused_standing += 1
            raise Overloaded(
                f"the queue of model '{self._signature.model}' has been too long for a while, by "
                f"{over_ns // 1000} us now; a request that names a deadline may wait until then"
            )

    def has_no_room(
        self, now_ns: int, patience_ns: int, *, patient: bool = False, large: bool = False
    ) -> bool:
        """Whether `check_room` would refuse a request with so much time, whatever its rows.

        Under a flood most have as much as the last one had, and for those the answer is
        good until a run begins or ends, or for as long as the last one was late.
        patient, large: see `check_room`; of requests with so much time, all are patient or
        none is.
        """
        asked = ~patience_ns if large else patience_ns
        if asked == self._no_room_asked and now_ns < self._no_room_until_ns:
            self._dispatch.arrived += 1
            return True
        if self._queue.queued >= self._queue_max:
            return True
        if self.settings.priority_levels:  # only the request itself says whom it may overtake
            return False
        deadline_ns = now_ns + patience_ns
        late_ns = self._dispatch.late_ns(now_ns, deadline_ns, 1, 0, large=large)
        if not late_ns and patient:
            late_ns = self._dispatch.standing_ns(now_ns, deadline_ns, 0, large=large)
        if not late_ns:
            return False
        self._dispatch.arrived += 1
        self._no_room_asked, self._no_room_until_ns = asked, now_ns + late_ns
        return True

    def submit(self, member: T) -> None:
        """Queue a member; its outcome reaches the receiver."""
        self._queue.submit(member)
        if member.deadline_ns < self._earliest_ns:
            self._earliest_ns = member.deadline_ns
            if self._running:
                self._arm_timer()
        if not self._scheduled and self._running < self._instances:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def cancel(self, member: T) -> bool:
        """Its client left. False if it was answered already."""
        return self._queue.cancel(member)

    async def drained(self) -> None:
        """Wait until nothing is queued or running. From here on nobody is held."""
        self.stop_holding()
        while not self._queue.idle:
            waiter = self._loop.create_future()
            self._drainers.append(waiter)
            await waiter
        if self._timer is not None:  # it may be of a deadline in an hour
            self._timer.cancel()
            self._timer = None

    def stop_holding(self) -> None:
        """No more waiting for company: the version drains."""
        self._hold = None
        self._by_policy = self._timeout_ns > 0
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._queue.queued:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._running < self._instances:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        self._no_room_until_ns = 0
        now = self._clock_ns()
        if now >= self._earliest_ns:
            self._expire(now)
        batch = self._take_by_policy(now) if self._by_policy else self._take(now)
        if batch is None:
            self._tell_drainers()
            return
        try:
            inputs, release, loggable = self._gather(batch)
        except Exception as error:  # no memory for the copy: alone, members need none
            self._failed(batch, None, error)
            self._again()
            return
        ready = self._clock_ns()
        if not self._inline:
            self._run_in_thread(batch, inputs, release, loggable, now, ready)
            return
        try:
            outputs = self._checked(batch, inputs, self._session.run(inputs))
        except Exception as error:
            self._failed(batch, release, error)
        else:
            self._succeeded(batch, inputs, outputs, release, loggable, now, ready)
        finally:
            self._again()

    def _take(self, now_ns: int) -> Batch[T] | None:
        batch, too_late = self._dispatch.take(now_ns)
        for member in too_late:
            self._receiver.member_failed(member, deadline_passed(), ran=False)
        return batch

    def _take_by_policy(self, now_ns: int) -> Batch[T] | None:
        """The next batch of a model that sets a queue delay or timeout, if one is due."""
        if self._timeout_ns:
            self._time_out(now_ns)
        if self._hold is None:
            return self._take(now_ns)
        batch, look_ns = self._dispatch.take_settled(self._hold, now_ns, HOLD_SLACK_NS)
        if batch is None and look_ns < NEVER_NS:
            self._look_at(look_ns, now_ns)
        return batch

    def _look_at(self, look_ns: int, now_ns: int) -> None:
        """Flush again then. Below a timer's step, turn by turn: a delay of 100 us is not 1 ms."""
        if self._look is not None:
            if self._look_ns == look_ns:
                return
            self._look.cancel()
            self._look = None
        left_ns = look_ns - now_ns
        if left_ns < TIMER_NS:
            self._schedule()
            return
        steps = -(-left_ns // TIMER_NS)
        self._look_ns = look_ns
        self._look = self._loop.call_later(steps * TIMER_NS / 1e9, self._on_look)

    def _on_look(self) -> None:
        self._look = None
        self._schedule()

    def _again(self) -> None:
        """After a run: the next one, or the news that there is none."""
        self._tell_drainers()
        if self._queue.queued:
            self._schedule()

    def _tell_drainers(self) -> None:
        if self._drainers and self._queue.idle:
            for waiter in self._drainers:
                if not waiter.done():
                    waiter.set_result(None)
            self._drainers.clear()

    def _gather(self, batch: Batch[T]) -> tuple[list[Array], Release | None, bool]:
        """The inputs of a batch, contiguous and aligned; whether the log may have them.

        Here the tensors of a request are copied, once (`core/body.py`).
        """
        members = batch.members
        if self._padder is not None:
            padded = self._padder.gather([member.arrays for member in members])
            if padded is not None:
                return padded, None, True
        if len(members) == 1:
            return [_aligned(array) for array in members[0].arrays], None, True
        columns = list(zip(*[member.arrays for member in members], strict=True))
        if self._pool is None:
            return [np.concatenate(column) for column in columns], None, True
        room = self._pool.claim(batch.rows)
        if room is None:
            return [np.concatenate(column) for column in columns], None, False
        slots, release = room
        try:
            for slot, column in zip(slots, columns, strict=True):
                np.concatenate(column, out=slot)
        except BaseException:
            release()
            raise
        return slots, release, True

    def _checked(self, batch: Batch[T], inputs: list[Array], outputs: list[Array]) -> list[Array]:
        """Raises: ModelFailed if an output cannot be cut by request."""
        if self._signature.max_batch_size:
            for spec, array in zip(self._signature.outputs, outputs, strict=True):
                if not array.shape or array.shape[0] != batch.rows:
                    raise ModelFailed(
                        f"output '{spec.name}' of model '{self._signature.model}' has shape "
                        f"{list(array.shape)} for a batch of {batch.rows}"
                    )
        if self._padder is not None:
            self._padder.check_outputs(inputs, outputs)
        return outputs

    def _succeeded(
        self,
        batch: Batch[T],
        inputs: list[Array],
        outputs: list[Array],
        release: Release | None,
        loggable: bool,
        began_ns: int,
        ready_ns: int,
    ) -> None:
        now_ns = self._clock_ns()
        run_ns = now_ns - ready_ns
        # For those who wait for a thread it takes as long as from one end to the next: replies
        # are written in between, and under load the loop has others to attend to. On the
        # loop that would be laid at the door of runs that take next to nothing.
        since_ns = self._backlog_ns or ready_ns
        alone = self._instances == 1 and self._hold is None and not self._inline
        self._backlog_ns = now_ns if alone and self._queue.queued else 0
        self._dispatch.forecast.ran(
            batch.rows,
            work_of(self._signature, batch.rows, inputs),
            now_ns - since_ns,
            cold=ready_ns - self._ended_ns > COLD_NS,
        )
        self._ended_ns = now_ns
        self._run_ns += (run_ns - self._run_ns) >> AVERAGE_SHIFT
        if self._run_ns > SLOW_NS:
            self._inline = False
        self._queue.succeed(batch)
        self._receiver.batch_done(
            batch, inputs, outputs, release, loggable, began_ns, ready_ns, run_ns
        )

    def _failed(self, batch: Batch[T], release: Release | None, error: BaseException) -> None:
        if release is not None:
            release()
        told = error if isinstance(error, ServeError) else ModelFailed("the model failed")
        self._backlog_ns = 0
        for member in self._queue.fail(batch):
            self._receiver.member_failed(member, told, ran=True)

    def _run_in_thread(
        self,
        batch: Batch[T],
        inputs: list[Array],
        release: Release | None,
        loggable: bool,
        began_ns: int,
        ready_ns: int,
    ) -> None:
        self._running += 1
        end_ns = self._dispatch.began(began_ns, work_of(self._signature, batch.rows, inputs))
        self._arm_timer()
        if self._queue.queued:
            self._schedule()

        def ended(future: Future[list[Array]]) -> None:
            self._running -= 1
            self._no_room_until_ns = 0
            self._dispatch.ended(end_ns)
            # Raised here, it would hold this frame, and so itself, and the version with it.
            failure = future.exception()
            try:
                if failure is None:
                    outputs = self._checked(batch, inputs, future.result())
            except Exception as error:
                self._failed(batch, release, error)
            else:
                if failure is None:
                    self._succeeded(batch, inputs, outputs, release, loggable, began_ns, ready_ns)
                else:
                    self._failed(batch, release, failure)
            finally:
                self._tell_drainers()
                if self._queue.queued and not self._scheduled:
                    self._flush()  # at once: the loop may take long to come round

        self._threads.start(partial(self._session.run, inputs), ended)

    def _expire(self, now_ns: int) -> None:
        for member in self._queue.expire(now_ns):
            self._receiver.member_failed(member, deadline_passed(), ran=False)
        self._earliest_ns = self._queue.next_deadline_ns()

    def _time_out(self, now_ns: int) -> None:
        if self._timeout_delays:
            self._queue.put_back(now_ns - self._timeout_ns)
            return
        for member in self._queue.time_out(now_ns - self._timeout_ns):
            error = Overloaded(
                f"Request timeout expired: it waited for more than {self._timeout_ns // 1000} us "
                f"in the queue of model '{self._signature.model}'"
            )
            self._receiver.member_failed(member, error, ran=False)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_ns = self._earliest_ns
        if self._timeout_ns and not self._timeout_delays:
            at_ns = min(at_ns, self._next_timeout_ns())
        if at_ns < NEVER_NS:
            delay_ns = max(0, at_ns - self._clock_ns())
            self._timer = self._loop.call_later(delay_ns / 1e9, self._on_timer)

    def _next_timeout_ns(self) -> int:
        """Not at once, or a tiny timeout would keep the loop busy while a batch runs."""
        now_ns = self._clock_ns()
        oldest_ns = min(self._queue.oldest_queued_ns(), now_ns)
        return max(oldest_ns + self._timeout_ns, now_ns + TIMER_NS)

    def _on_timer(self) -> None:
        self._timer = None
        now_ns = self._clock_ns()
        self._expire(now_ns)
        if self._timeout_ns:
            self._time_out(now_ns)
        if self._running:
            self._arm_timer()


def _aligned(array: Array) -> Array:
    """The array, if its address suits its datatype, else a copy."""
    return array if array.flags.aligned else array.copy()


def _hold_of(queue: QueueSettings, rows_max: int) -> Hold | None:
    """Nobody is held so long that the queue's own timeout would reject it."""
    delay_ns = queue.delay_us * 1000
    if queue.default_timeout_us:
        delay_ns = min(delay_ns, queue.default_timeout_us * 1000 - HOLD_SLACK_NS)
    return Hold.of(delay_ns, queue.preferred_sizes, rows_max)


def deadline_passed() -> ServeError:
    """The answer to a request whose deadline passed before its result."""
    return DeadlineExceeded("the deadline of the request passed before its result")
