"""gRPC on the data port: handlers from request bytes to reply bytes, on grpc.aio.

The engine knows no message of ours, so another one can host the same handlers.
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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

from protos import health_pb2
from protos import inference_pb2 as pb
from serving.core.errors import DeadlineExceeded, GrpcStatus, ServeError, UnknownModel, shown
from serving.core.grpc_codec import GrpcRequest, message_cost, parse
from serving.core.json_codec_reply import BatchOutputs
from serving.core.model_config import config_message
from serving.settings import LimitSettings
from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.metadata import Metadata
from serving.worker.task import Task

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
MESSAGE_OVERHEAD_BYTES = 64 * 1024  # names, shapes and parameters beside the tensors
STREAMS_MAX = 100  # calls of one connection at a time; bounds what a reset flood costs
METADATA_BYTES = (8 * 1024, 16 * 1024)  # soft and hard limit
RETRY_PUSHBACK_MS = "1000"
WATCH_S = 0.2  # how often a health watch looks

# Answered by the supervisor, for all workers together.
RELAYED = (
    *("ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    *("TraceSetting", "LogSettings"),
    *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
    *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = Any  # grpc.aio.ServicerContext, which is generic over message types we do not use
Unary = Callable[[bytes, Context], Awaitable[bytes]]
Stream = Callable[[bytes, Context], AsyncIterator[bytes]]

log = logging.getLogger("driftgate.serving")


class Call:
    """One infer call: the data plane's waiter, and an awaitable for the handler."""

    __slots__ = ("_context", "_future")
    protocol = "grpc"

    def __init__(self, future: "asyncio.Future[bytes]", context: Context) -> None:
        self._future, self._context = future, context

    def routing_key(self) -> str:
        for name, value in self._context.invocation_metadata() or ():
            if name == "x-routing-key":
                return value if isinstance(value, str) else str(value)
        return ""

    def succeed(self, task: Task, outputs: BatchOutputs, start: int, stop: int) -> None:
        reply = task.version.grpc.encode(
            outputs, start, stop, task.envelope, task.wanted, task.prediction_id
        )
        if not self._future.done():
            self._future.set_result(reply)

    def fail(self, error: ServeError) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class Handlers:
    """The methods of both services, from bytes to bytes."""

    def __init__(self, plane: DataPlane, metadata: Metadata, desk: Desk) -> None:
        self._plane, self._metadata, self._desk = plane, metadata, desk

    async def infer(self, data: bytes, context: Context) -> bytes:
        """ModelInfer. Raises: ServeError."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        task = self._submit(data, Call(future, context), context.time_remaining())
        try:
            return await future
        except asyncio.CancelledError:
            task.version.cancel(task)
            raise

    def _submit(self, data: bytes, call: Call, left_s: float | None) -> Task:
        """Parse and queue. The message is let go of here: it may be many times its bytes."""
        plane = self._plane
        model = ""
        try:
            request = GrpcRequest(data)
            model = request.model
            if left_s is not None and left_s <= 0:
                raise DeadlineExceeded("the deadline of the call has passed")
        except ServeError as error:
            plane.count_refused(model, call.protocol, error)
            raise
        return plane.infer(
            lambda: request,
            model,
            request.version,
            int(left_s * 1e9) if left_s is not None and left_s < 1e9 else 0,
            message_cost(len(data), request.raw_bytes, plane.limits.body_bytes_max),
            call,
        )

    async def server_live(self, data: bytes, _: Context) -> bytes:
        parse(pb.ServerLiveRequest, data)
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, data: bytes, _: Context) -> bytes:
        parse(pb.ServerReadyRequest, data)
        return pb.ServerReadyResponse(ready=self._metadata.ready()).SerializeToString()

    async def model_ready(self, data: bytes, _: Context) -> bytes:
        request = parse(pb.ModelReadyRequest, data)
        try:
            self._metadata.model(request.name, request.version)
        except UnknownModel:  # clients that wait for a model ask until it is true
            return pb.ModelReadyResponse(ready=False).SerializeToString()
        return pb.ModelReadyResponse(ready=True).SerializeToString()

    async def server_metadata(self, data: bytes, _: Context) -> bytes:
        parse(pb.ServerMetadataRequest, data)
        return pb.ServerMetadataResponse(**self._metadata.server()).SerializeToString()

    async def model_metadata(self, data: bytes, _: Context) -> bytes:
        request = parse(pb.ModelMetadataRequest, data)
        described = self._metadata.model(request.name, request.version)
        return pb.ModelMetadataResponse(**described).SerializeToString()

    async def model_config(self, data: bytes, _: Context) -> bytes:
        request = parse(pb.ModelConfigRequest, data)
        document = self._metadata.config(request.name, request.version)
        return pb.ModelConfigResponse(config=config_message(document)).SerializeToString()

    def relayed(self, method: str) -> Unary:
        """The handler of a method that the supervisor answers."""
        request_type = getattr(pb, f"{method}Request")

        async def relay(data: bytes, _: Context) -> bytes:
            parse(request_type, data)
            return await self._desk.ask(method, data, json=False)

        return relay

    async def health_check(self, data: bytes, _: Context) -> bytes:
        request = parse(health_pb2.HealthCheckRequest, data)
        status = self._health(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            raise UnknownModel(f"unknown service '{shown(request.service)}'")
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def health_watch(self, data: bytes, _: Context) -> AsyncIterator[bytes]:
        """The status now, and again whenever it changes."""
        request = parse(health_pb2.HealthCheckRequest, data)
        last = None
        while True:
            draining = self._plane.draining  # before the status: it must be told first
            status = self._health(request.service)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status).SerializeToString()
            if draining:
                return  # an endless call would hold up the drain
            await asyncio.sleep(WATCH_S)

    def _health(self, service: str) -> Any:
        statuses = health_pb2.HealthCheckResponse
        if service in {"", INFERENCE}:
            ready = self._metadata.ready()
        elif service in self._plane.table.routes:
            ready = not self._plane.draining
        else:
            return statuses.SERVICE_UNKNOWN
        return statuses.SERVING if ready else statuses.NOT_SERVING


def _guard(handler: Unary) -> Unary:
    async def guarded(data: bytes, context: Context) -> bytes:
        try:
            return await handler(data, context)
        except Exception as error:
            await _abort(context, error)
            raise AssertionError("abort raises") from error

    return guarded


def _guard_stream(handler: Stream) -> Stream:
    async def guarded(data: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for reply in handler(data, context):
                yield reply
        except Exception as error:
            await _abort(context, error)

    return guarded


async def _abort(context: Context, error: Exception) -> None:
    """The one place where errors become statuses; the engine's own would name our classes."""
    if not isinstance(error, ServeError):
        log.error("a call failed", exc_info=error)
        error = ServeError("internal error")
    if error.grpc_status is GrpcStatus.UNAVAILABLE:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", RETRY_PUSHBACK_MS),))
    await context.abort(_CODES[int(error.grpc_status)], error.message)


