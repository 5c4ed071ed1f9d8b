"""One loaded version at work: its batcher, its codecs, its log, its replies."""

import asyncio
import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventlog import GapReason, Status
from serving.core.admission import Admission
from serving.core.batch import Batch, State
from serving.core.datatypes import Array
from serving.core.errors import LogUnavailable, ModelFailed, ServeError
from serving.core.grpc_codec import GrpcReplies
from serving.core.json_codec_reply import BatchOutputs, JsonReplies
from serving.core.latency import LatencyProfile
from serving.core.padding import Padder, Part, whole
from serving.core.queue_settings import QueueSettings
from serving.core.signature import Signature
from serving.worker.batcher import Batcher, Release, Runs
from serving.worker.counters import ExecutionTimes, VersionMetrics
from serving.worker.log_tap import LogMode, LogTap, Rows
from serving.worker.run_threads import RunThreads
from serving.worker.task import Task

log = logging.getLogger("driftgate.serving")

_DONE = State.DONE  # read once per request


class Version:
    """A version that may be routed to. Lives on the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock_ns: Callable[[], int],
        signature: Signature,
        digest: str,
        session: Runs,
        threads: RunThreads,
        admission: Admission,
        metrics: VersionMetrics,
        tap: LogTap,
        config: Mapping[str, Any],
        queue: QueueSettings,
        *,
        inline: bool,
        profile: LatencyProfile,
        load_run_ns: int | None = None,
        padder: Padder | None = None,
        wait_ns_max: int = 0,
    ) -> None:
        """config: the version's configuration, as clients read it. load_run_ns: what the
        largest batch took at load, if it ran. padder: where requests may be padded.
        wait_ns_max: see `Batcher`.
        """
        self.signature, self.digest, self.config = signature, digest, config
        self.padder = padder
        self.json, self.grpc = JsonReplies(signature, digest), GrpcReplies(signature, digest)
        # Weakly, or the two would hold each other, and what a version holds are gigabytes: they
        # are to go with its last reference, not with some later search for cycles.
        receiver = weakref.proxy(self)
        self.batcher: Batcher[Task] = Batcher(
            loop, clock_ns, signature, session, receiver, threads,
            inline=inline, profile=profile, queue=queue, load_run_ns=load_run_ns, padder=padder,
            wait_ns_max=wait_ns_max,
        )  # fmt: skip
        self.metrics = metrics
        # Whether any request ever named its trace: until then none is asked for one.
        self.traced = False
        self._loop, self._clock_ns = loop, clock_ns
        self._admission = admission
        self._tap = tap
        self._uncommitted = 0  # batches whose replies wait for the log
        self._committed = asyncio.Event()
        self._committed.set()

    def submit(self, task: Task) -> None:
        """Queue an admitted request; its waiter is answered exactly once unless cancelled."""
        self.batcher.submit(task)

    def cancel(self, task: Task) -> None:
        """The client left; its rows are free at once, its batch mates are not touched."""
        if self.batcher.cancel(task):
            self.metrics.cancelled.inc()
            self._free(task)

    def oldest_ts_ns(self) -> int | None:
        """Arrival of the oldest request that the log was not offered yet; None without one."""
        return min((task.ts_ns for task in self.batcher.queue.unfinished()), default=None)

    async def drained(self) -> None:
        """Wait until every request has its answer."""
        await self.batcher.drained()
        await self._committed.wait()

    def batch_done(
        self,
        batch: Batch[Task],
        inputs: list[Array],
        outputs: list[Array],
        release: Release | None,
        loggable: bool,
        began_ns: int,
        ready_ns: int,
        run_ns: int,
    ) -> None:
        """Number, answer, log: in this order."""
        times = self._count(batch, began_ns, ready_ns, run_ns)
        tap = self._tap
        numbered = tap.numbers and batch.rows > 0
        first = 0
        if numbered:
            try:
                first = tap.number(batch.rows)
                for task, start in zip(batch.members, batch.starts, strict=True):
                    task.prediction_id = tap.prediction_id(task.ts_ns, first + start)
            except Exception:  # the log must never fail a prediction, unless that was asked for
                log.exception("rows could not be numbered")
                if tap.mode is LogMode.DURABLE:
                    self._refuse_uncommitted(batch, release)
                    return
                numbered = False
        parts = self._parts(batch, inputs, outputs)
        if numbered and tap.mode is LogMode.DURABLE:
            self._answer_after_commit(batch, parts, release, first, times)
            return
        self._answer(batch, parts, times)
        if not numbered:
            if release is not None:
                release()
        else:
            for part in parts:
                self._log(part, release, loggable, first + part.first)

    def _parts(
        self, batch: Batch[Task], inputs: list[Array], outputs: list[Array]
    ) -> list[Part[Task]]:
        """The batch as requests of one shape each; a padded one has its own buffer, no lease."""
        if self.padder is None:
            return [whole(batch, inputs, outputs)]
        requests = [task.arrays for task in batch.members]
        sent = sum([array.size for arrays in requests for array in arrays])
        self.metrics.padded(sent, sum([array.size for array in inputs]) - sent)
        return self.padder.parts(batch, requests, inputs, outputs)

    def _log(self, part: Part[Task], release: Release | None, loggable: bool, first: int) -> None:
        tap = self._tap
        try:
            if loggable:
                tap.keep(first, self._rows(part), part.members[0].arm, release)
            else:
                tap.drop(first, part.rows, GapReason.OVERFLOW)
        except Exception:  # the replies are out; the end of the incarnation settles the account
            log.exception("rows could not be logged")

    def _answer(
        self, batch: Batch[Task], parts: Sequence[Part[Task]], times: ExecutionTimes
    ) -> None:
        """Send every reply; what is counted, is counted once per batch."""
        clock_ns = self._clock_ns
        began_ns = now_ns = clock_ns()
        seconds: dict[str, list[float]] = {}
        self._free(*[task for task in batch.members if task.state is _DONE])
        for part in parts:
            outputs = BatchOutputs(self.signature, part.outputs)
            for task, start in zip(part.members, part.starts, strict=True):
                if task.state is _DONE and self._reply(task, outputs, start):
                    now_ns = clock_ns()
                    took_s = (now_ns - task.began_ns) * 1e-9
                    seconds.setdefault(task.waiter.protocol, []).append(took_s)
        times.output_ns = now_ns - began_ns
        self._count_answers(batch, seconds, times)

    def _reply(self, task: Task, outputs: BatchOutputs, start: int) -> bool:
        """Whether the request got its prediction, and not an error in its place."""
        waiter = task.waiter
        try:
            waiter.succeed(task, outputs, start, start + task.rows)
        except ServeError as error:
            self._refuse(task, error)
        except Exception:
            log.exception("encoding a reply failed")
            self._refuse(task, ModelFailed("the reply could not be encoded"))
        else:
            return True
        return False

    def _count_answers(
        self,
        batch: Batch[Task],
        seconds: Mapping[str, Sequence[float]],
        times: ExecutionTimes,
    ) -> None:
        """seconds: what each answered request took, by protocol."""
        metrics = self.metrics
        answered, all_s = 0, 0.0
        for protocol, each in seconds.items():
            metrics.seconds[protocol].observe_all(each)
            metrics.answered[protocol].inc(len(each))
            answered += len(each)
            all_s += sum(each)
        if answered:
            metrics.encode.observe(times.output_ns * 1e-9 / answered, answered)
            last_ms = batch.members[-1].ts_ns // 1_000_000
            metrics.executed(times, batch.rows, answered, int(all_s * 1e9), last_ms)

    def _answer_after_commit(
        self,
        batch: Batch[Task],
        parts: Sequence[Part[Task]],
        release: Release | None,
        first: int,
        times: ExecutionTimes,
    ) -> None:
        """Mode durable: the replies wait for the log, for all of the batch, and fail with it."""
        self._uncommitted += 1
        self._committed.clear()
        waiting, failed = len(parts), False

        def on_loop(error: Exception | None) -> None:
            nonlocal waiting, failed
            waiting -= 1
            failed = failed or error is not None
            if waiting:
                return
            self._uncommitted -= 1
            if not self._uncommitted:
                self._committed.set()
            if failed:
                self._refuse_uncommitted(batch, release)
                return
            if release is not None:
                release()
            self._answer(batch, parts, times)

        def done(error: Exception | None) -> None:
            self._loop.call_soon_threadsafe(on_loop, error)

        for part in parts:
            try:
                rows, arm = self._rows(part), part.members[0].arm
                self._tap.keep_durably(first + part.first, rows, arm, done)
            except Exception as error:  # closed, say: nothing will call `done`
                log.exception("rows could not be logged")
                on_loop(error)

    def _refuse_uncommitted(self, batch: Batch[Task], release: Release | None) -> None:
        """Mode durable: no reply without its commit."""
        if release is not None:
            release()
        for task in batch.members:
            if task.state is _DONE:
                self._free(task)
                self._refuse(
                    task, LogUnavailable("the prediction log could not commit this prediction")
                )

    def member_failed(self, task: Task, error: ServeError, *, ran: bool) -> None:
        """Answer a member that got no prediction; one that ran is in the log as failed."""
        self._free(task)
        first = None
        if ran and self._tap.numbers and task.rows:
            try:
                first = self._tap.number(task.rows)
            except Exception:  # the log must never keep an answer back
                log.exception("rows could not be numbered")
        self._refuse(task, error)
        if first is not None:
            self._log_failed(task, first)

    def _log_failed(self, task: Task, first: int) -> None:
        took_ns = self._clock_ns() - task.began_ns
        traces = self._traces([task])
        rows = Rows(
            [task.ts_ns], [took_ns], [task.rows], None, task.arrays, (), Status.FAILED, traces
        )
        try:
            self._tap.keep(first, rows, task.arm, None)
        except Exception:  # as in _log
            log.exception("rows could not be logged")

    def _refuse(self, task: Task, error: ServeError) -> None:
        took_ns = self._clock_ns() - task.began_ns
        self.metrics.failed(task.waiter.protocol, error.http_status, took_ns)
        try:
            task.waiter.fail(error)
        except Exception:
            log.exception("answering with an error failed")

    def _free(self, *tasks: Task) -> None:
        if self._admission.tenants is None:
            self._admission.free_rows(sum([task.rows or 1 for task in tasks]))
        else:
            for task in tasks:
                self._admission.free_rows(task.rows or 1, task.tenant)
        self._admission.free_bytes(sum([task.cost_bytes for task in tasks]))

    def _rows(self, part: Part[Task]) -> Rows:
        """For the log: predictions that were made."""
        now_ns = self._clock_ns()
        tasks = part.members
        left = [task.state is not _DONE for task in tasks]
        return Rows(
            [task.ts_ns for task in tasks],
            [now_ns - task.began_ns for task in tasks],
            [task.rows for task in tasks],
            left if True in left else None,
            part.inputs,
            part.outputs,
            Status.OK,
            self._traces(tasks),
        )

    def _traces(self, tasks: Sequence[Task]) -> list[bytes] | None:
        if not self.traced:
            return None
        traces = [task.waiter.trace for task in tasks]
        return traces if any(traces) else None

    def _count(
        self, batch: Batch[Task], began_ns: int, ready_ns: int, run_ns: int
    ) -> ExecutionTimes:
        """ready_ns: when the inputs were together. run_ns: of ONNX Runtime alone."""
        metrics = self.metrics
        metrics.executions.inc()
        metrics.rows.inc(batch.rows)
        metrics.batch_rows.observe(batch.rows)
        metrics.infer.observe(run_ns * 1e-9)
        count, arrived, queued = len(batch.members), 0, 0
        for task in batch.members:
            arrived += task.began_ns
            queued += task.queued_ns
        queue_ns = began_ns * count - queued
        # Per request, as the mean of its batch: one cell to write instead of many.
        metrics.decode.observe((queued - arrived) * 1e-9 / count, count)
        metrics.queue.observe(queue_ns * 1e-9 / count, count)
        return ExecutionTimes(ready_ns - began_ns, run_ns, queue_ns // count)
