"""Registered memory as a worker reaches it: through descriptors, never through a map.

A client may cut its memory short at any time. Touching a map of what is gone would
end the process; a read that comes back short is an error of that request alone.
"""

import os
import weakref
from collections.abc import Mapping, Sequence

from protos import channel_pb2 as pb
from serving.core.errors import InvalidRequest, shown
from serving.core.shared_memory import Region, no_region


class SharedRegion:
    """A part of a memory object; owns its descriptor until nobody uses it any more."""

    def __init__(self, descriptor: int, offset: int, byte_size: int) -> None:
        self._descriptor, self._offset, self.byte_size = descriptor, offset, byte_size
        weakref.finalize(self, os.close, descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Raises: InvalidRequest."""
        try:
            data = os.pread(self._descriptor, size, self._offset + offset)
        except OSError as error:
            raise _gone() from error
        if len(data) != size:
            raise _gone()
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Raises: InvalidRequest."""
        start = self._offset + offset
        try:
            if os.fstat(self._descriptor).st_size < start + len(data):
                raise _gone()  # writing would make it larger
            written = os.pwrite(self._descriptor, data, start)
        except OSError as error:
            raise _gone() from error
        if written != len(data):
            raise _gone()


class SharedRegions:
    """Regions by name; replaced whole. enabled: whether clients may use them at all."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._regions: Mapping[str, SharedRegion] = {}

    def find(self, name: str) -> Region:
        """Raises: InvalidRequest, Unsupported."""
        region = self._regions.get(name)
        if region is not None:
            return region
        if not self._enabled:
            return no_region(name)
        raise InvalidRequest(f"Unable to find shared memory region: '{shown(name)}'")

    def apply(self, table: pb.SetRegions, descriptors: Sequence[int]) -> pb.FromWorker:
        """Take over the table; one descriptor a region, in its order."""
        self._regions = {
            region.name: SharedRegion(descriptor, region.offset, region.byte_size)
            for region, descriptor in zip(table.regions, descriptors, strict=True)
        }
        return pb.FromWorker(regions_applied=pb.RegionsApplied(epoch=table.epoch))


def _gone() -> InvalidRequest:
    return InvalidRequest("the shared memory is shorter than it was when it was registered")
