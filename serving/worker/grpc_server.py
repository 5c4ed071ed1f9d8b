"""gRPC on the data port: grpc.aio as the engine of the handlers.

It knows no message of ours, so another one can host the same handlers.
Measured beside a threaded server that hands over to the loop (256 us against 267
of CPU per empty call): the same price, but a thread per call in flight, and
those of a slow model would be many.

The engine takes in one new call per turn between its poller and the loop, so a
batch holds 1.1 calls on average even at 32 in flight, and what a batch costs
(about 95 us) every call costs. Holding them together for 1 and 3 ms would take
400 us per call down to 300 and 248; a call that is alone would wait as long, so
none is held.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, NoReturn

import grpc

from serving.core.errors import DeadlineExceeded, GrpcStatus, ServeError
from serving.settings import CompressionSettings
from serving.tls import Certificates
from serving.worker.dataplane import DataPlane
from serving.worker.grpc_call import (
    METADATA_BYTES,
    RETRY_PUSHBACK_MS,
    STREAMS_MAX,
    Begin,
    Call,
    Service,
    Stream,
    Unary,
)
from serving.worker.grpc_hosted import HostedServices

# Lets the core choose among the codings that the client takes; a fixed one would
# be sent to clients that do not.
COMPRESSION_LEVEL = 1

log = logging.getLogger("driftgate.serving")

_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = Any  # grpc.aio.ServicerContext, which is generic over message types we do not use


class _Call:
    """A call as the handlers see it."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def metadata(self, name: str) -> str:
        for key, value in self._context.invocation_metadata() or ():
            if key == name:
                return value if isinstance(value, str) else str(value)
        return ""

    def left_ns(self) -> int:
        left_s = self._context.time_remaining()
        if left_s is None or left_s >= 1e9:
            return 0
        if left_s <= 0:
            raise DeadlineExceeded("the deadline of the call has passed")
        return int(left_s * 1e9)


class _Awaited:
    """The outcome of a call, as a future."""

    __slots__ = ("_future",)

    def __init__(self, future: "asyncio.Future[bytes]") -> None:
        self._future = future

    def succeed(self, reply: bytes) -> None:
        if not self._future.done():
            self._future.set_result(reply)

    def fail(self, error: ServeError) -> None:
        if not self._future.done():
            self._future.set_exception(error)


def awaited(begin: Begin) -> Unary:
    async def handler(data: bytes, call: Call) -> bytes:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        withdraw = begin(data, call, _Awaited(future))
        try:
            return await future
        except asyncio.CancelledError:
            withdraw()
            raise

    return handler


def _unary(handler: Unary) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def hosted(data: bytes, context: Context) -> bytes:
        try:
            return await handler(data, _Call(context))
        except Exception as error:
            await _abort(context, error)

    return hosted


def _stream(handler: Stream) -> Callable[[AsyncIterator[bytes], Context], Awaitable[None]]:
    async def hosted(requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            async with aclosing(handler(requests, _Call(context))) as replies:
                async for reply in replies:
                    await context.write(reply)
        except Exception as error:
            await _abort(context, error)

    return hosted


async def _abort(context: Context, error: Exception) -> NoReturn:
    """The one place where errors become statuses; the engine's own would name our classes."""
    if not isinstance(error, ServeError):
        log.error("a call failed", exc_info=error)
        error = ServeError("internal error")
    if error.grpc_status is GrpcStatus.UNAVAILABLE:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", RETRY_PUSHBACK_MS),))
    await context.abort(_CODES[int(error.grpc_status)], error.message)
    raise AssertionError("abort raises") from error


class GrpcServer:
    """The engine: options, services, start and stop."""

    def __init__(
        self,
        plane: DataPlane,
        hosted: HostedServices,
        compression: CompressionSettings,
        host: str,
        port: int,
        certificates: Certificates | None,
    ) -> None:
        """certificates: None for plain text."""
        self._hosted, self._certificates = hosted, certificates
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._options = _options(plane.message_bytes_max, compression)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen beside the other workers. Raises: RuntimeError if the port is not free."""
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers([_hosted(service) for service in self._hosted.services])
        if self._certificates is None:
            server.add_insecure_port(self._address)
        else:
            server.add_secure_port(self._address, _credentials(self._certificates))
        await server.start()
        self._server = server

    async def stop(self, grace_s: float) -> None:
        """GOAWAY, and wait for the calls in flight; streams end when they are idle."""
        self._hosted.drain()
        if self._server is not None:
            await self._server.stop(grace_s)


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Asked for anew at each handshake, so that replaced files count."""
    _, _, authority = certificates.files

    def current() -> grpc.ServerCertificateConfiguration:
        certificate, key, authority = certificates.files
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority or None)

    return grpc.dynamic_ssl_server_credentials(
        current(), current, require_client_authentication=bool(authority)
    )


def _hosted(service: Service) -> grpc.GenericRpcHandler:
    methods: Mapping[str, Any] = {
        **{
            name: grpc.unary_unary_rpc_method_handler(_unary(handler))
            for name, handler in service.unary.items()
        },
        **{
            name: grpc.unary_unary_rpc_method_handler(_unary(awaited(begin)))
            for name, begin in service.begins.items()
        },
        **{
            name: grpc.stream_stream_rpc_method_handler(_stream(handler))
            for name, handler in service.streams.items()
        },
    }
    return grpc.method_handlers_generic_handler(service.name, methods)


def _options(message_bytes: int, compression: CompressionSettings) -> list[tuple[str, int]]:
    options = [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES[0]),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES[1]),
    ]
    if compression.grpc_replies:
        options.append(("grpc.default_compression_level", COMPRESSION_LEVEL))
    return options
