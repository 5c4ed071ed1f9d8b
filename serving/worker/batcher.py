"""Natural batching: whatever arrived while the last batch ran is the next batch.

A submit schedules one flush for the end of the loop's turn, and the flush takes
all that is there. No timer makes a request wait for company, unless the model's
configuration sets a queue delay; the only other timer is for deadlines that pass
while a slow batch runs in its thread. Without a delay and a queue timeout the
flush asks `_by_policy` once per batch, and nothing per request.
"""

import asyncio
import sys
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import Generic, Protocol, TypeVar

import numpy as np

from serving.core.batch import NEVER_NS, Batch, BatchQueue, Member
from serving.core.datatypes import Array
from serving.core.errors import DeadlineExceeded, ModelFailed, Overloaded, ServeError
from serving.core.hold import Hold
from serving.core.queue_settings import QueueSettings
from serving.core.signature import Signature
from serving.worker.buffers import BufferPool

SLOW_NS = 5_000_000  # an average beyond this moves an inline version to a thread
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
        executor: Executor,
        *,
        inline: bool,
        run_ns: int,
        queue: QueueSettings = NO_QUEUE,
    ) -> None:
        """executor: where a slow version runs; run_ns: what a run took at load."""
        self._loop, self._clock_ns = loop, clock_ns
        self._signature, self._session = signature, session
        self._receiver, self._executor = receiver, executor
        self._rows_max = signature.max_batch_size or 1
        self._queue: BatchQueue[T] = BatchQueue(self._rows_max)
        self._pool = (
            BufferPool(signature.inputs, self._rows_max)
            if signature.max_batch_size and BufferPool.fits(signature.inputs)
            else None
        )
        self._inline = inline
        self._run_ns = run_ns
        self._scheduled = False
        self._busy = False
        self._drainers: list[asyncio.Future[None]] = []
        self._earliest_ns = NEVER_NS
        self._timer: asyncio.TimerHandle | None = None
        # Whether a request's own `timeout` counts: a model may insist on its default.
        self.heeds_timeout = not queue.default_timeout_us or queue.allow_timeout_override
        self._queue_max = queue.max_queue_size or sys.maxsize
        self._timeout_ns = queue.default_timeout_us * 1000
        self._hold = _hold_of(queue, self._rows_max)
        self._by_policy = self._hold is not None or self._timeout_ns > 0
        self._look: asyncio.TimerHandle | None = None
        self._look_ns = NEVER_NS

    @property
    def queue(self) -> BatchQueue[T]:
        return self._queue

    def estimate_ns(self) -> int:
        """How long a request submitted now would wait before its own run.

        Raises: Overloaded if as many wait as the model's configuration allows.
        """
        ahead = self._queue.queued
        if not ahead and not self._busy:
            return 0
        if ahead >= self._queue_max:
            raise Overloaded(
                f"Exceeds maximum queue size: {self._queue_max} requests of model "
                f"'{self._signature.model}' may wait, and as many do"
            )
        return self._run_ns * (self._busy + self._queue.rows_queued // self._rows_max)

    def submit(self, member: T) -> None:
        """Queue a member; its outcome reaches the receiver."""
        self._queue.submit(member)
        if member.deadline_ns < self._earliest_ns:
            self._earliest_ns = member.deadline_ns
            if self._busy:
                self._arm_timer()
        if not self._scheduled and not self._busy:
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

    def stop_holding(self) -> None:
        """No more waiting for company: the version drains."""
        self._hold = None
        self._by_policy = self._timeout_ns > 0
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._queue.queued and not self._busy:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        now = self._clock_ns()
        if now >= self._earliest_ns:
            self._expire(now)
        batch = self._take_by_policy(now) if self._by_policy else self._queue.take()
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
            outputs = self._checked(batch, self._session.run(inputs))
        except Exception as error:
            self._failed(batch, release, error)
        else:
            self._succeeded(batch, inputs, outputs, release, loggable, now, ready)
        finally:
            self._again()

    def _take_by_policy(self, now_ns: int) -> Batch[T] | None:
        """The next batch of a model that sets a queue delay or timeout, if one is due."""
        if self._timeout_ns:
            self._time_out(now_ns)
        if self._hold is None:
            return self._queue.take()
        margin_ns = self._run_ns + HOLD_SLACK_NS
        batch, look_ns = self._queue.take_settled(self._hold, now_ns, margin_ns)
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
        if not self._busy:
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

    def _checked(self, batch: Batch[T], outputs: list[Array]) -> list[Array]:
        """Raises: ModelFailed if an output cannot be cut by request."""
        if self._signature.max_batch_size:
            for spec, array in zip(self._signature.outputs, outputs, strict=True):
                if not array.shape or array.shape[0] != batch.rows:
                    raise ModelFailed(
                        f"output '{spec.name}' of model '{self._signature.model}' has shape "
                        f"{list(array.shape)} for a batch of {batch.rows}"
                    )
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
        run_ns = self._clock_ns() - ready_ns
        self._run_ns += (run_ns - self._run_ns) >> AVERAGE_SHIFT
        if self._run_ns > SLOW_NS:
            self._inline = False
        self._queue.succeed(batch)
        self._receiver.batch_done(
            batch, inputs, outputs, release, loggable, began_ns, ready_ns, run_ns
        )

    def _failed(self, batch: Batch[T], release: Release | None, error: Exception) -> None:
        if release is not None:
            release()
        told = error if isinstance(error, ServeError) else ModelFailed("the model failed")
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
        self._busy = True
        self._arm_timer()
        running = self._loop.run_in_executor(self._executor, self._session.run, inputs)

        def done(future: asyncio.Future[list[Array]]) -> None:
            self._busy = False
            try:
                outputs = self._checked(batch, future.result())
            except (Exception, asyncio.CancelledError) as error:
                told = error if isinstance(error, Exception) else ModelFailed("the run was stopped")
                self._failed(batch, release, told)
            else:
                self._succeeded(batch, inputs, outputs, release, loggable, began_ns, ready_ns)
            finally:
                self._again()

        running.add_done_callback(done)

    def _expire(self, now_ns: int) -> None:
        for member in self._queue.expire(now_ns):
            self._receiver.member_failed(member, deadline_passed(), ran=False)
        self._earliest_ns = self._queue.next_deadline_ns()

    def _time_out(self, now_ns: int) -> None:
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
        if self._timeout_ns:
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
        if self._busy:
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
