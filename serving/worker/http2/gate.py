"""What all HTTP/2 connections of a worker share: methods, limits, the flush, the sweep."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from serving.core.content_coding import Accepted
from serving.worker.dataplane import DataPlane
from serving.worker.grpc_call import METADATA_BYTES, Method
from serving.worker.http2.binding import Binding
from serving.worker.reply_packer import ReplyPacker

SWEEP_S = 0.25  # how late a deadline may be noticed
UNSENT_BYTES_MAX = 64 * 1024 * 1024  # of replies that the client of a connection does not read
CROWDED_SHARE = 0.75  # of the connections allowed; from here on idle ones must go


class Client(Protocol):
    """A connection, as the gate looks after it."""

    waits: bool  # in the gate's list for the next flush

    def flush(self) -> None: ...
    def look(self, now: float) -> None: ...
    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Http2Gate:
    """The connections, their number, and what they have in common. Lives on the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        binding: Binding,
        methods: Mapping[bytes, Method],
        packer: ReplyPacker,
        *,
        packs_replies: bool,
    ) -> None:
        """methods: by path."""
        self.loop, self.plane, self.binding = loop, plane, binding
        self.methods, self.packer, self.packs_replies = methods, packer, packs_replies
        self.message_bytes_max = plane.message_bytes_max  # before and after unpacking
        self.unsent_bytes_max = UNSENT_BYTES_MAX
        self.field_bytes_soft, self.field_bytes_hard = METADATA_BYTES
        self.sweep_s = SWEEP_S
        self.connections: set[Client] = set()
        self.counted: Callable[[int], None] = lambda _: None  # told the number of connections
        self.now = loop.time()  # as of the last sweep
        self._touched: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.emptied = asyncio.Event()  # no connection is left
        self._gauge = plane.metrics.connections_of("grpc")

    @property
    def crowded(self) -> bool:
        return len(self.connections) > CROWDED_SHARE * self.plane.limits.connections_max

    @property
    def idle(self) -> bool:
        """Whether no call has a task that goes on."""
        return not self._tasks

    def start(self) -> None:
        """Begin to look after deadlines."""
        self._count()
        self._sweep()

    def stop(self) -> None:
        """End everything that is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self.connections):
            connection.abort()
        self.packer.close()

    def drain(self) -> None:
        for connection in self.connections:
            connection.drain()

    def add(self, connection: Client) -> None:
        self.connections.add(connection)
        self._count()

    def remove(self, connection: Client) -> None:
        self.connections.discard(connection)
        self._count()

    def _count(self) -> None:
        count = len(self.connections)
        if count:
            self.emptied.clear()
        else:
            self.emptied.set()
        self._gauge.set(count)
        self.counted(count)

    def touch(self, connection: Client) -> None:
        """It has something to write: once, at the end of this turn of the loop."""
        if not connection.waits:
            connection.waits = True
            if not self._touched:
                self.loop.call_soon(self._flush)
            self._touched.append(connection)

    def _flush(self) -> None:
        touched, self._touched = self._touched, []
        for connection in touched:
            connection.waits = False
            connection.flush()

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task of a call, kept until it is done."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def packed(self, reply: bytes, accepted: Accepted) -> tuple[bytes, str]:
        """A reply and its coding, which is "" if packing would not make it smaller."""
        done: asyncio.Future[tuple[bytes, str]] = self.loop.create_future()

        def take(body: bytes, coding: str) -> None:
            if not done.done():
                done.set_result((body, coding))

        self.packer.send(reply, accepted, take)
        return await done

    def _sweep(self) -> None:
        self.now = self.loop.time()
        for connection in list(self.connections):
            connection.look(self.now)
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
