"""The worker's end of the control channel: one supervisor at a time.

Loads and unloads run beside the rest, so that a routing table (a rollback) never
waits for a large model. A worker takes traffic once it has a routing table: a
replacement must not answer "unknown model" while it loads. A lost supervisor is
not an error: the worker serves on, and drains only when nobody has come for
`orphan_s`.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from protos import channel_pb2 as pb
from serving.channel import ChannelError, Endpoint, accept
from serving.worker.desk import Desk
from serving.worker.models import ModelShelf
from serving.worker.shared_memory import SharedRegions

log = logging.getLogger("driftgate.serving")

Drain = Callable[[float], Awaitable[None]]
Open = Callable[[], Awaitable[None]]


class WorkerChannel:
    """Answers the supervisor's messages."""

    def __init__(
        self,
        listener: socket.socket,
        shelf: ModelShelf,
        desk: Desk,
        regions: SharedRegions,
        started: pb.Started,
        drain: Drain,
        open: Open,
        listeners: Sequence[int],
        orphan_s: float,
        drain_s: float,
    ) -> None:
        """drain: the orderly drain, with its grace in seconds; returns when all is answered.

        open: begins to take traffic; called after each routing table.
        listeners: given to each supervisor that calls: after a crash the next one goes on
            with them, so that nobody who waits in a backlog is hung up on.
        """
        self._listener, self._shelf, self._desk = listener, shelf, desk
        self._regions = regions
        self._started = started
        self._drain, self._open, self._listeners = drain, open, listeners
        self._orphan_s, self._drain_s = orphan_s, drain_s
        self._beside: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until a drain was asked for and done, or the worker was an orphan for too long."""
        while True:
            try:
                async with asyncio.timeout(self._orphan_s):
                    endpoint = await accept(self._listener, pb.ToWorker)
            except TimeoutError:
                log.warning("no supervisor for %g s: draining", self._orphan_s)
                await self._drain(self._drain_s)
                return
            try:
                if await self._converse(endpoint):
                    return
            except (ChannelError, OSError) as error:
                log.warning("the supervisor's connection broke: %s", error)
            finally:
                self._desk.detach()
                endpoint.close()

    async def _converse(self, endpoint: Endpoint[pb.ToWorker]) -> bool:
        """True once the worker has drained."""
        await endpoint.send(pb.FromWorker(started=self._started), self._listeners)
        self._desk.attach(endpoint)
        while (received := await endpoint.receive()) is not None:
            message, fds = received
            kind = message.WhichOneof("message")
            if kind == "load":
                self._answer(endpoint, self._shelf.load(message.load, fds))
            elif kind == "unload":
                self._answer(endpoint, self._shelf.unload(message.unload))
            elif kind == "set_routes":
                applied = self._shelf.apply(message.set_routes)
                await self._open()
                await endpoint.send(applied)
            elif kind == "explain":
                await endpoint.send(self._shelf.explain(message.explain))
            elif kind == "set_regions":
                await endpoint.send(self._regions.apply(message.set_regions, fds))
            elif kind == "answer":
                self._desk.answered(message.answer, fds)
            elif kind == "drain":
                await self._drain(message.drain.grace_ms / 1000)
                with contextlib.suppress(OSError, ChannelError):
                    await endpoint.send(pb.FromWorker(drained=pb.Drained()))
                return True
        return False

    def _answer(self, endpoint: Endpoint[pb.ToWorker], work: Awaitable[pb.FromWorker]) -> None:
        """Do what takes long, then say so."""

        async def run() -> None:
            answer = await work
            with contextlib.suppress(OSError, ChannelError):
                await endpoint.send(answer)

        task = asyncio.get_running_loop().create_task(run())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
