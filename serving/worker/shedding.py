"""Refusals over HTTP of requests that have no chance of being answered in time.

Under a flood a refusal must cost next to nothing, or there is nothing left for the
predictions that can be made. So it is decided before the body is parsed, its reply is
made once, and replies are written together: each write by itself may wake a client
that has gone to sleep since the last one, which costs more than everything else here.
"""

import asyncio
from collections import Counter
from functools import lru_cache
from typing import Protocol

from serving.core.errors import Overloaded, ServeError
from serving.core.known_heads import KnownHead
from serving.core.request_http import peek_timeout_us
from serving.worker.dataplane import DataPlane, check_timeout_ms
from serving.worker.http_infer import Exchange, error_reply

TOGETHER_MAX = 128  # replies; bounds how long the first of them waits
# Where a turn of the loop refuses fewer, the next one can wait a little and refuse more:
# each turn takes the core, and its caches, from the runs.
FEW = 8


class Refusable(Protocol):
    """A connection whose request is refused."""

    def refused(self, reply: bytes) -> None: ...


class Shedding:
    """Of one worker; lives on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plane: DataPlane) -> None:
        self._loop, self._plane = loop, plane
        self._due: list[tuple[Refusable, str]] = []  # connections, and the models they asked

    def sheds(self, connection: Refusable, known: KnownHead, data: bytes, end: int) -> bool:
        """Whether the request in `data` is refused; `connection.refused` follows.

        end: where its head ends and its body, which is complete, begins.
        """
        head, plane = known.head, self._plane
        if plane.draining:
            return False
        try:
            timeout_ns = check_timeout_ms(head.timeout_ms) if head.timeout_ms else 0
        except ServeError:
            return False
        own_ns = 0 if head.content_encoding else 1000 * peek_timeout_us(data, end)
        model, version = known.target
        if not plane.is_hopeless(model, version, timeout_ns, own_ns, head.tenant):
            return False
        due = self._due
        if not due:
            self._loop.call_soon(self._refuse)
        due.append((connection, model))
        if len(due) >= TOGETHER_MAX:
            self._refuse()
        return True

    def _refuse(self) -> None:
        """Write what is due."""
        due, self._due = self._due, []
        for connection, model in due:
            connection.refused(_reply(model))
        for model, count in Counter([model for _, model in due]).items():
            self._plane.metrics.refused(
                model, Exchange.protocol, Overloaded.http_status, Overloaded.reason, count
            )
        if len(due) < FEW:
            self._plane.leave_core()


@lru_cache(maxsize=256)
def _reply(model: str) -> bytes:
    message = f"too many requests wait for model '{model}' to answer one more in time"
    return error_reply(Overloaded.http_status, message, keep_alive=True)
