"""What can be wrong with a registry and what is in it.

Every message is one line that names the thing, what is wrong with it and,
where it helps, what to do. Control characters in names are escaped, so that a
message can be logged as it is.
"""

from typing import ClassVar


class RegistryError(Exception):
    """Base of the family; `http` and `grpc` are the statuses a server maps it to."""

    http: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"


class NotFound(RegistryError):
    """No such model, version, alias or file."""

    http = 404
    grpc = "NOT_FOUND"


class Corrupt(RegistryError):
    """Bytes are not those that the manifest promises."""

    http = 500
    grpc = "DATA_LOSS"


class InvalidName(RegistryError):
    """A name, version or alias that breaks the naming rule; nothing was looked up."""

    http = 400
    grpc = "INVALID_ARGUMENT"


class Invalid(RegistryError):
    """A manifest, configuration or push that contradicts itself."""

    http = 400
    grpc = "INVALID_ARGUMENT"


class Unsafe(RegistryError):
    """A link, or a path or reference that leaves what was declared."""

    http = 400
    grpc = "FAILED_PRECONDITION"


class Conflict(RegistryError):
    """A compare-and-set lost, or a version that exists already."""

    http = 409
    grpc = "ABORTED"


class Unavailable(RegistryError):
    """The registry cannot answer now: busy, disk full, no permission."""

    http = 503
    grpc = "UNAVAILABLE"
