"""The reflection services, under both of their names."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from importlib.resources import files

from protos import reflection_pb2 as pb
from serving.core.grpc_codec import parse
from serving.core.reflection import Reflection
from serving.worker.grpc_call import Call, Service
from serving.worker.grpc_stream import until

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
DESCRIPTORS = "services.binpb"


class ReflectionHandlers:
    """One per worker."""

    def __init__(self) -> None:
        self._reflection = Reflection(files("protos").joinpath(DESCRIPTORS).read_bytes())
        self._drained = asyncio.Event()

    def services(self) -> list[Service]:
        return [Service(name, streams={"ServerReflectionInfo": self.info}) for name in SERVICES]

    async def info(self, requests: AsyncIterator[bytes], _: Call) -> AsyncGenerator[bytes, None]:
        """An answer per question, up to the drain. Raises: InvalidRequest."""
        async with aclosing(until(self._drained, requests)) as questions:
            async for data in questions:
                request = parse(pb.ServerReflectionRequest, data)
                yield self._reflection.answer(request).SerializeToString()

    def drain(self) -> None:
        self._drained.set()
