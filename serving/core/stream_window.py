"""The requests of one stream that are not done with: how many, and whose turn it is.

Rules. Replies leave in the order of the requests. While the window is full no
request is read, so a client that sends faster than it reads waits for itself.
A stream whose client has sent all ends when the last reply has been written. A
stream in a drain takes requests until nothing is left to answer, then goes away;
since its client may be writing the next one just then, it is told so by an error.
"""

from collections import deque
from enum import Enum
from typing import Generic, TypeVar

REQUESTS_MAX = 128  # as many as can share a batch of the usual size
BYTES_MAX = 64 * 1024 * 1024  # of requests without a reply, and of replies not yet written


class Step(Enum):
    """What the writing side of a stream does next."""

    WRITE = "write the oldest reply"
    WAIT = "wait"
    FINISH = "end well"
    GO_AWAY = "end with an error that says to go elsewhere"


class Entry:
    """One request; `size` is its own until it is settled, then its reply's, in bytes."""

    __slots__ = ("settled", "size")

    def __init__(self, size: int) -> None:
        self.size, self.settled = size, False


E = TypeVar("E", bound=Entry)


class StreamWindow(Generic[E]):
    """Entries in the order of their arrival."""

    __slots__ = ("_bytes", "_bytes_max", "_entries", "_requests_max", "draining", "half_closed")

    def __init__(self, requests_max: int = REQUESTS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._requests_max, self._bytes_max = requests_max, bytes_max
        self._entries: deque[E] = deque()
        self._bytes = 0
        self.half_closed = False  # the client has sent all
        self.draining = False

    @property
    def full(self) -> bool:
        """One entry of whatever size always fits."""
        return len(self._entries) >= self._requests_max or self._bytes >= self._bytes_max

    @property
    def oldest(self) -> E:
        return self._entries[0]

    def add(self, entry: E) -> None:
        self._entries.append(entry)
        self._bytes += entry.size

    def settle(self, entry: E, reply_bytes: int) -> None:
        """The reply is there, so the request need not be."""
        assert not entry.settled, "a request has one reply"
        entry.settled = True
        self._bytes += reply_bytes - entry.size
        entry.size = reply_bytes

    def written(self) -> None:
        """The oldest reply has left."""
        entry = self._entries.popleft()
        assert entry.settled, "a reply was written that is not there"
        self._bytes -= entry.size

    def unsettled(self) -> list[E]:
        return [entry for entry in self._entries if not entry.settled]

    def step(self) -> Step:
        if self._entries:
            return Step.WRITE if self._entries[0].settled else Step.WAIT
        if self.half_closed:
            return Step.FINISH
        return Step.GO_AWAY if self.draining else Step.WAIT
