"""gRPC on the data port through libnghttp2: start, stop, and the table of methods.

In the event loop and the batches of HTTP, so calls that come together are answered
together. The listener is the supervisor's, shared by all workers.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial

from serving.nghttp2 import load
from serving.settings import CompressionSettings
from serving.worker.accept import Acceptor, Counts, Handshakes
from serving.worker.dataplane import DataPlane
from serving.worker.grpc_call import METADATA_BYTES, Method, Service
from serving.worker.grpc_hosted import HostedServices
from serving.worker.http2.binding import Binding
from serving.worker.http2.connection import Connection
from serving.worker.http2.gate import Http2Gate
from serving.worker.reply_packer import ReplyPacker

REPLY_BYTES_MIN = 256  # shorter ones hardly shrink


class Http2Server:
    """The engine."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plane: DataPlane,
        hosted: HostedServices,
        compression: CompressionSettings,
        library: str,
        listener: socket.socket,
        counts: Counts,
        tls: Handshakes | None,
    ) -> None:
        """library: the path of libnghttp2. Raises: LibraryError."""
        self._loop, self._hosted, self._plane = loop, hosted, plane
        self._gate = Http2Gate(
            loop,
            plane,
            Binding(load(library), METADATA_BYTES[1], plane.tenant_header),
            dict(_methods(hosted.services)),
            ReplyPacker(loop, REPLY_BYTES_MIN if compression.grpc_replies else 0),
            packs_replies=compression.grpc_replies,
        )
        protocol = partial(Connection, self._gate)
        self._acceptor = Acceptor(loop, listener, self._gate, protocol, counts, tls)

    async def start(self) -> None:
        """Begin to accept connections."""
        self._gate.start()
        self._acceptor.start()

    async def stop(self, grace_s: float) -> None:
        """Send every client elsewhere, and wait for the calls in flight."""
        self._acceptor.stop()
        self._hosted.drain()
        await self._acceptor.settled()
        self._gate.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._gate.emptied.wait()
        self._gate.stop()


def _methods(services: list[Service]) -> Iterator[tuple[bytes, Method]]:
    for service in services:
        for name in (*service.unary, *service.begins, *service.streams):
            path = f"/{service.name}/{name}".encode()
            yield path, (
                service.begins.get(name), service.unary.get(name), service.streams.get(name)
            )  # fmt: skip
