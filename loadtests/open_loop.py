"""An open loop of HTTP requests over raw sockets, with latency from when each was due.

Requests are bytes made beforehand, so one core sends tens of thousands a second. A
request that has to wait for a free connection counts from its due time, so nothing
is hidden. What the generator itself was late by is kept beside: beyond a
millisecond at the 99th percentile it has measured itself.
"""

import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.arrivals import Times

CONNECTIONS = 64
PATIENCE_S = 5.0  # for the last replies
LATE_S_MAX = 0.001  # at the 99th percentile; beyond, a run is void
_RECEIVE_BYTES = 1 << 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """answers: a reply is right if its body has every part of one of them; () takes any."""

    data: bytes
    answers: tuple[tuple[bytes, ...], ...] = ()

    def is_right(self, body: bytes) -> bool:
        if not self.answers:
            return True
        return any(all(part in body for part in parts) for parts in self.answers)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Of n requests, in the order in which they were due."""

    due_s: Times  # (n,)
    latency_s: Times  # (n,) from due to the end of the reply; NaN: none came
    status: NDArray[np.int16]  # (n,) of the reply; 0: none came
    right: NDArray[np.bool_]  # (n,) 200, and the answer that was expected
    late_s: Times  # (n,) how long after it was due, with a connection free, it was sent

    @property
    def late_p99_s(self) -> float:
        return float(np.quantile(self.late_s, 0.99)) if self.late_s.size else 0.0

    @property
    def failed(self) -> int:
        return int(np.count_nonzero(~self.right))

    @property
    def p99_ms(self) -> float:
        """Of all requests; one without a reply took for ever."""
        return 1e3 * float(
            np.quantile(np.nan_to_num(self.latency_s, nan=np.inf), 0.99, method="higher")
        )


class _Connection:
    __slots__ = ("index", "received", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.received = b""
        self.index = -1  # of the request under way


class _Loop:
    """Mutable; one run."""

    def __init__(self, port: int, requests: Sequence[Request], due_s: Times, which: Sequence[int]):
        self._port, self._requests, self._which = port, requests, which
        self._due: list[float] = due_s.tolist()
        count = len(self._due)
        self.latency_s = np.full(count, np.nan)
        self.status = np.zeros(count, np.int16)
        self.right = np.zeros(count, np.bool_)
        self.late_s = np.zeros(count)
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._next = self._busy = 0
        self._began = self._freed = 0.0

    def run(self, connections: int) -> None:
        try:
            for _ in range(connections):
                self._connect()
            self._began = time.perf_counter()
            self._send_all()
            self._await_last()
        finally:
            for connection in self._by_fd.values():
                connection.sock.close()
            self._epoll.close()

    def _connect(self) -> None:
        connection = _Connection(self._port)
        self._by_fd[connection.sock.fileno()] = connection
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _now(self) -> float:
        return time.perf_counter() - self._began

    def _send_all(self) -> None:
        due, count = self._due, len(self._due)
        while self._next < count:
            now = self._now()
            while self._next < count and due[self._next] <= now and self._idle:
                self._send(now)
                now = self._now()
            if self._next < count:
                left = due[self._next] - now
                # With no connection free, a reply is what the next request waits for.
                self._receive(left if self._idle else PATIENCE_S)
                if not self._idle and self._now() - now >= PATIENCE_S:
                    return  # nothing moves any more

    def _await_last(self) -> None:
        end = time.perf_counter() + PATIENCE_S
        while self._busy and (left := end - time.perf_counter()) > 0:
            self._receive(left)

    def _send(self, now: float) -> None:
        connection, index = self._idle.popleft(), self._next
        self._next += 1
        self.late_s[index] = now - max(self._due[index], self._freed)
        connection.index = index
        self._busy += 1
        data = self._requests[self._which[index]].data
        try:
            sent = connection.sock.send(data)
            while sent < len(data):  # a full socket: rare, and then the wait is measured
                select.select([], [connection.sock], [], PATIENCE_S)
                sent += connection.sock.send(data[sent:])
        except OSError:
            self._lost(connection)

    def _receive(self, seconds: float) -> None:
        """Take what comes within `seconds`, at least what is there."""
        # epoll's own time-out has whole milliseconds; select() takes microseconds.
        if seconds > 0:
            select.select([self._epoll], [], [], seconds)
        free = bool(self._idle)
        for fd, _ in self._epoll.poll(0):
            self._read(self._by_fd[fd])
        if not free:
            self._freed = self._now()

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(connection)
            return
        received = connection.received + data if connection.received else data
        end = received.find(b"\r\n\r\n")
        length = _LENGTH.search(received, 0, end) if end >= 0 else None
        if length is None or len(received) < end + 4 + int(length[1]):
            connection.received = received
            return
        index = connection.index
        connection.received, connection.index = b"", -1
        self.latency_s[index] = self._now() - self._due[index]
        self.status[index] = status = int(received[9:12])
        request = self._requests[self._which[index]]
        self.right[index] = status == 200 and request.is_right(received[end + 4 :])
        self._busy -= 1
        self._idle.append(connection)

    def _lost(self, connection: _Connection) -> None:
        """The server ended it; its request stays without a reply, the next gets a new one."""
        fd = connection.sock.fileno()
        self._epoll.unregister(fd)
        del self._by_fd[fd]
        connection.sock.close()
        if connection.index >= 0:
            self._busy -= 1
        elif connection in self._idle:
            self._idle.remove(connection)
        try:
            self._connect()
        except OSError:
            if not self._by_fd:
                raise


def drive(
    port: int,
    requests: Sequence[Request],
    due_s: Times,
    which: Sequence[int] | None = None,
    connections: int = CONNECTIONS,
) -> Outcome:
    """Send `requests[which[i]]` at `due_s[i]`; without `which` the first, again and again.

    Raises: OSError when the server takes no connection.
    """
    chosen = which if which is not None else [0] * len(due_s)
    loop = _Loop(port, requests, due_s, chosen)
    with _on_time():
        loop.run(connections)
    return Outcome(due_s, loop.latency_s, loop.status, loop.right, loop.late_s)


@contextmanager
def _on_time() -> Iterator[None]:
    """The calling thread before all others of its core, as if it had a machine of its own.

    A generator that waits behind the server counts its own lateness as the server's.
    Without the privilege it competes like any other, and `late_s` tells.
    """
    before, settings = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, settings)


def http_request(model: str, body: bytes) -> bytes:
    """The whole request for a prediction."""
    return (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
