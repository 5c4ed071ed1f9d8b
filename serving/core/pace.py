"""How slowly, and with how much besides the data, a client may send a request.

A connection is IDLE (nothing of a request has arrived), in HEAD or BODY, or
CLOSING (an error is written, what still arrives is thrown away). A head has a
fixed time from its first byte, a body earns more with every byte, so neither
can be stretched by dribbling. Raw bytes are held against what they carry, since
tiny chunks cost far more than their data.
"""

from enum import Enum

from serving.core.request_head import HeadRefused
from serving.settings import LimitSettings

CHUNKS_MAX = 65_536
CHUNK_OVERHEAD_BYTES = 32  # size line and line ends of an honest chunk
CHUNK_SLACK_BYTES = 64 * 1024
NEVER = float("inf")


class Phase(Enum):
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    CLOSING = "closing"


class Pace:
    """The count of one connection. Times are seconds of one monotonic clock."""

    __slots__ = ("_began", "_body_bytes", "_bytes", "_chunks", "_limits", "deadline")

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self.deadline = NEVER
        self._began = 0.0
        self._bytes = 0  # raw, since the phase began
        self._body_bytes = 0
        self._chunks = 0

    def begin(self) -> None:
        """A request's first byte has arrived."""
        self._body_bytes = self._chunks = 0

    def add_chunk(self) -> None:
        """Raises: HeadRefused for too many."""
        self._chunks += 1
        if self._chunks > CHUNKS_MAX:
            raise HeadRefused(400, f"a body has at most {CHUNKS_MAX} chunks", "bad_request")

    def add_body(self, size: int) -> None:
        """Raises: HeadRefused for a body beyond the limit."""
        self._body_bytes += size
        self.check_length(self._body_bytes)

    def check_length(self, size: int) -> None:
        """Raises: HeadRefused if a body of `size` bytes is too large."""
        limit = self._limits.body_bytes_max
        if size > limit:
            message = f"request body of {size} bytes exceeds the limit of {limit}"
            raise HeadRefused(413, message, "too_large")

    def arrived(self, size: int, phase: Phase, now: float, *, entered: bool) -> None:
        """`size` raw bytes have come, and the request is not complete: set its deadline.

        entered: the phase began with these bytes.
        Raises: HeadRefused if a head, or what stands around a body, is too large.
        """
        if entered:
            self._began, self._bytes = now, 0
        self._bytes += size
        limits = self._limits
        if phase is Phase.HEAD:
            self.deadline = self._began + limits.header_s
            if self._bytes > limits.header_bytes_max + limits.request_line_bytes_max:
                raise HeadRefused(431, "the request head is too large", "head_size")
            return
        earned = self._body_bytes / limits.body_bytes_per_s_min
        self.deadline = self._began + limits.body_s + earned
        overhead = self._bytes - self._body_bytes - limits.header_bytes_max
        if overhead > CHUNK_SLACK_BYTES + self._chunks * CHUNK_OVERHEAD_BYTES:
            message = "the chunks' framing is larger than their data"
            raise HeadRefused(400, message, "bad_request")

    def resumed(self, now: float) -> None:
        """We read again in the midst of a request, which could not go on meanwhile."""
        self._began = now
        self.deadline = now + self._limits.header_s
