"""A connection of the HTTP data port without a socket: bytes in, bytes out.

The protocol class, its parser and its memory of heads are the real ones; the
data plane behind them decodes a request and answers with what it came to.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from serving.core.binary_forms import BinaryForms
from serving.core.errors import InvalidRequest
from serving.core.json_template import Templates
from serving.core.signature import Signature
from serving.settings import LimitSettings
from serving.worker.http_gate import HttpGate
from serving.worker.http_protocol import GatewayProtocol
from serving.worker.reply_packer import ReplyPacker

LOOP = asyncio.new_event_loop()  # here, since a fuzzer may open no socket later
PUMPS = 12  # turns of the loop that a reply of the application takes at most, with some to spare
LIMITS = LimitSettings(body_bytes_max=4096, json_depth_max=20, tensors_max=8)


class Complaints(logging.Handler):
    """What is logged as an error is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


LOGGERS = [logging.getLogger(name) for name in ("driftgate.serving", "uvicorn.error", "asyncio")]


@contextmanager
def without_complaint() -> Iterator[None]:
    """Raises: AssertionError if something is logged as an error meanwhile."""
    complaints = Complaints()
    for logger in LOGGERS:
        logger.addHandler(complaints)
    try:
        yield
    finally:
        for logger in LOGGERS:
            logger.removeHandler(complaints)
    assert not complaints.records, complaints.records[0]


class Plane:
    """A data plane that runs no model."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self.limits, self.draining, self.tenant_header = LIMITS, False, "x-tenant"
        self.templates, self.binary_forms = Templates(), BinaryForms()
        ignore = lambda *_: None  # noqa: E731
        self.metrics = SimpleNamespace(
            closed=ignore, connections_of=lambda _: SimpleNamespace(set=ignore)
        )
        self.count_refused = ignore
        # What might be refused unread is looked at, and then is not.
        self.pressed, self.is_hopeless = True, lambda *_: False
        self.held_bytes = 0
        self.admission = SimpleNamespace(hold_bytes=self._hold, free_bytes=self._free)

    def _hold(self, count: int) -> None:
        self.held_bytes += count

    def _free(self, count: int) -> None:
        self.held_bytes -= count

    def infer(
        self,
        parse: Callable[[], Any],
        model: str,
        version: str,
        timeout_ns: int,
        cost_bytes: int,
        waiter: Any,
    ) -> None:
        """Raises: ServeError, whose message tells one request from another."""
        request = parse()
        wanted = request.wanted(self._signature)
        arrays = request.tensors(self._signature, LIMITS.tensors_max)
        found = (
            model, version, timeout_ns, cost_bytes, waiter.routing_key(), waiter.trace,
            waiter.tenant(self.tenant_header), request.envelope, wanted,
            [(a.shape, a.tolist() if a.dtype == object else a.tobytes()) for a in arrays],
        )  # fmt: skip
        raise InvalidRequest("read as " + hashlib.sha256(repr(found).encode()).hexdigest())


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False
        self._protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def deliver(self, piece: bytes) -> None:
        """Let the protocol read, as an event loop does: to its own buffer, if it has one."""
        while piece and not self.closing and isinstance(self._protocol, asyncio.BufferedProtocol):
            room = self._protocol.get_buffer(-1)
            assert len(room), "an empty buffer ends a connection"
            size = min(len(room), len(piece))
            room[:size] = piece[:size]
            self._protocol.buffer_updated(size)
            piece = piece[size:]
        if piece and not self.closing:
            self._protocol.data_received(piece)

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _: str, default: object = None) -> object:
        return default


async def _application(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was asked."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = repr((scope["method"], scope["raw_path"], scope["query_string"], size)).encode()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 404, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


class Gate:
    """Connections that share what is remembered."""

    def __init__(self, signature: Signature) -> None:
        self.plane: Any = Plane(signature)
        self.http = HttpGate(LOOP, self.plane, _application, ReplyPacker(LOOP, 0))

    def exchange(self, pieces: Sequence[bytes]) -> bytes:
        """What a connection answers to these pieces, each read at once."""
        transport: Any = Transport()
        connection = GatewayProtocol(self.http)
        with without_complaint():
            transport.set_protocol(connection)
            connection.connection_made(transport)
            for piece in pieces:
                if transport.closing:
                    break
                if piece:
                    transport.deliver(piece)
                    pump()
            connection.connection_lost(None)
            pump()
        assert self.plane.held_bytes == 0, "bytes of the budget are not given back"
        assert not self.http.connections
        return bytes(transport.written)


async def turns() -> None:
    """Let everything go on that can."""
    for _ in range(PUMPS):
        await asyncio.sleep(0)


def pump() -> None:
    LOOP.run_until_complete(turns())
