"""All services that a worker's gRPC engine hosts, whichever engine it is."""

from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.grpc_call import Service
from serving.worker.grpc_handlers import Handlers, services
from serving.worker.grpc_reflection import ReflectionHandlers
from serving.worker.grpc_stream import InferStreams
from serving.worker.metadata import Metadata


class HostedServices:
    """One per worker."""

    def __init__(self, plane: DataPlane, metadata: Metadata, desk: Desk) -> None:
        self._streams = InferStreams(plane)
        self._reflection = ReflectionHandlers()
        self.services: list[Service] = [
            *services(Handlers(plane, metadata, desk), self._streams),
            *self._reflection.services(),
        ]

    def drain(self) -> None:
        """Streams end when they are idle."""
        self._streams.drain()
        self._reflection.drain()