class GrpcServer:
    """The engine: options, services, start and stop."""

    def __init__(
        self, plane: DataPlane, metadata: Metadata, desk: Desk, limits: LimitSettings
    ) -> None:
        self._handlers = Handlers(plane, metadata, desk)
        self._plane = plane
        self._options = _options(limits)
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen beside the other workers. Raises: RuntimeError if the port is not free."""
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers(self._services())
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        server.add_insecure_port(address)
        await server.start()
        self._server = server

    def _services(self) -> Sequence[grpc.GenericRpcHandler]:
        handlers = self._handlers
        unary = {
            "ModelInfer": handlers.infer,
            "ServerLive": handlers.server_live,
            "ServerReady": handlers.server_ready,
            "ModelReady": handlers.model_ready,
            "ServerMetadata": handlers.server_metadata,
            "ModelMetadata": handlers.model_metadata,
            "ModelConfig": handlers.model_config,
            **{method: handlers.relayed(method) for method in RELAYED},
        }
        methods = {
            name: grpc.unary_unary_rpc_method_handler(_guard(handler))
            for name, handler in unary.items()
        }
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(_guard(handlers.health_check)),
            "Watch": grpc.unary_stream_rpc_method_handler(_guard_stream(handlers.health_watch)),
        }
        return (
            grpc.method_handlers_generic_handler(INFERENCE, methods),
            grpc.method_handlers_generic_handler(HEALTH, health),
        )

    async def stop(self, grace_s: float) -> None:
        """GOAWAY, and wait for the calls in flight."""
        if self._server is not None:
            await self._server.stop(grace_s)


def _options(limits: LimitSettings) -> list[tuple[str, int]]:
    message_bytes = limits.body_bytes_max + MESSAGE_OVERHEAD_BYTES
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES[0]),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES[1]),
    ]
