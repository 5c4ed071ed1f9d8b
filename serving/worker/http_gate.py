"""What all HTTP connections of a worker share, and the sweep over their deadlines."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.core.known_heads import KnownHeads
from serving.core.pace import Pace
from serving.core.request_head import infer_target
from serving.worker.dataplane import DataPlane
from serving.worker.reply_packer import ReplyPacker
from serving.worker.shedding import Shedding

SWEEP_S = 0.25  # how late a deadline may be noticed
TARGETS_MAX = 256  # infer paths whose parsing is kept


class Connection(Protocol):
    """A connection as the gate sees it."""

    pace: Pace

    def overdue(self) -> None: ...
    def last_reply(self) -> None: ...
    def close_if_idle(self) -> None: ...


class HttpGate:
    """The connections, their number, and what they have in common."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, plane: DataPlane, app: Any, packer: ReplyPacker
    ) -> None:
        self.loop, self.plane, self.limits, self.packer = loop, plane, plane.limits, packer
        self.connections: set[Connection] = set()
        self.counted: Callable[[int], None] = lambda _: None  # told the number of connections
        self.tenant_header = plane.tenant_header.encode()
        self.heads = KnownHeads(self.tenant_header)
        self.shedding = Shedding(loop, plane)
        self.config = Config(
            app, ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, date_header=False, proxy_headers=False,
        )  # fmt: skip
        self.config.load()
        self.state = ServerState()
        self._targets: dict[bytes, tuple[str, str] | None] = {}
        self._gauge = plane.metrics.connections_of("http")
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look after deadlines."""
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.packer.close()

    def target(self, url: bytes) -> tuple[str, str] | None:
        """`infer_target`, remembered."""
        targets = self._targets
        if url in targets:
            return targets[url]
        if len(targets) >= TARGETS_MAX:
            targets.clear()
        found = targets[url] = infer_target(url)
        return found

    def count(self) -> None:
        """A connection came or went."""
        count = len(self.connections)
        self._gauge.set(count)
        self.counted(count)

    def last_replies(self) -> None:
        """From now on every reply ends its connection (the first step of a drain)."""
        self.plane.draining = True
        for connection in self.connections:
            connection.last_reply()

    def close_idle(self) -> None:
        """Close connections on which nothing has begun."""
        for connection in list(self.connections):
            connection.close_if_idle()

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [c for c in self.connections if c.pace.deadline <= now]:
            connection.overdue()
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
