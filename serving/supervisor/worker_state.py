"""One worker process, as the supervisor sees it: what it has loaded and what it routes.

All state changes happen in the two synchronous methods `hear` and `tell`; a task
per worker moves packets between them and the socket. Owned by the supervisor's
event loop.
"""

import asyncio
import json
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from protos import channel_pb2 as pb
from serving.channel import ChannelError, Endpoint
from serving.core.rollout_routes import RoutePlan
from serving.core.rollout_state import Version

ANSWER_S_MAX = 10.0  # a routing table is applied in microseconds; beyond this it is stuck
RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)  # a version that failed to load here but runs elsewhere


class WorkerState(Enum):
    STARTING = "starting"  # no connection yet
    LOADING = "loading"  # connected, routes nothing yet
    SERVING = "ready"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    digest: str  # of the build
    load_ns: int
    batchable: bool


@dataclass(slots=True)
class Failure:
    digest: str
    reason: str
    attempts: int
    retry_at: float  # monotonic seconds


Key = tuple[str, str]  # model, version


@dataclass(slots=True)
class Worker:
    """index: its place among the workers; a replacement takes the same place."""

    index: int
    incarnation: str
    pid: int
    socket_path: Path
    metrics_path: Path
    state: WorkerState = WorkerState.STARTING
    started_at: float = field(default_factory=time.monotonic)
    loaded: dict[Key, LoadedVersion] = field(default_factory=dict)
    loading: dict[Key, str] = field(default_factory=dict)
    failed: dict[Key, Failure] = field(default_factory=dict)
    unloading: set[Key] = field(default_factory=set)
    routes: Mapping[str, RoutePlan] = field(default_factory=dict)  # sent last
    applied: Mapping[str, RoutePlan] = field(default_factory=dict)
    applied_epoch: int = 0
    outbox: deque[tuple[pb.ToWorker, Sequence[int]]] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    stop_reason: str = ""  # why we made it end; empty: it was not our doing
    worn: asyncio.Event = field(default_factory=asyncio.Event)  # its place gets a successor
    _loading_until: float = 0.0
    _sent: dict[int, tuple[Mapping[str, RoutePlan], float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ",".join(f"{model}:{version}" for model, version in sorted(self.loaded))
        return f"<worker {self.index} {self.incarnation} {self.state.value} [{names}]>"

    @property
    def ended_as_told(self) -> bool:
        """Whether its end, if it has come, was asked for."""
        return self.stop_reason in {"drained", "stopped"}

    def holds(self, model: str) -> dict[str, str]:
        """version -> build of what it has loaded of a model."""
        return {v: item.digest for (m, v), item in self.loaded.items() if m == model}

    def serves(self, version: Version, model: str) -> bool:
        item = self.loaded.get((model, version.version))
        return item is not None and item.digest == version.build

    def tell(self, message: pb.ToWorker, fds: Sequence[int] = ()) -> None:
        """Queue a packet; note what it means for the worker. fds: duplicated, stay the caller's."""
        kind = message.WhichOneof("message")
        if kind == "load":
            load = message.load
            self.loading[load.model, load.version] = load.digest
            previous = self.failed.get((load.model, load.version))
            if previous is not None and previous.digest != load.digest:
                del self.failed[load.model, load.version]
        elif kind == "unload":
            self.unloading.add((message.unload.model, message.unload.version))
        elif kind == "drain":
            self.state = WorkerState.DRAINING
        # Of its own, since a version may be given up before the packet is sent.
        self.outbox.append((message, [os.dup(fd) for fd in fds]))
        self.wake.set()

    def forget(self) -> None:
        """Drop what was not sent, and its descriptors."""
        while self.outbox:
            _close(self.outbox.popleft()[1])

    def tell_routes(self, epoch: int, routes: Mapping[str, RoutePlan]) -> None:
        """Queue a whole routing table."""
        self.routes = routes
        self._sent[epoch] = (routes, time.monotonic())
        table = pb.SetRoutes(epoch=epoch, routes=[_route(plan) for plan in routes.values()])
        self.tell(pb.ToWorker(set_routes=table))

    def hear(self, message: pb.FromWorker) -> str:
        """Take in what the worker says; returns which message it was."""
        kind = message.WhichOneof("message") or ""
        if kind == "started" and self.state is WorkerState.STARTING:
            self.state = WorkerState.LOADING
        elif kind == "loaded":
            self._heard_loaded(message.loaded)
        elif kind == "load_failed":
            self._heard_failed(message.load_failed)
        elif kind == "routes_applied":
            self._heard_applied(message.routes_applied.epoch)
        elif kind == "unloaded":
            key = (message.unloaded.model, message.unloaded.version)
            self.unloading.discard(key)
            self.loaded.pop(key, None)
        return kind

    def _heard_loaded(self, loaded: pb.Loaded) -> None:
        key = (loaded.model, loaded.version)
        self.loading.pop(key, None)
        self.failed.pop(key, None)
        self.loaded[key] = LoadedVersion(loaded.digest, loaded.load_ns, loaded.batchable)

    def _heard_failed(self, failed: pb.LoadFailed) -> None:
        key = (failed.model, failed.version)
        self.loading.pop(key, None)
        before = self.failed.get(key)
        attempts = before.attempts + 1 if before else 1
        wait_s = RETRY_S[min(attempts, len(RETRY_S)) - 1]
        self.failed[key] = Failure(
            failed.digest, failed.reason, attempts, time.monotonic() + wait_s
        )

    def _heard_applied(self, epoch: int) -> None:
        if epoch not in self._sent:
            return
        self.applied, _ = self._sent[epoch]
        self.applied_epoch = epoch
        for older in [item for item in self._sent if item <= epoch]:
            del self._sent[older]
        if self.state is WorkerState.LOADING:
            self.state = WorkerState.SERVING

    def is_stuck(self, now: float) -> bool:
        """Whether it has owed an answer about its routes for too long.

        While it loads it may take as long as the model does: packets are answered in order.
        """
        if self.loading:
            self._loading_until = now
            return False
        since = self._loading_until
        return any(now - max(sent, since) > ANSWER_S_MAX for _, sent in self._sent.values())

    def kill(self, reason: str) -> None:
        """End it now; its books are closed when the process is gone."""
        self.stop_reason = self.stop_reason or reason
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _route(plan: RoutePlan) -> pb.Route:
    return pb.Route(
        model=plan.model,
        salt=plan.salt,
        arms=[
            pb.Arm(
                version=arm.version.version,
                digest=arm.version.digest,
                role=arm.role,
                weight=arm.weight,
                rollout=arm.rollout,
            )
            for arm in plan.arms
        ],
        loaded=plan.loaded,
        generation=plan.generation,
    )


def load_message(
    model: str, version: Version, files: Sequence[tuple[str, int]], settings: Mapping[str, object]
) -> pb.ToWorker:
    """files: (name, size) of every file, the model first, in the order of the descriptors."""
    return pb.ToWorker(
        load=pb.Load(
            model=model,
            version=version.version,
            digest=version.build,
            files=[pb.File(name=name, size=size) for name, size in files],
            settings_json=json.dumps(settings).encode(),
        )
    )


Heard = Callable[[Worker, str, pb.FromWorker], None]


async def converse(worker: Worker, endpoint: Endpoint[pb.FromWorker], heard: Heard) -> None:
    """Move packets until the worker hangs up; `heard` is called after each message."""
    writer = asyncio.create_task(_write(worker, endpoint, heard))
    try:
        while (received := await endpoint.receive()) is not None:
            message, fds = received
            _close(fds)  # a worker has no descriptors to give
            heard(worker, worker.hear(message), message)
    except (ChannelError, OSError) as error:
        worker.kill(f"channel: {error}")
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        endpoint.close()


async def _write(worker: Worker, endpoint: Endpoint[pb.FromWorker], heard: Heard) -> None:
    while True:
        while worker.outbox:
            message, fds = worker.outbox[0]
            try:
                await endpoint.send(message, fds)
            except ChannelError as error:
                if message.WhichOneof("message") != "load":
                    raise
                failed = _not_sent(message.load, str(error))
                heard(worker, worker.hear(failed), failed)
            finally:
                worker.outbox.popleft()
                _close(fds)
        worker.wake.clear()
        await worker.wake.wait()


def _not_sent(load: pb.Load, reason: str) -> pb.FromWorker:
    failed = pb.LoadFailed(
        model=load.model, version=load.version, digest=load.digest, reason=reason
    )
    return pb.FromWorker(load_failed=failed)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
