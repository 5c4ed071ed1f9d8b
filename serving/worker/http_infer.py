"""One infer request over HTTP: its body in, its reply out."""

import logging
from collections.abc import Mapping
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Protocol

import orjson

from serving.core.admission import JSON_BYTES_FACTOR, RAW_BYTES_FACTOR
from serving.core.body import Blob, BodyBuffer
from serving.core.errors import ServeError
from serving.core.inflate import inflate
from serving.core.json_codec_reply import BatchOutputs, float_blob_bytes
from serving.core.request_head import Head, check_encoding, is_count, request_cost
from serving.core.request_http import HttpRequest
from serving.worker.dataplane import DataPlane, check_timeout_ms
from serving.worker.reply_packer import ReplyPacker
from serving.worker.task import Task

log = logging.getLogger("driftgate.serving")

_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_JSON_LAST = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"connection: close\r\n\r\n"
)
_BINARY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n"
    b"inference-header-content-length: %d\r\n%b\r\n"
)
_JSON_PACKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
_CLOSE = b"connection: close\r\n"
# What an error says beside its message; 405 is CONNECT's, to which no path of ours belongs.
ERROR_HEADERS: Mapping[int, Mapping[str, str]] = {
    HTTPStatus.METHOD_NOT_ALLOWED: {"allow": "GET, HEAD, POST"},
    HTTPStatus.NOT_IMPLEMENTED: {"accept-encoding": "gzip, deflate"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "1"},
}
_EXTRA = {
    status: b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    for status, headers in ERROR_HEADERS.items()
}
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_JOIN_BYTES_MAX = 64 * 1024  # a longer body is written as it is, not copied once more


class Connection(Protocol):
    """What an exchange needs of the connection it came over."""

    transport: "Transport"
    packer: ReplyPacker

    def infer_answered(self, keep_alive: bool) -> None: ...


class Transport(Protocol):
    """The part of asyncio.Transport that is used here."""

    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...


