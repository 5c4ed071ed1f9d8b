"""Heads of infer requests that came before, so that the same bytes are not parsed twice.

Clients send the same head again and again. One that was parsed between two
requests, checked and found good is good again whenever the same bytes stand at
the same place, so what follows is the body, up to the length that the head says.
Anything else goes to the parser.
"""

from dataclasses import dataclass

from serving.core.request_head import Head

HEADS_MAX = 512
HEAD_BYTES_MAX = 2048  # a longer one is parsed each time; bounds what is kept
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What the bytes of a head come to. The connection stays open after such a request."""

    target: tuple[str, str]  # model, version
    head: Head
    body_bytes: int


class KnownHeads:
    """A bounded memory; when it is full it starts anew."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, KnownHead] = {}

    def match(self, data: bytes) -> tuple[KnownHead, int] | None:
        """The head that `data` begins with and where it ends, if it is known.

        Not if there is more behind it than its body.
        """
        end = data.find(_END, 0, HEAD_BYTES_MAX) + len(_END)
        known = self._known.get(data[:end])
        if known is None or len(data) - end > known.body_bytes:
            return None
        return known, end

    def learn(self, head: bytes, target: tuple[str, str], meaning: Head) -> None:
        """Remember a head that the parser read to its end, and found a body behind.

        meaning: without anything that changes how the connection goes on.
        """
        size = meaning.content_length
        if size is None or len(head) > HEAD_BYTES_MAX:
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[head] = KnownHead(target, meaning, size)


def head_end(data: bytes) -> int:
    """Where the first head in `data` ends; 0 if none does."""
    found = data.find(_END)
    return found + len(_END) if found >= 0 else 0
