"""Tensors that lie in memory which the client has registered: where, and whether they fit.

A place is checked against its region before anything is read; what is read and
written goes through the region, which the shell owns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serving.core.errors import InvalidRequest, Unsupported, shown


class Region(Protocol):
    """A registered piece of memory."""

    byte_size: int

    def read(self, offset: int, size: int) -> bytes:
        """Raises: InvalidRequest if the memory is not there any more."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Raises: InvalidRequest if the memory is not there any more."""
        ...


FindRegion = Callable[[str], Region]  # by name; raises InvalidRequest or Unsupported


def no_region(_: str) -> Region:
    """Where there is no shared memory. Raises: Unsupported."""
    raise Unsupported("shared memory is off; an operator may set [compat] shared_memory = true")


@dataclass(frozen=True, slots=True)
class Place:
    """`size` bytes of a region that hold one tensor, or shall hold it."""

    name: str
    region: Region
    offset: int
    size: int

    def read(self) -> bytes:
        return self.region.read(self.offset, self.size)

    def write(self, data: bytes, what: str) -> None:
        """Raises: InvalidRequest if the tensor is larger than the place."""
        if len(data) > self.size:
            raise InvalidRequest(
                f"shared memory size specified with the request for {what} should be at least "
                f"{len(data)} bytes to hold the results, got {self.size}"
            )
        self.region.write(self.offset, data)

    def parameters(self, size: int) -> dict[str, str | int]:
        """What a reply says of an output of `size` bytes in this place."""
        said: dict[str, str | int] = {
            "shared_memory_region": self.name,
            "shared_memory_byte_size": size,
        }
        return said | ({"shared_memory_offset": self.offset} if self.offset else {})


def read_place(parameters: Mapping[str, Any], find: FindRegion, where: str) -> Place | None:
    """The place that a tensor's parameters name; None if they name none.

    Raises: InvalidRequest if it is not wholly inside of its region; as `find` does.
    """
    name = parameters.get("shared_memory_region")
    if name is None:
        return None
    if not isinstance(name, str):
        raise InvalidRequest(
            f"'shared_memory_region' of {where} must be a string, got '{shown(name)}'"
        )
    region = find(name)
    size = _count(parameters, "shared_memory_byte_size", where)
    offset = _count(parameters, "shared_memory_offset", where, 0)
    if offset + size > region.byte_size:
        raise InvalidRequest(
            f"Invalid offset + byte size for shared memory region '{shown(name)}' of {where}: "
            f"expected at most {region.byte_size}, got {offset} + {size}"
        )
    return Place(name, region, offset, size)


def _count(parameters: Mapping[str, Any], name: str, where: str, default: int | None = None) -> int:
    value = parameters.get(name, default)
    if type(value) is not int or value < 0:
        raise InvalidRequest(
            f"'{name}' of {where} must be a non-negative integer, got '{shown(value)}'"
        )
    return value
