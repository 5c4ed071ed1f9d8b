"""Memory that clients share with the gateway: registered here, opened here, used by workers.

Laws:
- nothing can be registered unless `compat.shared_memory` is on;
- a key names one object in the system's shared memory, never a path out of it, and
  only one that the gateway's user owns or that everybody may use;
- how many regions and bytes there may be is bounded;
- a registration is answered when every worker that serves has it.
"""

import asyncio
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from protos import channel_pb2
from protos import inference_pb2 as pb
from serving.core.errors import (
    GrpcStatus,
    InvalidRequest,
    Overloaded,
    ServeError,
    UnknownModel,
    Unsupported,
    shown,
)
from serving.core.shared_memory import no_region
from serving.supervisor.worker_state import Worker, WorkerState

FOLDER = Path("/dev/shm")  # noqa: S108 - where shm_open keeps its objects on Linux
REGIONS_MAX = 64
REGION_BYTES_MAX = 4 * 1024**3  # of all regions together
NAME_CHARACTERS_MAX = 256
APPLIED_S_MAX = 10.0
_KEY = re.compile(r"/?([A-Za-z0-9_-][A-Za-z0-9_.-]{0,254})")
NO_CUDA = (
    "CUDA shared memory is not supported; send tensors in the request, or system shared memory"
)


@dataclass(frozen=True, slots=True)
class _Registered:
    key: str
    offset: int
    byte_size: int
    descriptor: int


class SharedMemory:
    """Owns the descriptors of what is registered. Lives on the supervisor's loop."""

    def __init__(self, workers: Callable[[], Sequence[Worker]], *, enabled: bool) -> None:
        self._workers, self._enabled = workers, enabled
        self._regions: dict[str, _Registered] = {}
        self._epoch = 0
        self._applied: dict[str, int] = {}  # incarnation -> epoch
        self._news = asyncio.Event()

    def started(self, worker: Worker) -> None:
        """A worker has come: it needs what is registered before it serves."""
        if self._regions:
            self._tell(worker)

    def applied(self, worker: Worker, epoch: int) -> None:
        self._applied[worker.incarnation] = epoch
        self._news.set()

    def gone(self, worker: Worker) -> None:
        self._applied.pop(worker.incarnation, None)
        self._news.set()

    async def register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Raises: Unsupported, InvalidRequest, Overloaded, ServeError (already registered)."""
        if not self._enabled:
            no_region(request.name)
        self._check(request)
        descriptor = _open(request)
        self._regions[request.name] = _Registered(
            request.key, request.offset, request.byte_size, descriptor
        )
        await self._publish()
        return pb.SystemSharedMemoryRegisterResponse()

    def _check(self, request: pb.SystemSharedMemoryRegisterRequest) -> None:
        name = request.name
        if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise InvalidRequest(
                f"a region's name is 1 to {NAME_CHARACTERS_MAX} printable characters, "
                f"got '{shown(name)}'"
            )
        if name in self._regions:
            error = ServeError(f"shared memory region '{shown(name)}' already in manager")
            error.http_status, error.grpc_status = 400, GrpcStatus.ALREADY_EXISTS
            raise error
        if len(self._regions) >= REGIONS_MAX:
            raise Overloaded(f"{REGIONS_MAX} regions are registered, more are not allowed")
        if not request.byte_size:
            raise InvalidRequest(f"the byte size of region '{shown(name)}' must be above 0, got 0")
        held = sum(region.byte_size for region in self._regions.values())
        if held + request.byte_size > REGION_BYTES_MAX:
            raise Overloaded(
                f"{REGION_BYTES_MAX} bytes may be registered, {held} are, "
                f"{request.byte_size} more were asked for"
            )

    async def unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """One region, or all; one that is not there is gone already, as clients expect."""
        names = [request.name] if request.name else list(self._regions)
        found = [self._regions.pop(name) for name in names if name in self._regions]
        for region in found:
            os.close(region.descriptor)
        if found:
            await self._publish()
        return pb.SystemSharedMemoryUnregisterResponse()

    async def status(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """Raises: UnknownModel if the region that is asked for is not registered."""
        if request.name and request.name not in self._regions:
            raise UnknownModel(
                f"Unable to find system shared memory region: '{shown(request.name)}'"
            )
        response = pb.SystemSharedMemoryStatusResponse()
        for name, region in self._regions.items():
            if request.name in ("", name):
                entry = response.regions[name]
                entry.name, entry.key = name, region.key
                entry.offset, entry.byte_size = region.offset, region.byte_size
        return response

    async def _publish(self) -> None:
        """Raises: Overloaded if a worker does not answer."""
        self._epoch += 1
        epoch = self._epoch
        for worker in self._workers():
            if worker.state in {WorkerState.LOADING, WorkerState.SERVING}:
                self._tell(worker)
        try:
            async with asyncio.timeout(APPLIED_S_MAX):
                while self._behind(epoch):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise Overloaded("not every worker has taken the change yet; ask again") from error

    def _behind(self, epoch: int) -> bool:
        return any(
            self._applied.get(worker.incarnation, 0) < epoch
            for worker in self._workers()
            if worker.state is WorkerState.SERVING
        )

    def _tell(self, worker: Worker) -> None:
        table = channel_pb2.SetRegions(
            epoch=self._epoch,
            regions=[
                channel_pb2.Region(name=name, offset=region.offset, byte_size=region.byte_size)
                for name, region in self._regions.items()
            ],
        )
        descriptors = [region.descriptor for region in self._regions.values()]
        worker.tell(channel_pb2.ToWorker(set_regions=table), descriptors)


def _open(request: pb.SystemSharedMemoryRegisterRequest) -> int:
    """The memory object of a registration. Raises: InvalidRequest, which never names a file."""
    match = _KEY.fullmatch(request.key)
    unable = InvalidRequest(f"Unable to open shared memory region: '{shown(request.name)}'")
    if match is None:
        raise unable
    try:
        descriptor = os.open(FOLDER / match[1], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise unable from error
    found = os.fstat(descriptor)
    ours = found.st_uid == os.geteuid()
    everybodys = found.st_mode & 0o006 == 0o006
    if not stat.S_ISREG(found.st_mode) or not (ours or everybodys):
        os.close(descriptor)
        raise unable
    if request.offset + request.byte_size > found.st_size:
        os.close(descriptor)
        raise InvalidRequest(
            f"failed to register shared memory region '{shown(request.name)}': invalid args, "
            f"expected at most {found.st_size} bytes, got {request.offset} + {request.byte_size}"
        )
    return descriptor


class NoCudaMemory:
    """CUDA's twin: there is never anything registered."""

    async def register(
        self, _: pb.CudaSharedMemoryRegisterRequest
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Raises: Unsupported."""
        raise Unsupported(NO_CUDA)

    async def unregister(
        self, _: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        return pb.CudaSharedMemoryUnregisterResponse()

    async def status(
        self, request: pb.CudaSharedMemoryStatusRequest
    ) -> pb.CudaSharedMemoryStatusResponse:
        """Raises: UnknownModel if one region is asked for."""
        if request.name:
            raise UnknownModel(f"Unable to find cuda shared memory region: '{shown(request.name)}'")
        return pb.CudaSharedMemoryStatusResponse()
