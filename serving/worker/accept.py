"""Accepting connections from the listener that all workers share, evenly.

Left to the kernel, one worker takes nearly all of a burst. Here each takes one
connection at a time, and while it has more than the mean it gives the others a
head start. Counts live in a shared file, one int64 per worker; a dead worker's
stale count can only cost that pause, never an accept.
"""

import asyncio
import mmap
import socket
import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

HEAD_START_S = 0.002
RETRY_S = 0.1  # after the process ran out of descriptors
SETTLE_S = 1.0  # for connections that were accepted just now, when no more are
COUNT_BYTES = 8


class Counts:
    """Open connections per worker; each writes its own cell and reads all."""

    def __init__(self, path: Path | None, index: int, workers: int) -> None:
        self._index, self._workers = index, workers
        self._cells: memoryview[int] | None = None
        if path is not None:
            with path.open("r+b") as file:
                self._map = mmap.mmap(file.fileno(), 0)
            if len(self._map) >= COUNT_BYTES * max(workers, index + 1):
                self._cells = memoryview(self._map).cast("q")

    def set(self, count: int) -> None:
        if self._cells is not None:
            self._cells[self._index] = count

    def above_mean(self, count: int) -> bool:
        """Whether this worker, with `count` connections, has more than its share."""
        if self._cells is None or self._workers < 2:
            return False
        total = sum(max(0, self._cells[i]) for i in range(self._workers))
        return count * self._workers > total


class Gate(Protocol):
    """Who keeps the connections of one port."""

    counted: Callable[[int], None]  # told their number

    @property
    def connections(self) -> Collection[Any]: ...


@dataclass(frozen=True, slots=True)
class Handshakes:
    """How connections become TLS ones.

    seconds:     a client gets for it.
    at_once_max: at a time; beyond it connections are closed.
    """

    context: Callable[[], ssl.SSLContext]
    seconds: float
    at_once_max: int


class Acceptor:
    """The accept loop of one worker for one port."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        gate: Gate,
        protocol: Callable[[], asyncio.BaseProtocol],
        counts: Counts,
        tls: "Handshakes | None" = None,
    ) -> None:
        """protocol: makes one for each connection, which it adds to the gate's.
        tls: None for plain text.
        """
        listener.setblocking(False)
        self._loop, self._listener, self._gate, self._counts = loop, listener, gate, counts
        self._protocol, self._tls = protocol, tls
        self._running = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._running = True
        self._gate.counted = self._counts.set
        self._listen()

    def stop(self) -> None:
        """Accept no more; what waits in the backlog is the other workers'."""
        if self._running:
            self._running = False
            self._loop.remove_reader(self._listener.fileno())
        if self._timer is not None:
            self._timer.cancel()

    async def settled(self) -> None:
        """Wait until what was accepted last has its protocol, or is closed."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=SETTLE_S)
            for task in late:  # whoever is still not through with a handshake
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _listen(self) -> None:
        self._timer = None
        if self._running:
            self._loop.add_reader(self._listener.fileno(), self._readable)

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._timer = self._loop.call_later(seconds, then)

    def _readable(self) -> None:
        count = len(self._gate.connections)
        if self._counts.above_mean(count):
            self._pause(HEAD_START_S, self._resume)
        else:
            self._accept()

    def _resume(self) -> None:
        self._listen()
        if self._running:
            self._accept()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            self._pause(RETRY_S, self._listen)
            return
        connection.setblocking(False)
        if self._tls is not None and len(self._tasks) >= self._tls.at_once_max:
            connection.close()
            return
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._protocol, connection)
            else:
                await self._loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=self._tls.context(),
                    ssl_handshake_timeout=self._tls.seconds,
                )
        except (OSError, asyncio.CancelledError):
            connection.close()
