"""One request again and again at a steady rate, with latency from when it was due.

Open loop: a slow reply does not hold the next request back, and a request that
had to wait for a free connection counts from its due time, so nothing is hidden.
"""

import asyncio
import re
import selectors
import time
from collections import deque
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
CONNECTIONS = 64


@dataclass
class Paced:
    """Seconds of every answered request; late_s: how late the generator itself was."""

    latency_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    failed: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, idle: "deque[_Connection]", paced: Paced) -> None:
        self._idle, self._paced = idle, paced
        self._due = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._idle.append(self)

    def ask(self, request: bytes, due: float) -> None:
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        if head.startswith(b"HTTP/1.1 200"):
            self._paced.latency_s.append(time.monotonic() - self._due)
        else:
            self._paced.failed += 1
        self._idle.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        else:
            self._paced.failed += 1


def pace(port: int, request: bytes, per_s: float, seconds: float) -> Paced:
    """Send `request` for `seconds`; waits for the last replies, 5 s at most."""
    # epoll would round every sleep up to whole milliseconds, which is the time between
    # two requests; select() takes microseconds.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        return runner.run(_pace(port, request, per_s, seconds))


async def _pace(port: int, request: bytes, per_s: float, seconds: float) -> Paced:
    loop = asyncio.get_running_loop()
    paced = Paced()
    idle: deque[_Connection] = deque()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: _Connection(idle, paced), "127.0.0.1", port)
    made = list(idle)
    due, end, sent = time.monotonic(), time.monotonic() + seconds, 0
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        while not idle:  # noqa: ASYNC110 - rare, and then the wait is what is measured
            await asyncio.sleep(0.0002)
        paced.late_s.append(time.monotonic() - due)
        idle.popleft().ask(request, due)
        sent += 1
        due += 1 / per_s
    patience = time.monotonic() + 5
    while len(paced.latency_s) + paced.failed < sent:
        if time.monotonic() > patience:
            break
        await asyncio.sleep(0.01)
    paced.failed = sent - len(paced.latency_s)
    for connection in made:
        connection.transport.abort()
    return paced


def http_request(model: str, body: bytes) -> bytes:
    """The whole request for a prediction."""
    return (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