class Exchange:
    """Collects a body, submits it, and writes what comes back."""

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_connection",
        "_held",
        "_plane",
        "_task",
        "head",
        "keep_alive",
        "target",
        "trace",
    )  # fmt: skip
    protocol = "http"

    def __init__(
        self,
        connection: Connection,
        plane: DataPlane,
        target: tuple[str, str],
        head: Head,
        keep_alive: bool,
        trace: bytes,
    ) -> None:
        """trace: that the request names; the head's own may be another one's."""
        self._connection, self._plane, self.target = connection, plane, target
        self.head = head
        self.keep_alive, self.trace = keep_alive, trace
        self._body: Blob = b""  # if it came whole
        self._buffer: BodyBuffer | None = None  # if it comes in several reads
        self._chunks: list[bytes] = []  # if it does not say how long it will be
        self._held = 0  # bytes of the budget that the unfinished body takes
        self._task: Task | None = None

    def add(self, data: bytes, start: int) -> None:
        """Take what of the body stands in `data` from `start` on. Raises: Overloaded."""
        head, size = self.head, len(data) - start
        if size == head.content_length:
            self._body = self.cut(data, start)
            return
        if head.content_length is None:
            if self._chunks:
                self._hold(size)
            self._chunks.append(data[start:])
        elif size:
            self._room().add(memoryview(data)[start:])
            self._hold_touched()

    def cut(self, data: bytes, start: int) -> Blob:
        """What stands in `data` from `start` on, which is the whole body."""
        if self.head.header_length is None:  # JSON, which its parsers want as `bytes`
            return data[start:]
        return memoryview(data)[start:]

    def _room(self) -> BodyBuffer:
        buffer = self._buffer
        if buffer is None:
            head = self.head
            assert head.content_length is not None
            tensors_at = head.header_length or ""
            buffer = self._buffer = BodyBuffer(
                head.content_length, int(tensors_at) if is_count(tensors_at) else 0
            )
        return buffer

    @property
    def received(self) -> bool:
        """Whether some of the body has come."""
        return self._buffer is not None or bool(self._chunks) or len(self._body) > 0

    @property
    def missing(self) -> int:
        """Bytes of the body that have not come; 0 if nobody knows."""
        if self._buffer is not None:
            return self._buffer.missing
        return 0 if len(self._body) else self.head.content_length or 0

    @property
    def room(self) -> memoryview:
        """Where what is missing is to be written."""
        return self._room().room

    def filled(self, size: int) -> None:
        """So many bytes of `room` are written. Raises: Overloaded."""
        self._room().advance(size)
        self._hold_touched()

    def _hold_touched(self) -> None:
        self._hold(self._room().touched - self._held)

    def _hold(self, size: int) -> None:
        self._plane.admission.hold_bytes(size)
        self._held += size

    def _take_body(self) -> Blob:
        """The whole body, which is let go of."""
        body: Blob
        if self._buffer is not None:
            body = self._buffer.whole()
        elif self._chunks:
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        else:
            body = self._body
        self._let_go()
        return body

    def _let_go(self) -> None:
        self._body, self._buffer, self._chunks = b"", None, []

    def routing_key(self) -> str:
        return self.head.routing_key

    def tenant(self, _header: str) -> str:
        return self.head.tenant

    def start(self, body: Blob | None = None) -> None:
        """The body is complete: decode and queue it, or answer with what is wrong.

        body: if none of it was added.
        """
        if body is None:
            self._release()
            body = self._take_body()
        head, plane = self.head, self._plane
        try:
            timeout_ns = check_timeout_ms(head.timeout_ms) if head.timeout_ms else 0
            if head.content_encoding:
                coding = check_encoding(head.content_encoding)
                body = inflate(body, coding, plane.limits.body_bytes_max)
        except ServeError as error:
            plane.count_refused(self.target[0], self.protocol, error)
            self.fail(error)
            return
        try:
            self._task = plane.infer(
                partial(
                    HttpRequest,
                    body,
                    head.header_length,
                    plane.limits.json_depth_max,
                    plane.templates,
                    plane.binary_forms,
                ),
                self.target[0],
                self.target[1],
                timeout_ns,
                request_cost(len(body), head.header_length, JSON_BYTES_FACTOR, RAW_BYTES_FACTOR),
                self,
            )
        except ServeError as error:
            self.fail(error)
        except Exception:
            log.exception("queueing a request failed")
            crash = ServeError("internal error")
            plane.count_refused(self.target[0], self.protocol, crash)
            self.fail(crash)

    def succeed(self, task: Task, outputs: BatchOutputs, start: int, stop: int) -> None:
        """Write the reply."""
        self._task = None
        body, json_length = task.version.json.encode(
            outputs, start, stop, task.envelope, task.wanted, task.prediction_id
        )
        accepts = self.head.accepts
        if accepts.coding and self._connection.packer.takes(len(body), accepts):
            floats = float_blob_bytes(outputs, start, stop, task.envelope, task.wanted)
            if 2 * floats < len(body) or accepts.needed:
                self._connection.packer.send(body, accepts, partial(self._answer, json_length))
                return
        self._answer(json_length, body, "")

    def _answer(self, json_length: int, body: bytes, coding: str) -> None:
        """Write a prediction. json_length: of the plain body; 0: all of it is JSON."""
        keep = self.keep_alive and not self._plane.draining
        if not json_length and not coding:
            head = _json_head(len(body), keep)
        else:
            extra = b"" if keep else _CLOSE
            if coding:
                extra += b"content-encoding: %b\r\n" % coding.encode()
            if json_length:
                head = _BINARY % (len(body), json_length, extra)
            else:
                head = _JSON_PACKED % (len(body), extra)
        self._write(head, body, keep)

    def fail(self, error: ServeError) -> None:
        """Write an error."""
        self._task = None
        keep = self.keep_alive and not self._plane.draining
        self._write(error_reply(error.http_status, error.message, keep_alive=keep), b"", keep)

    def _write(self, head: bytes, body: bytes, keep_alive: bool) -> None:
        connection = self._connection
        transport = connection.transport
        if transport.is_closing():
            return
        if len(body) <= _JOIN_BYTES_MAX:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        connection.infer_answered(keep_alive)

    def abandon(self) -> None:
        """The client is gone: nothing more is written, and the request is withdrawn."""
        self._release()
        self._let_go()
        task, self._task = self._task, None
        if task is not None:
            task.version.cancel(task)

    def _release(self) -> None:
        if self._held:
            self._plane.admission.free_bytes(self._held)
            self._held = 0


@lru_cache(maxsize=1024)
def _json_head(size: int, keep_alive: bool) -> bytes:
    return (_JSON if keep_alive else _JSON_LAST) % size


def error_reply(status: int, message: str, *, keep_alive: bool) -> bytes:
    """A whole HTTP response with the protocol's error body."""
    body = orjson.dumps({"error": message.encode("utf-8", "replace").decode()})
    phrase = _PHRASES.get(status, "Client Closed Request")
    return (
        b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b"
        % (
            status,
            phrase.encode(),
            len(body),
            _EXTRA.get(status, b""),
            b"" if keep_alive else _CLOSE,
            body,
        )
    )
