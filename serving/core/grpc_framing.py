"""What gRPC puts around messages on HTTP/2: prefixes, deadlines, statuses, codings.

A message is preceded by a byte that says whether it is packed, and by its length.
Limits are held against the length before anything is allocated for it.

Source: grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/compression.md.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Protocol

from serving.core.content_coding import PLAIN_ONLY, Accepted
from serving.core.errors import InvalidRequest, ServeError, TooLarge, Unsupported, shown
from serving.core.inflate import inflate

PREFIX_BYTES = 5
CODINGS = ("gzip", "deflate")
ACCEPTED_CODINGS = b"identity, deflate, gzip"

_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_NS = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL)


class Chunk(Protocol):
    """Bytes that are only lent; a slice is a copy, as cffi's buffers give it."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class Target(Protocol):
    """The inside of a message that is being filled."""

    def __setitem__(self, part: slice, data: bytes, /) -> None: ...


# An uninitialised bytes object of so many bytes, and its inside.
Allocate = Callable[[int], tuple[bytes, Target]]


@lru_cache(maxsize=1024)
def prefix(size: int, *, packed: bool = False) -> bytes:
    """What stands before a message of `size` bytes."""
    return (b"\1" if packed else b"\0") + size.to_bytes(4, "big")


def prefixed(message: bytes, *, packed: bool = False) -> bytes:
    """A message as it travels."""
    return prefix(len(message), packed=packed) + message


def check_size(size: int, limit: int) -> None:
    """Raises: TooLarge for a message of `size` bytes, as its prefix says."""
    if size > limit:
        raise TooLarge(f"a message of {size} bytes exceeds the limit of {limit}")


class MessageReader:
    """Messages out of the DATA of one call, each in memory of its own, copied once."""

    __slots__ = ("_allocate", "_coding", "_filled", "_inside", "_limit", "_message", "_packed",
                 "_prefix")  # fmt: skip

    def __init__(self, limit: int, coding: str, allocate: Allocate) -> None:
        """limit: of a message, packed and unpacked. coding: of packed ones; "" for none."""
        self._limit, self._coding, self._allocate = limit, coding, allocate
        self._prefix = b""
        self._packed = False
        self._message: bytes | None = None
        self._inside: Target | None = None
        self._filled = 0

    @property
    def between_messages(self) -> bool:
        return self._message is None and not self._prefix

    def feed(self, chunk: Chunk) -> Iterator[bytes]:
        """The messages that `chunk` completes, unpacked.

        Raises: TooLarge, or ServeError for one that is packed in no known way.
        """
        start, end = 0, len(chunk)
        while start < end:
            if self._message is None:
                start = self._read_prefix(chunk, start)
                if self._message is None:
                    return
            size = len(self._message)
            taken = min(size - self._filled, end - start)
            if taken:
                assert self._inside is not None
                piece = slice(self._filled, self._filled + taken)
                self._inside[piece] = chunk[start : start + taken]
                self._filled += taken
                start += taken
            if self._filled == size:
                message, self._message, self._inside = self._message, None, None
                yield self.unpacked(message) if self._packed else message

    def _read_prefix(self, chunk: Chunk, start: int) -> int:
        """Take what is missing of a prefix; begin the message when it is whole."""
        missing = PREFIX_BYTES - len(self._prefix)
        self._prefix += chunk[start : start + missing]
        if len(self._prefix) == PREFIX_BYTES:
            prefix, self._prefix = self._prefix, b""
            size = int.from_bytes(prefix[1:], "big")
            check_size(size, self._limit)
            self._packed = self.is_packed(prefix[0])
            self._message, self._inside = self._allocate(size)
            self._filled = 0
        return min(start + missing, len(chunk))

    def is_packed(self, flag: int) -> bool:
        """What the first byte of a prefix says. Raises: ServeError if it cannot be so."""
        if flag == 0:
            return False
        if flag != 1:
            raise ServeError(f"the flag of a message is 0 or 1, got {flag}")
        if not self._coding:
            raise ServeError("a message is said to be packed, and grpc-encoding names no coding")
        return True

    def unpacked(self, message: bytes) -> bytes:
        """Raises: TooLarge, InvalidRequest."""
        return inflate(message, self._coding, self._limit)


def is_grpc(content_type: bytes) -> bool:
    """Whether a content-type is gRPC's, of whatever message format."""
    return content_type == b"application/grpc" or bool(_CONTENT_TYPE.fullmatch(content_type))


@lru_cache(maxsize=256)
def timeout_ns(value: bytes) -> int:
    """Nanoseconds of a grpc-timeout. Raises: InvalidRequest."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        text = shown(value.decode("latin-1"))
        raise InvalidRequest(f"grpc-timeout is up to 8 digits and one of HMSmun, got '{text}'")
    return int(match[1]) * _UNIT_NS[match[2]]


def message_coding(value: bytes) -> str:
    """The coding that a grpc-encoding names; "" for identity. Raises: Unsupported."""
    name = value.decode("latin-1").lower()
    if name in {"", "identity"}:
        return ""
    if name not in CODINGS:
        raise Unsupported(
            f"grpc-encoding '{shown(name)}' is not supported; identity, deflate and gzip are"
        )
    return name


@lru_cache(maxsize=64)
def reply_coding(value: bytes) -> Accepted:
    """What to pack replies with, given a grpc-accept-encoding, which has no weights."""
    taken = {part.strip() for part in value.decode("latin-1").lower().split(",")}
    for coding in CODINGS:
        if coding in taken:
            return Accepted(coding)
    return PLAIN_ONLY


def percent_encoded(text: str) -> bytes:
    """A status message as `grpc-message` carries it."""
    data = text.encode("utf-8", "replace")
    if data.isascii() and text.isprintable() and b"%" not in data:
        return data
    return b"".join(_escaped(byte) for byte in data)


def _escaped(byte: int) -> bytes:
    return bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
