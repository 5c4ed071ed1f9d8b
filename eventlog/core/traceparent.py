"""The W3C traceparent header: which trace a request belongs to, in 25 bytes.

A malformed one is none, as the standard asks. What else a trace carries
(tracestate, baggage) is the client's own business and is never looked at.
Source: W3C Trace Context, section 3.2.
"""

import re

# Version 00 ends here; a later one may go on behind a dash, and its first fields are these.
_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?"
)
TRACEPARENT_LENGTH_MAX = 512  # of later versions; what is longer is not looked at


def parse_traceparent(text: str) -> bytes:
    """Trace id (16 bytes), parent id (8) and flags (1); b"" if the header is not valid."""
    if len(text) > TRACEPARENT_LENGTH_MAX:
        return b""
    found = _FORM.fullmatch(text)
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return b""
    trace, parent = bytes.fromhex(found["trace"]), bytes.fromhex(found["parent"])
    if not any(trace) or not any(parent):
        return b""
    return trace + parent + bytes.fromhex(found["flags"])


def traceparent_text(trace: bytes) -> str:
    """The header of version 00 that says what `trace` does; "" for zeros."""
    if not any(trace):
        return ""
    return f"00-{trace[:16].hex()}-{trace[16:24].hex()}-{trace[24:].hex()}"
