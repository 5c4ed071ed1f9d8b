"""What a gRPC engine and its handlers know of each other.

Handlers work on bytes: one message in and one out, or an iterator of messages in
and one out. They raise ServeError, which the engine makes a status. So any
HTTP/2 engine can host them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from serving.core.errors import ServeError

METADATA_BYTES = (8 * 1024, 16 * 1024)  # soft and hard limit
STREAMS_MAX = 100  # calls of one connection at a time; bounds what a reset flood costs
RETRY_PUSHBACK_MS = "1000"  # with UNAVAILABLE
# What handlers ask for, beside the key that names tenants; an engine need not keep the rest.
ROUTING_KEY, ERRORS_END, TRACE = "x-routing-key", "triton_grpc_error", "traceparent"
METADATA_KEYS = (ROUTING_KEY, ERRORS_END, TRACE)


class Call(Protocol):
    """A call, besides its messages."""

    def metadata(self, name: str) -> str:
        """The first value of one of METADATA_KEYS, or of what names tenants; "" without one."""

    def left_ns(self) -> int:
        """Until the deadline; 0 without one. Raises: DeadlineExceeded if it has passed."""


class Reply(Protocol):
    """Where the outcome of a call goes, once."""

    def succeed(self, reply: bytes, /) -> None: ...
    def fail(self, error: ServeError, /) -> None: ...


Unary = Callable[[bytes, Call], Awaitable[bytes]]
# Begins a call and returns what withdraws it; its reply comes later, on the loop. For a
# method whose calls are so many that a coroutine for each would be felt.
Begin = Callable[[bytes, Call, Reply], Callable[[], None]]
# The engine closes the generator whatever happens to the call. The iterator of
# requests ends when the client has sent all, and at the latest with the call.
Stream = Callable[[AsyncIterator[bytes], Call], AsyncGenerator[bytes, None]]


Method = tuple[Begin | None, Unary | None, Stream | None]  # one of them is there


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its full name, its methods by theirs."""

    name: str
    unary: Mapping[str, Unary] = field(default_factory=dict)
    begins: Mapping[str, Begin] = field(default_factory=dict)  # unary too
    streams: Mapping[str, Stream] = field(default_factory=dict)
