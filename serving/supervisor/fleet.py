"""All worker processes of a gateway: started, watched, replaced, drained.

Laws:
- a place whose worker ended gets a new one at once, later and later while workers
  there keep ending young;
- workers of an earlier supervisor are never adopted: for each of ours that serves,
  one of theirs is drained;
- a worker whose event loop stands still is killed, with or without load; one that has
  numbered as many rows as its ids can hold is drained once its successor serves;
- a worker's counters outlive it: they are folded into the totals before its files go.
"""

import asyncio
import mmap
import os
import signal
import socket
import struct
import time
import traceback
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from eventlog import rows_numbered
from protos import channel_pb2 as pb
from serving.channel import ChannelError, Endpoint, connect
from serving.core.liveness import Liveness
from serving.grpc_engine import GrpcEngine
from serving.metrics import read_beats
from serving.supervisor.books import Books
from serving.supervisor.config import (
    CONNECTIONS,
    GRPC_CONNECTIONS,
    SupervisorConfig,
    memory_file,
    worker_document,
)
from serving.supervisor.metrics_server import DeadTotals
from serving.supervisor.process import ended, spawn
from serving.supervisor.say import say
from serving.supervisor.sockets import Sockets
from serving.supervisor.worker_state import Heard, Worker, WorkerState, converse

BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before a restart, by young ends in a row
YOUNG_S = 10.0  # a worker that lived longer did not crash on start
CONNECT_S_MAX = 30.0  # from exec to a listening socket; importing ONNX Runtime takes seconds cold
GREETING_S_MAX = 1.0  # a worker greets at once, unless its event loop is stuck
HANG_UP_S = 2.0  # a process whose channel broke ends within this, or is ended
DRAIN_MARGIN_S = 5.0  # beyond the drain itself, to write the log's last records


