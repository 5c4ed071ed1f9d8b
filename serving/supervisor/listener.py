"""An HTTP server for the small ports (admin, metrics) inside the supervisor's loop."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTIONS_MAX = 64  # operators, a monitor, a scraper
HEAD_S_MAX = 5.0  # for a request's head; the library itself would wait for ever
HEAD_BYTES_MAX = 16 * 1024  # nor does it bound the head


class _Server(uvicorn.Server):  # type: ignore[misc]  # untyped
    """Leaves signals alone: the supervisor decides when to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Protocol(HttpToolsProtocol):  # type: ignore[misc]  # untyped
    """Hangs up on who does not send a whole head in time, or sends too long a one."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_bytes = 0
        self._late: Any = None
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._late is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and b"\r\n\r\n" not in data[:HEAD_BYTES_MAX]:
                self.transport.close()
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._late = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None


async def serve_http(app: Any, sock: socket.socket) -> None:
    """Serve `app` on a listening socket until cancelled; the socket stays open."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=5,
        limit_concurrency=CONNECTIONS_MAX,
    )
    server = _Server(config)
    with sock.dup() as own:
        try:
            await server.serve(sockets=[own])
        finally:
            for listening in getattr(server, "servers", ()):
                listening.close()
            for connection in list(server.server_state.connections):
                connection.transport.abort()
