"""What a gRPC engine and its handlers know of each other.

Handlers work on bytes: one message in and one out, or an iterator of messages in
and one out. They raise ServeError, which the engine makes a status. So any
HTTP/2 engine can host them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Call(Protocol):
    """A call, besides its messages."""

    def metadata(self, name: str) -> str:
        """The first value of a key in lower case; "" without one."""

    def left_ns(self) -> int:
        """Until the deadline; 0 without one. Raises: DeadlineExceeded if it has passed."""


Unary = Callable[[bytes, Call], Awaitable[bytes]]
# The engine closes the generator whatever happens to the call. The iterator of
# requests ends when the client has sent all, and at the latest with the call.
Stream = Callable[[AsyncIterator[bytes], Call], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its full name, its methods by theirs."""

    name: str
    unary: Mapping[str, Unary] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
