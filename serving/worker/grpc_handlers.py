"""The unary methods of the services, and the health watch, from bytes to bytes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any

from protos import health_pb2
from protos import inference_pb2 as pb
from serving.core.errors import ServeError, UnknownModel, shown
from serving.core.grpc_codec import parse
from serving.core.json_codec_reply import BatchOutputs
from serving.core.model_config import config_message
from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.grpc_call import ROUTING_KEY, Call, Reply, Service, Unary
from serving.worker.grpc_stream import InferStreams
from serving.worker.grpc_submit import parse_request, submit, trace_of
from serving.worker.metadata import Metadata
from serving.worker.task import Task

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
# Answered by the supervisor, for all workers together.
RELAYED = (
    *("ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    *("TraceSetting", "LogSettings"),
    *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
    *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
)
WATCH_S = 0.2  # how often a health watch looks


class Answer:
    """The data plane's waiter for one infer call."""

    __slots__ = ("_call", "_reply", "trace")
    protocol = "grpc"

    def __init__(self, call: Call, reply: Reply) -> None:
        self._call, self._reply = call, reply
        self.trace = trace_of(call)

    def routing_key(self) -> str:
        return self._call.metadata(ROUTING_KEY)

    def tenant(self, header: str) -> str:
        return self._call.metadata(header)

    def succeed(self, task: Task, outputs: BatchOutputs, start: int, stop: int) -> None:
        self._reply.succeed(
            task.version.grpc.encode(
                outputs, start, stop, task.envelope, task.wanted, task.prediction_id
            )
        )

    def fail(self, error: ServeError) -> None:
        self._reply.fail(error)


class Handlers:
    """The methods of both services."""

    def __init__(self, plane: DataPlane, metadata: Metadata, desk: Desk) -> None:
        self._plane, self._metadata, self._desk = plane, metadata, desk

    def infer(self, data: bytes, call: Call, reply: Reply) -> Callable[[], None]:
        """ModelInfer. Raises: ServeError."""
        # The message is not held while the call waits: it may be many times its bytes.
        request = parse_request(self._plane, data)
        task = submit(self._plane, request, len(data), call, Answer(call, reply))
        return partial(task.version.cancel, task)

    async def server_live(self, data: bytes, _: Call) -> bytes:
        parse(pb.ServerLiveRequest, data)
        return pb.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, data: bytes, _: Call) -> bytes:
        parse(pb.ServerReadyRequest, data)
        return pb.ServerReadyResponse(ready=self._metadata.ready()).SerializeToString()

    async def model_ready(self, data: bytes, _: Call) -> bytes:
        request = parse(pb.ModelReadyRequest, data)
        try:
            self._metadata.model(request.name, request.version)
        except UnknownModel:  # clients that wait for a model ask until it is true
            return pb.ModelReadyResponse(ready=False).SerializeToString()
        return pb.ModelReadyResponse(ready=True).SerializeToString()

    async def server_metadata(self, data: bytes, _: Call) -> bytes:
        parse(pb.ServerMetadataRequest, data)
        return pb.ServerMetadataResponse(**self._metadata.server()).SerializeToString()

    async def model_metadata(self, data: bytes, _: Call) -> bytes:
        request = parse(pb.ModelMetadataRequest, data)
        described = self._metadata.model(request.name, request.version)
        return pb.ModelMetadataResponse(**described).SerializeToString()

    async def model_config(self, data: bytes, _: Call) -> bytes:
        request = parse(pb.ModelConfigRequest, data)
        document = self._metadata.config(request.name, request.version)
        return pb.ModelConfigResponse(config=config_message(document)).SerializeToString()

    def relayed(self, method: str) -> Unary:
        """The handler of a method that the supervisor answers."""
        request_type = getattr(pb, f"{method}Request")

        async def relay(data: bytes, _: Call) -> bytes:
            parse(request_type, data)
            return await self._desk.ask(method, data, json=False)

        return relay

    async def health_check(self, data: bytes, _: Call) -> bytes:
        request = parse(health_pb2.HealthCheckRequest, data)
        status = self._health(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            raise UnknownModel(f"unknown service '{shown(request.service)}'")
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def health_watch(
        self, requests: AsyncIterator[bytes], _: Call
    ) -> AsyncGenerator[bytes, None]:
        """The status now, and again whenever it changes."""
        request = parse(health_pb2.HealthCheckRequest, await anext(requests, b""))
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


def services(handlers: Handlers, streams: InferStreams) -> list[Service]:
    """What an engine hosts for predictions and health."""
    inference = Service(
        INFERENCE,
        unary={
            "ServerLive": handlers.server_live,
            "ServerReady": handlers.server_ready,
            "ModelReady": handlers.model_ready,
            "ServerMetadata": handlers.server_metadata,
            "ModelMetadata": handlers.model_metadata,
            "ModelConfig": handlers.model_config,
            **{method: handlers.relayed(method) for method in RELAYED},
        },
        begins={"ModelInfer": handlers.infer},
        streams={"ModelStreamInfer": streams.infer},
    )
    health = Service(
        HEALTH,
        unary={"Check": handlers.health_check},
        streams={"Watch": handlers.health_watch},
    )
    return [inference, health]
