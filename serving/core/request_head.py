"""The head of an HTTP request: what we refuse in it, and what infer needs of it.

The parser takes requests without a Host, with two of them, and absolute targets;
a proxy in front may read those differently than we do, so they end here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from eventlog.core.traceparent import parse_traceparent
from serving.core.content_coding import PLAIN_ONLY, Accepted, accepted_coding
from serving.core.errors import Reason, ServeError, Unsupported, shown

Headers = Sequence[tuple[bytes, bytes]]

COUNT_DIGITS_MAX = 20  # 64 bits

_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]+)(?::[0-9]{0,5})?")
_INFER = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer/?")
_UNRESERVED = re.compile(rb"%(2[DdEe]|3[0-9]|4[1-9A-Fa-f]|5[0-9AaFf]|6[1-9A-Fa-f]|7[0-9AaEe])")
_RARE = frozenset(
    (
        b"transfer-encoding",
        b"upgrade",
        b"content-encoding",
        b"expect",
        b"inference-header-content-length",
        b"x-routing-key",
        b"x-request-timeout-ms",
        b"accept-encoding",
        b"traceparent",
    )
)
_ONCE = (_RARE | {b"host", b"content-length"}) - {b"accept-encoding", b"traceparent"}


class HeadRefused(ServeError):
    """A head that ends the connection."""

    reason = Reason.INVALID

    def __init__(self, http_status: int, message: str, close_reason: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.close_reason = close_reason


@dataclass(frozen=True, slots=True)
class Head:
    """The headers that mean something to us; absent ones are None, 0 or empty."""

    content_length: int | None = None
    content_encoding: str = ""
    header_length: str | None = None
    routing_key: str = ""
    timeout_ms: str = ""
    expects_continue: bool = False
    chunked: bool = False
    upgrade: bool = False
    accepts: Accepted = PLAIN_ONLY
    tenant: str = ""  # where tenants are told apart
    trace: bytes = b""  # see eventlog.core.traceparent


def read_head(headers: Headers, http_version: str, tenant_header: bytes = b"") -> Head:
    """headers: names in lower case. tenant_header: names tenants. Raises: HeadRefused."""
    found = dict(headers)
    if len(found) != len(headers):
        _refuse_repeated(headers, tenant_header)
    host = found.get(b"host")
    if host is None:
        if http_version != "1.0":
            raise HeadRefused(400, "a request must have one Host header", "bad_request")
    elif not _HOST.fullmatch(host):
        raise HeadRefused(400, "the Host header is malformed", "bad_request")
    length = found.get(b"content-length")
    coding = found.get(b"transfer-encoding")
    if coding is not None and (
        length is not None or http_version == "1.0" or coding.lower() != b"chunked"
    ):
        raise HeadRefused(400, "Transfer-Encoding may only be 'chunked', alone", "bad_request")
    if _RARE.isdisjoint(found) and tenant_header not in found:
        return Head(content_length=None if length is None else int(length))
    return Head(
        content_length=None if length is None else int(length),
        content_encoding=_text(found.get(b"content-encoding")).lower(),
        header_length=(
            _text(found[b"inference-header-content-length"])
            if b"inference-header-content-length" in found
            else None
        ),
        routing_key=_text(found.get(b"x-routing-key")),
        timeout_ms=_text(found.get(b"x-request-timeout-ms")),
        expects_continue=found.get(b"expect", b"").lower() == b"100-continue",
        chunked=coding is not None,
        upgrade=b"upgrade" in found,
        accepts=_accepts(headers) if b"accept-encoding" in found else PLAIN_ONLY,
        tenant=_text(found.get(tenant_header)),
        trace=_trace(headers) if b"traceparent" in found else b"",
    )


def _trace(headers: Headers) -> bytes:
    """As the standard asks, a malformed header is none, and so are two of them."""
    values = [_text(value) for name, value in headers if name == b"traceparent"]
    return parse_traceparent(values[0]) if len(values) == 1 else b""


def _accepts(headers: Headers) -> Accepted:
    """One list, in however many headers it comes."""
    values = [_text(value) for name, value in headers if name == b"accept-encoding"]
    return accepted_coding(",".join(values))


def _refuse_repeated(headers: Headers, tenant_header: bytes) -> None:
    """Raises: HeadRefused if a header that means something to us is given twice."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and (name in _ONCE or name == tenant_header):
            raise HeadRefused(
                400, f"header '{name.decode()}' may be given only once", "bad_request"
            )
        seen.add(name)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("latin-1").strip()


def without_upgrade(method: bytes, url: bytes, headers: Headers) -> bytes:
    """The head again, as a client would have sent it that asks for no other protocol."""
    lines = [b"%b %b HTTP/1.1" % (method, url)]
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.lower().split(b",")]
            kept = b", ".join(t for t in tokens if t not in {b"upgrade", b"http2-settings"})
        else:
            kept = value
        if name not in {b"upgrade", b"http2-settings"} and kept:
            lines.append(name + b": " + kept)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def check_target(url: bytes) -> None:
    """Raises: HeadRefused for a target that is not a plain path, or hides a slash."""
    if not url.startswith(b"/"):
        raise HeadRefused(400, "the request target must be a path", "bad_request")
    if not _is_plain(url):
        raise HeadRefused(
            400, "the request target must be ASCII, without a fragment", "bad_request"
        )
    if _hides_slash(url):
        raise HeadRefused(400, "the request target must not contain '%2f'", "bad_request")


def _is_plain(url: bytes) -> bool:
    return url.isascii() and b"#" not in url


def _hides_slash(url: bytes) -> bool:
    return b"%2f" in url.partition(b"?")[0].lower()


def infer_target(url: bytes) -> tuple[str, str] | None:
    """Model and version ("" when not named) of an infer path, or None."""
    if not _is_plain(url) or _hides_slash(url):
        return None
    path = url.partition(b"?")[0]
    if b"%" in path:  # an encoded letter is that letter
        path = _UNRESERVED.sub(lambda found: bytes.fromhex(found[1].decode()), path)
    match = _INFER.fullmatch(path)
    if match is None:
        return None
    model, version = match.groups()
    return unquote(model.decode("ascii")), unquote(version.decode("ascii")) if version else ""


def is_count(text: str) -> bool:
    """Whether a header's text is a plain non-negative integer of a sane length."""
    return text.isascii() and text.isdigit() and len(text) < COUNT_DIGITS_MAX


def check_encoding(encoding: str) -> str:
    """ "", "gzip" or "deflate". Raises: Unsupported."""
    if encoding in {"", "identity"}:
        return ""
    if encoding not in {"gzip", "deflate"}:
        raise Unsupported(f"Content-Encoding '{shown(encoding)}' is not supported: gzip, deflate")
    return encoding


def request_cost(
    body_bytes: int, header_length: str | None, json_factor: int, raw_factor: int
) -> int:
    """Memory that a body may take while it is decoded, in bytes."""
    if header_length is None or not is_count(header_length):
        return body_bytes * json_factor
    json_bytes = min(int(header_length), body_bytes)
    return json_bytes * json_factor + (body_bytes - json_bytes) * raw_factor
