"""Natural batching: whatever arrived while the last batch ran is the next batch.

A submit schedules one flush for the end of the loop's turn, and the flush takes
all that is there. No timer makes a request wait for company; the only timer is
for deadlines that pass while a slow batch runs in its thread.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from typing import Generic, Protocol, TypeVar

import numpy as np

from serving.core.batch import NEVER_NS, Batch, BatchQueue, Member
from serving.core.datatypes import Array
from serving.core.errors import DeadlineExceeded, ModelFailed, ServeError
from serving.core.signature import Signature
from serving.worker.buffers import BufferPool

SLOW_NS = 5_000_000  # an average beyond this moves an inline version to a thread
AVERAGE_SHIFT = 3  # the moving average weighs the last run 1/8

Release = Callable[[], None]


class Runs(Protocol):
    """What runs a batch; OnnxSession, or a fake in tests."""

    def run(self, arrays: Sequence[Array]) -> list[Array]: ...


class Task(Member):
    """A member with its inputs, in the order of the signature."""

    __slots__ = ("arrays",)

    def __init__(self, key: Hashable, rows: int, arrays: list[Array], deadline_ns: int) -> None:
        super().__init__(key, rows, deadline_ns)
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

    @property
    def queue(self) -> BatchQueue[T]:
        return self._queue

    def estimate_ns(self) -> int:
        """How long a request submitted now would wait before its own run."""
        ahead = self._queue.queued
        if not ahead and not self._busy:
            return 0
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
        """Wait until nothing is queued or running."""
        while not self._queue.idle:
            waiter = self._loop.create_future()
            self._drainers.append(waiter)
            await waiter

    def _flush(self) -> None:
        self._scheduled = False
        now = self._clock_ns()
        if now >= self._earliest_ns:
            self._expire(now)
        batch = self._queue.take()
        if batch is None:
            self._again()
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

    def _again(self) -> None:
        """After a run: the next one, or the news that there is none."""
        if self._drainers and self._queue.idle:
            for waiter in self._drainers:
                if not waiter.done():
                    waiter.set_result(None)
            self._drainers.clear()
        if self._queue.queued and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _gather(self, batch: Batch[T]) -> tuple[list[Array], Release | None, bool]:
        """The inputs of a batch, contiguous; whether the log may have them."""
        members = batch.members
        if len(members) == 1:
            return members[0].arrays, None, True
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

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._earliest_ns < NEVER_NS:
            delay_ns = max(0, self._earliest_ns - self._clock_ns())
            self._timer = self._loop.call_later(delay_ns / 1e9, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._expire(self._clock_ns())
        if self._busy:
            self._arm_timer()


def deadline_passed() -> ServeError:
    """The answer to a request whose deadline passed before its result."""
    return DeadlineExceeded("the deadline of the request passed before its result")