class Fleet:
    """Owns the worker processes; everything runs in the supervisor's event loop."""

    def __init__(
        self,
        config: SupervisorConfig,
        books: Books,
        totals: DeadTotals,
        argv: Sequence[str],
        heard: Heard,
        engine: GrpcEngine,
    ) -> None:
        self._engine = engine
        self._config, self._books, self._totals, self._argv = config, books, totals, argv
        self._tell = heard
        self._sockets: Sockets | None = None
        self._young_ends = [0] * config.workers
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._connections: list[mmap.mmap] = []
        self._liveness = Liveness(config.gateway.hang_s)
        self.workers: list[Worker] = []
        self.old: list[Worker] = []
        self.restarts: dict[str, int] = {}

    @property
    def places(self) -> int:
        """How many workers there should be."""
        return self._config.workers

    async def find_old(self) -> list[socket.socket]:
        """Call every worker that an earlier supervisor left; sweep up after the dead ones.

        Returns: the sockets that they share, if there are any and they give them away.
        """
        sockets: list[socket.socket] = []
        for path in sorted(self._config.run_dir.glob("*.sock")):
            slab = path.with_suffix(".metrics")
            try:
                endpoint = connect(path, pb.FromWorker)
            except (OSError, ChannelError):
                self._totals.fold(slab)
                path.unlink(missing_ok=True)
                continue
            worker = Worker(-1, path.stem, endpoint.peer_pid, path, slab)
            self.old.append(worker)
            given = await _greet(worker, endpoint)
            if sockets:
                for extra in given:
                    extra.close()
            else:
                sockets = given
            self._spawn_task(self._watch_old(worker, endpoint))
        for path in self._config.run_dir.glob("*.metrics"):
            if not path.with_suffix(".sock").exists():
                self._totals.fold(path)
        return sockets

    def start(self, sockets: Sockets) -> None:
        """Begin to keep every place taken."""
        self._sockets = sockets
        self._connections = [
            _connections(self._config.run_dir / name, self._config.workers)
            for name in (CONNECTIONS, GRPC_CONNECTIONS)
        ]
        for index in range(self._config.workers):
            self._spawn_task(self._keep(index))

    def relieve_old(self) -> None:
        """Drain as many of the earlier supervisor's workers as ours have begun to serve."""
        serving = sum(worker.state is WorkerState.SERVING for worker in self.workers)
        drained = sum(worker.state is WorkerState.DRAINING for worker in self.old)
        everyone = serving >= self._config.workers
        for worker in [item for item in self.old if item.state is not WorkerState.DRAINING]:
            if drained >= serving and not everyone:
                return
            self._drain(worker)
            drained += 1

    def look(self) -> None:
        """Look after every worker, whether or not anybody asks it anything."""
        everyone = {worker.incarnation: worker for worker in (*self.workers, *self.old)}
        beats = {name: read_beats(worker.metrics_path) for name, worker in everyone.items()}
        for name in self._liveness.look(beats, time.monotonic()):
            everyone[name].kill(f"its event loop stood still for {self._config.gateway.hang_s:g} s")
        self._relieve_worn()

    def _relieve_worn(self) -> None:
        """Call for a successor of a worker at its last numbers; drain it when that serves."""
        serving = [item for item in self.workers if item.state is WorkerState.SERVING]
        fresh = {item.index for item in serving if not item.worn.is_set()}
        for worker in serving:
            if worker.worn.is_set():
                if worker.index in fresh:
                    self._drain(worker)
                continue
            numbered = rows_numbered(self._config.log_dir, worker.incarnation)
            if numbered >= self._config.gateway.worker_rows_max:
                say(f"worker {worker.incarnation} has numbered {numbered} rows; replacing it")
                self._count_restart("worn")
                worker.worn.set()

    async def stop(self) -> None:
        """Drain everything and wait until it is gone; what overstays is killed."""
        self._stopping = True
        everyone = [*self.workers, *self.old]
        for worker in everyone:
            if worker.state is WorkerState.STARTING and worker.index >= 0:
                worker.kill("stopped")  # it has accepted nothing yet
            elif worker.state is not WorkerState.DRAINING:
                self._drain(worker)
        deadline = asyncio.get_running_loop().time() + self._config.gateway.drain_s + DRAIN_MARGIN_S
        while self.workers or self.old:
            if asyncio.get_running_loop().time() > deadline:
                for worker in [*self.workers, *self.old]:
                    worker.kill("overstayed its drain")
            await asyncio.sleep(0.02)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _drain(self, worker: Worker) -> None:
        worker.stop_reason = worker.stop_reason or "drained"
        worker.tell(pb.ToWorker(drain=pb.Drain(grace_ms=int(self._config.gateway.drain_s * 1000))))

    def _spawn_task(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, index: int) -> None:
        """Keep one place taken by a worker."""
        while not self._stopping:
            try:
                worker = await self._launch(index)
            except Exception as error:  # the disk or the process table is full: try again
                say(f"worker {index} cannot be started: {error}")
                self._young_ends[index] += 1
            else:
                if self._stopping:  # told to end while it was being started
                    worker.kill("stopped")
                attended = self._spawn_task(self._attend(worker))
                worn = self._spawn_task(worker.worn.wait())
                await asyncio.wait({attended, worn}, return_when=asyncio.FIRST_COMPLETED)
                worn.cancel()
                if not attended.done():
                    continue  # the successor comes first
                if fault := attended.exception():  # ours; the place must not be lost with it
                    say(f"worker {worker.incarnation} was not seen off: {fault!r}")
            if not self._stopping:
                ends = self._young_ends[index]
                await asyncio.sleep(BACK_OFF_S[min(ends, len(BACK_OFF_S) - 1)])

    async def _launch(self, index: int) -> Worker:
        assert self._sockets is not None
        incarnation = await self._books.allocate()
        sockets = self._sockets
        document = worker_document(self._config, incarnation, index, sockets, self._engine)
        config_fd = memory_file("driftgate-worker", document)
        try:
            listeners = (sockets.http.fileno(), sockets.grpc.fileno())
            pid = spawn(self._argv, config_fd, listeners)
        finally:
            os.close(config_fd)
        path = self._config.run_dir / f"{incarnation}.sock"
        worker = Worker(index, incarnation, pid, path, path.with_suffix(".metrics"))
        self.workers.append(worker)
        return worker

    async def _attend(self, worker: Worker) -> None:
        """From the first connection to the closed books of one worker."""
        end = asyncio.ensure_future(ended(worker.pid))
        talk = asyncio.ensure_future(self._talk(worker))
        try:
            await asyncio.wait({end, talk}, return_when=asyncio.FIRST_COMPLETED)
            if not end.done() and worker.state is not WorkerState.DRAINING:
                await asyncio.wait({end}, timeout=HANG_UP_S)
                if not end.done():
                    worker.kill("hung up")
            code = await end
        finally:
            for task in (end, talk):
                task.cancel()
            await asyncio.gather(end, talk, return_exceptions=True)
        await self._bury(worker, code)

    async def _talk(self, worker: Worker) -> None:
        endpoint = await _call(worker.socket_path)
        if endpoint is None:
            worker.kill("never listened")
            return
        await converse(worker, endpoint, self._heard)

    async def _watch_old(self, worker: Worker, endpoint: Endpoint[pb.FromWorker]) -> None:
        talk = asyncio.ensure_future(converse(worker, endpoint, self._heard_old))
        try:
            await ended(worker.pid)
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
        await self._bury(worker, 0)

    async def _bury(self, worker: Worker, code: int | None) -> None:
        """Count what it counted, close its books, remove its files."""
        worker.state = WorkerState.GONE
        worker.forget()
        for fleet in (self.workers, self.old):
            if worker in fleet:
                fleet.remove(worker)
        self._totals.fold(worker.metrics_path)
        worker.socket_path.unlink(missing_ok=True)
        if worker.index >= 0:
            alone = all(other.index != worker.index for other in self.workers)
            for counts in self._connections if alone else ():
                struct.pack_into("<q", counts, worker.index * 8, 0)
            self._note_end(worker, code)
        self._heard(worker, "gone", pb.FromWorker())
        if not self._stopping:  # beside the replacement, which does not wait for it
            self._spawn_task(self._books.close())

    def _heard(self, worker: Worker, kind: str, message: pb.FromWorker) -> None:
        """Pass on; a fault in what follows must not cost the worker its connection."""
        try:
            self._tell(worker, kind, message)
        except Exception:
            say(traceback.format_exc())

    def _heard_old(self, worker: Worker, kind: str, message: pb.FromWorker) -> None:
        """Of an earlier supervisor's worker only its clients' questions are ours."""
        if kind == "ask":
            self._heard(worker, kind, message)

    def _note_end(self, worker: Worker, code: int | None) -> None:
        if worker.ended_as_told:
            return
        young = time.monotonic() - worker.started_at < YOUNG_S
        served = worker.applied_epoch > 0
        # A worker that served and was killed comes back at once, however young it was.
        self._young_ends[worker.index] = (
            self._young_ends[worker.index] + 1 if young and not served else 0
        )
        reason = "stuck" if worker.stop_reason else "crash"
        self._count_restart(reason)
        ending = worker.stop_reason or (
            signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
        )
        say(f"worker {worker.incarnation} (pid {worker.pid}) ended: {ending}; replacing it")

    def _count_restart(self, reason: str) -> None:
        self.restarts[reason] = self.restarts.get(reason, 0) + 1


async def _call(path: Path) -> Endpoint[pb.FromWorker] | None:
    """Connect as soon as the worker listens."""
    deadline = time.monotonic() + CONNECT_S_MAX
    while time.monotonic() < deadline:
        try:
            return connect(path, pb.FromWorker)
        except (OSError, ChannelError):
            await asyncio.sleep(0.01)
    return None


async def _greet(worker: Worker, endpoint: Endpoint[pb.FromWorker]) -> list[socket.socket]:
    """Hear an earlier supervisor's worker say who it is, and take its sockets."""
    try:
        async with asyncio.timeout(GREETING_S_MAX):
            received = await endpoint.receive()
    except (TimeoutError, ChannelError, OSError):
        return []  # too busy to greet; it can still be drained
    if received is None:
        return []
    message, fds = received
    worker.hear(message)
    return [socket.socket(fileno=fd) for fd in fds]


def _connections(path: Path, workers: int) -> mmap.mmap:
    """A fresh file of one int64 per worker; earlier workers keep the old one."""
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_bytes(bytes(8 * workers))
    os.replace(scratch, path)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 8 * workers)
