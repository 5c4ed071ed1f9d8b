"""Heads of infer requests that came before, so that the same bytes are not parsed twice.

Clients send the same head again and again. One that was parsed between two
requests, checked and found good is good again whenever the same bytes stand at
the same place, so what follows is the body, up to the length that the head says.
What proxies and tracers put in anew for each request (`_VARYING`) may differ: of
it only a traceparent means anything here, and what names tenants. Anything else goes to the parser.
"""

import re
from dataclasses import dataclass, replace

from eventlog.core.traceparent import parse_traceparent
from serving.core.request_head import Head

HEADS_MAX = 512
HEAD_BYTES_MAX = 2048  # a longer one is parsed each time; bounds what is kept
_END = b"\r\n\r\n"
# Headers whose values are any, as far as we are concerned; of these characters, which no
# parser before us could read as something else. More headers than before are another head.
_VARYING = re.compile(
    rb"\r\n(traceparent|tracestate|baggage|b3|x-b3-[a-z]+|uber-trace-id|sentry-trace"
    rb"|x-(?:request|correlation|client-trace|amzn-trace|datadog-[a-z-]+)-id"
    rb"|x-cloud-trace-context|x-request-start|x-envoy-[a-z-]+"
    rb"|x-forwarded-for|x-real-ip|forwarded|authorization|cookie|date)"
    rb":([ \t!-~]*)(?=\r\n)",
    re.IGNORECASE,
)
_TRACEPARENT = b"traceparent"

Cut = tuple[bytes, ...]  # a head without the values that vary


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What the bytes of a head come to. The connection stays open after such a request."""

    target: tuple[str, str]  # model, version
    head: Head  # without a trace
    body_bytes: int


class KnownHeads:
    """A bounded memory; when it is full it starts anew."""

    __slots__ = ("_known", "_tenant_header", "_varied")

    def __init__(self, tenant_header: bytes = b"") -> None:
        """tenant_header: in lower case, that names tenants, so that it means something."""
        self._tenant_header = tenant_header
        self._known: dict[bytes, KnownHead] = {}
        self._varied: dict[Cut, KnownHead] = {}

    def match(self, data: bytes) -> tuple[KnownHead, int, bytes] | None:
        """The head that `data` begins with if it is known, where it ends, and its trace.

        Not if there is more behind it than its body.
        """
        end = data.find(_END, 0, HEAD_BYTES_MAX) + len(_END)
        head, trace = data[:end], b""
        known = self._known.get(head)
        if known is None and self._varied:
            cut, trace = _cut(head, self._tenant_header)
            known = self._varied.get(cut)
        if known is None or len(data) - end > known.body_bytes:
            return None
        return known, end, trace

    def learn(self, head: bytes, target: tuple[str, str], meaning: Head) -> None:
        """Remember a head that the parser read to its end, and found a body behind.

        meaning: without anything that changes how the connection goes on.
        """
        size = meaning.content_length
        if size is None or len(head) > HEAD_BYTES_MAX:
            return
        if len(self._known) + len(self._varied) >= HEADS_MAX:
            self._known.clear()
            self._varied.clear()
        cut, trace = _cut(head, self._tenant_header)
        if trace != meaning.trace:
            return  # the parser found it elsewhere
        known = KnownHead(target, replace(meaning, trace=b"") if trace else meaning, size)
        if len(cut) > 1:
            self._varied[cut] = known
        else:
            self._known[head] = known


def _cut(head: bytes, kept: bytes) -> tuple[Cut, bytes]:
    """A head without the values that vary, and the trace that it names.

    kept: a header that means something, whatever it is.
    """
    pieces: list[bytes] = []
    traces: list[bytes] = []
    at = 0
    for found in _VARYING.finditer(head):
        if found[1].lower() == kept:
            continue
        start, stop = found.span(2)
        pieces.append(head[at:start])
        at = stop
        if found[1].lower() == _TRACEPARENT:
            traces.append(found[2])
    pieces.append(head[at:])
    # As in `read_head`: two are none.
    trace = parse_traceparent(traces[0].decode().strip()) if len(traces) == 1 else b""
    return tuple(pieces), trace


def head_end(data: bytes) -> int:
    """Where the first head in `data` ends; 0 if none does."""
    found = data.find(_END)
    return found + len(_END) if found >= 0 else 0
