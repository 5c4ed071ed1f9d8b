"""HTTP/2 frames by hand, so that a test can send what no library would.

Heads are written in HPACK's simplest form, literals that are not indexed. Those
that come back are read with the library's own decoder.
"""

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cffi

from serving.nghttp2 import find

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
FRAME_BYTES_MAX = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"

_INFLATER = """
typedef struct { uint8_t *name, *value; size_t namelen, valuelen; uint8_t flags; } nv;
int nghttp2_hd_inflate_new(void **);
void nghttp2_hd_inflate_del(void *);
ssize_t nghttp2_hd_inflate_hd2(void *, nv *, int *, const uint8_t *, size_t, int);
int nghttp2_hd_inflate_end_headers(void *);
"""
_FINAL, _EMIT = 1, 2


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload
    )


def _string(data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    out, rest = bytearray(b"\x7f"), size - 127
    while rest >= 128:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out) + data


def block(fields: Sequence[tuple[str | bytes, str | bytes]]) -> bytes:
    """A header block."""
    return b"".join(
        b"\0" + _string(_bytes(name)) + _string(_bytes(value)) for name, value in fields
    )


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def head(path: str = INFER, **changes: str | None) -> list[tuple[str, str]]:
    """A call's header fields; `_` stands for `-`, None leaves one out."""
    fields: dict[str, str | None] = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    fields |= {
        (":method" if name == "method" else name.replace("_", "-")): value
        for name, value in changes.items()
    }
    return [(name, value) for name, value in fields.items() if value is not None]


def message(data: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(data)) + data


@dataclass
class Answer:
    """What came back on one stream."""

    head: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        text = (self.trailers or self.head).get("grpc-status")
        return None if text is None else int(text)


@cache
def _inflater() -> tuple[Any, Any]:
    ffi = cffi.FFI()
    ffi.cdef(_INFLATER)
    return ffi, ffi.dlopen(find().path)


class Answers:
    """What a server's bytes say. Raises: AssertionError if they are no frames of a server."""

    def __init__(self) -> None:
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []  # last stream, error code
        self.pings: list[bytes] = []  # the server's own
        self.settings = 0  # of the server's own, how many
        self._buffer = b""
        self._ffi, self._lib = _inflater()
        ffi = self._ffi
        made = ffi.new("void **")
        assert self._lib.nghttp2_hd_inflate_new(made) == 0
        self._inflater = made[0]

    def close(self) -> None:
        self._lib.nghttp2_hd_inflate_del(self._inflater)

    def feed(self, data: bytes) -> Iterator[int]:
        """The kinds of the frames that `data` completes; what they say is noted before."""
        self._buffer += data
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            assert size <= FRAME_BYTES_MAX
            if len(self._buffer) < 9 + size:
                return
            kind, flags, stream_id = struct.unpack(">BBI", self._buffer[3:9])
            payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
            self._note(kind, flags, stream_id, payload)
            yield kind

    def _note(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        answer = self.answers.setdefault(stream_id, Answer())
        assert not answer.ended or kind in {RST_STREAM, WINDOW_UPDATE}, "more than an answer"
        if kind == HEADERS:
            assert flags & END_HEADERS
            fields = dict(self._inflate(payload))
            if answer.head:
                answer.trailers = fields
            else:
                answer.head = fields
            answer.ended = bool(flags & END_STREAM)
        elif kind == DATA:
            answer.data += payload
            answer.ended = bool(flags & END_STREAM)
        elif kind == RST_STREAM:
            answer.reset = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaways.append((last, code))
        elif kind == PING and not flags & ACK:
            self.pings.append(payload)
        elif kind == SETTINGS and not flags & ACK:
            self.settings += 1

    def _inflate(self, data: bytes) -> Iterator[tuple[str, str]]:
        ffi, lib = self._ffi, self._lib
        found, flags = ffi.new("nv *"), ffi.new("int *")
        at = ffi.from_buffer("uint8_t[]", data)
        left = len(data)
        while True:
            used = lib.nghttp2_hd_inflate_hd2(self._inflater, found, flags, at, left, 1)
            assert used >= 0
            at, left = at + used, left - used
            if flags[0] & _EMIT:
                yield (
                    ffi.unpack(ffi.cast("char *", found.name), found.namelen).decode(),
                    ffi.unpack(ffi.cast("char *", found.value), found.valuelen).decode(),
                )
            if flags[0] & _FINAL:
                lib.nghttp2_hd_inflate_end_headers(self._inflater)
                return


class RawClient(Answers):
    """A connection on which the test says every frame; it only acknowledges settings."""

    def __init__(
        self,
        address: tuple[str, int],
        settings: Mapping[int, int] | None = None,
        buffer_bytes: int = 0,
    ) -> None:
        """buffer_bytes: of the kernel's, for replies that are not read; 0: as it likes."""
        super().__init__()
        self.sock = socket.socket()
        if buffer_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self.sock.settimeout(30)
        self.sock.connect(address)
        self.closed = False
        self._settings = settings or {}

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        self.close()

    def greet(self) -> "RawClient":
        payload = b"".join(struct.pack(">HI", key, value) for key, value in self._settings.items())
        self.send(PREFACE + frame(SETTINGS, 0, 0, payload))
        return self

    def send(self, data: bytes) -> None:
        """Send what the server still takes; it may hang up meanwhile."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def call(self, stream_id: int, body: bytes, **changes: str | None) -> None:
        path = changes.pop("path", INFER) or ""
        self.send(whole_call(stream_id, body, path, **changes))

    def answer(self, stream_id: int) -> Answer:
        """The whole answer of a stream."""
        for _ in self.events():
            found = self.answers.get(stream_id)
            if found is not None and (found.ended or found.reset is not None):
                return found
        raise AssertionError(f"hung up before stream {stream_id} was answered: {self.goaways}")

    def rest(self) -> None:
        """Read until the server hangs up."""
        for _ in self.events():
            pass

    def events(self) -> Iterator[int]:
        """The kinds of the frames that come."""
        data = b""
        while True:
            acknowledged = self.settings
            for kind in self.feed(data):
                if self.settings > acknowledged:
                    acknowledged = self.settings
                    self.send(frame(SETTINGS, ACK, 0))
                yield kind
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                return


def whole_call(stream_id: int, body: bytes, path: str = INFER, **changes: str | None) -> bytes:
    """The frames of a call."""
    sent = frame(HEADERS, END_HEADERS, stream_id, block(head(path, **changes)))
    while len(body) > FRAME_BYTES_MAX:
        sent += frame(DATA, 0, stream_id, body[:FRAME_BYTES_MAX])
        body = body[FRAME_BYTES_MAX:]
    return sent + frame(DATA, END_STREAM, stream_id, body)
