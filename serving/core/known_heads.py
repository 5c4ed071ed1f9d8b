"""Heads of infer requests that came before, so that the same bytes are not parsed twice.

Clients send the same head again and again. One that was parsed between two
requests, checked and found good is good again whenever the same bytes stand at
the same place, so the rest of the data is the body, if it has the length that
the head says. Anything else goes to the parser.
"""

from dataclasses import dataclass

from serving.core.request_head import Head

HEADS_MAX = 512
HEAD_BYTES_MAX = 2048  # a longer one is parsed each time; bounds what is kept and searched
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

    def match(self, data: bytes) -> tuple[KnownHead, bytes] | None:
        """Head and body, if `data` is one whole request with a known head."""
        end = data.find(_END, 0, HEAD_BYTES_MAX) + len(_END)
        known = self._known.get(data[:end])
        if known is None or len(data) - end != known.body_bytes:
            return None
        return known, data[end:]

    def learn(self, data: bytes, target: tuple[str, str], head: Head) -> None:
        """Remember the head of `data`, which the parser found to be one whole request.

        head: without anything that changes how the connection goes on.
        """
        end = data.find(_END, 0, HEAD_BYTES_MAX) + len(_END)
        size = head.content_length
        # Else the head is too long, or does not end where the parser saw its end.
        if size is None or len(data) - end != size:
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known[data[:end]] = KnownHead(target, head, size)
