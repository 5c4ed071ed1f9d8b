"""HTTP/1.1 on the data port: a uvicorn protocol that answers infer itself.

The server's own class has no deadline and no cap on what a client may send or
how slowly; they are kept here, as `Pace` counts them, and one sweep over all
connections looks at the deadlines. Infer requests never reach ASGI: the head is
recognised, the body collected, and the reply written in one call. A head that
came before in the same bytes does not even reach the parser, and neither does a
body of announced size, which the parser would only copy. Everything else goes to
the application through uvicorn's own cycle. Replies leave in the order of their
requests: one runs, the others wait, and none runs before its client has read the
one before it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.core.errors import ServeError
from serving.core.known_heads import KnownHead, head_end
from serving.core.pace import NEVER, Pace, Phase
from serving.core.request_head import Head, HeadRefused, check_target, read_head, without_upgrade
from serving.worker.body_reader import BodyReader
from serving.worker.http_gate import HttpGate
from serving.worker.http_infer import Exchange, error_reply

log = logging.getLogger("driftgate.serving")

LINGER_S = 2.0  # how long a refused client may go on sending before it is cut off

_IDLE, _HEAD, _BODY, _CLOSING = Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.CLOSING


class GatewayProtocol(HttpToolsProtocol):  # type: ignore[misc]  # untyped on our side of mypy
    """One connection."""

    def __init__(self, gate: HttpGate) -> None:
        super().__init__(gate.config, gate.state, {}, _loop=gate.loop)
        # Strict, unlike the base class: bytes after the last request of a
        # connection are an error, not another request.
        self.parser = httptools.HttpRequestParser(self)
        self.pace = Pace(gate.limits)
        self._gate, self._limits, self._plane = gate, gate.limits, gate.plane
        self.packer = gate.packer
        self._phase = _IDLE
        self._exchange: Exchange | None = None  # the one being received, if it is infer
        self._running: Exchange | None = None
        self._running_cycle: RequestResponseCycle | None = None
        self._waiting: deque[tuple[Callable[[], None], Exchange | None]] = deque()
        self._busy = False
        self._fresh = True  # no request has been seen yet
        self._repeatable = False  # the head that was parsed last may be remembered
        self._reader: BodyReader | None = None  # reads in our place
        self._write_stalled = False
        self._unread_bytes = 0  # of replies, when the client was last seen to stall
        self._begun = 0  # requests that began in the bytes read last
        self._upgrading = False
        self._method = b""

    # Connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        gate = self._gate
        gate.connections.add(self)
        gate.count()
        self.pace.deadline = gate.loop.time() + self._limits.first_byte_s
        if len(gate.connections) > self._limits.connections_max:
            self._refuse(503, "too many connections", "connections")

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.connections.discard(self)
        self._gate.count()
        self.pace.deadline = NEVER
        self._phase = _CLOSING
        self._drop_waiting()
        for exchange in (self._running, self._exchange):
            if exchange is not None:
                exchange.abandon()
        cycle = self._running_cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self._running = self._exchange = self._running_cycle = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read: in each `body_s` it has to read as fast as it must send."""
        self._write_stalled = True
        self._unread_bytes = self.transport.get_write_buffer_size()
        self.pace.deadline = self._gate.loop.time() + self._limits.body_s
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self._write_stalled = False
        self.flow.resume_writing()
        if not self._busy:
            self._next()

    # Bytes in

    def data_received(self, data: bytes) -> None:
        before = self._phase
        if before is _CLOSING:
            return
        if before is _IDLE and not self._busy and not self._write_stalled:
            matched = self._gate.heads.match(data)
            if matched is not None:
                self._receive_known(*matched, data)
                return
        self._begun = 0
        end = head_end(data) if before is _IDLE or before is _HEAD else 0
        upgraded = self._parse(data[:end]) if end else None
        exchange = self._exchange
        if end and exchange is not None and before is _IDLE:
            self._learn(exchange, data[:end])
        if upgraded is None and (exchange is None or len(data) - end > exchange.missing):
            upgraded = self._parse(data[end:], end)
            end = len(data)
        if upgraded is not None:
            # Not where it is caught: an error in what follows would have the upgrade as its cause.
            self._upgrade_ignored(data[upgraded:])
        elif self._phase is _IDLE:
            self._settled()
        elif self._phase is not _CLOSING:
            self._await_rest(data, end, before)

    def _parse(self, data: bytes, start: int = 0) -> int | None:
        """Where the parser stopped because of an upgrade; None if it took everything.

        start: where `data` begins in what was read.
        """
        if not data or self._phase is _CLOSING:
            return None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return start + int(upgrade.args[0])
        except httptools.HttpParserCallbackError as error:
            self._failed(error.__context__ or error)
        except httptools.HttpParserError:
            self._refuse(400, "Invalid HTTP request received.", "bad_request")
        return None

    def _learn(self, exchange: Exchange, head: bytes) -> None:
        """Remember a head that ended where its bytes do, and was all that they hold."""
        if self._repeatable and self._begun == 1 and not exchange.received:
            self._gate.heads.learn(head, exchange.target, exchange.head)

    def _receive_known(self, known: KnownHead, end: int, trace: bytes, data: bytes) -> None:
        """A request whose head need not be parsed, as far as it came."""
        self._fresh = False
        if self._plane.pressed and len(data) - end == known.body_bytes:
            self._busy = True  # before: it may be refused at once
            if self._gate.shedding.sheds(self, known, data, end):
                return
            self._busy = False
        exchange = Exchange(
            self, self._plane, known.target, known.head, keep_alive=True, trace=trace
        )
        if len(data) - end == known.body_bytes:
            self._busy = True
            self._running = exchange
            exchange.start(exchange.cut(data, end))
            self._settled()
            return
        self._phase = _BODY
        self._begun = 1
        self.pace.begin()
        self._exchange = exchange
        self._await_rest(data, end, _IDLE, known=True)

    def _settled(self) -> None:
        """Nothing is left unfinished."""
        if self._busy and not self._write_stalled:
            self.pace.deadline = NEVER

    def _await_rest(self, data: bytes, end: int, before: Phase, *, known: bool = False) -> None:
        """A request may not be complete; what stands behind `end` is of its body, not parsed yet.

        before: the phase when the data came. known: the parser did not see the head.
        """
        exchange = self._exchange
        if exchange is not None and exchange.missing:
            if not known:  # the parser's part is done, wherever in the body it stands
                self.parser = httptools.HttpRequestParser(self)
            if end < len(data):
                try:
                    self.pace.add_body(len(data) - end)
                    exchange.add(data, end)
                except ServeError as error:
                    self._failed(error)
                    return
            if not exchange.missing:
                self._body_complete(exchange)
                return
        if self._keeps_pace(len(data), before) and exchange is not None and exchange.missing:
            self._reader = BodyReader(self)
            self.transport.set_protocol(self._reader)

    def _keeps_pace(self, size: int, before: Phase) -> bool:
        """Whether the client may go on, which has sent so many bytes more of a request."""
        # Behind the end of another request it is not known how many of the bytes are this
        # one's: what was read with that one is not held against it.
        behind_another = self._begun > (1 if before is _IDLE else 0)
        entered = behind_another or before is not self._phase
        counted = 0 if behind_another else size
        try:
            self.pace.arrived(counted, self._phase, self._gate.loop.time(), entered=entered)
        except HeadRefused as error:
            self._failed(error)
            return False
        return True

    # What is missing of a body, read by a `BodyReader`

    def body_room(self) -> memoryview:
        assert self._exchange is not None
        return self._exchange.room

    def body_read(self, size: int) -> None:
        """So many bytes are in the room."""
        exchange = self._exchange
        assert exchange is not None
        self._begun = 0
        try:
            self.pace.add_body(size)
            exchange.filled(size)
        except ServeError as error:
            self._failed(error)
            return
        if exchange.missing:
            self._keeps_pace(size, _BODY)
        else:
            self._body_complete(exchange)

    def _read_again(self) -> None:
        """Reads are ours again."""
        if self._reader is not None:
            self._reader = None
            self.transport.set_protocol(self)

    def _body_complete(self, exchange: Exchange) -> None:
        self._read_again()
        self._exchange = None
        self._phase = _IDLE
        self._take_turn(exchange)
        self._settled()

    def _failed(self, cause: BaseException) -> None:
        if isinstance(cause, HeadRefused):
            self._refuse(cause.http_status, cause.message, cause.close_reason)
        elif isinstance(cause, ServeError):
            self._refuse(cause.http_status, cause.message, cause.reason.value)
        else:
            log.error("handling a request failed", exc_info=cause)
            self._refuse(500, "internal error", "internal")

    def _upgrade_ignored(self, rest: bytes) -> None:
        """The parser stopped behind the head; go on as if no upgrade had been asked for."""
        assert self._upgrading  # CONNECT, the other reason to stop, was refused
        self._upgrading = False
        head = without_upgrade(self._method, self.url, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(head + rest)

    # Parser callbacks

    def on_message_begin(self) -> None:
        self._phase = _HEAD
        self._fresh = False
        self._begun += 1
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.expect_100_continue = False
        self._repeatable = False
        self.pace.begin()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > self._limits.request_line_bytes_max:
            raise HeadRefused(414, "the request target is too long", "head_size")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _HEAD:  # a trailer is dropped
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        headers = self.headers
        http_version = parser.get_http_version()
        self._check_sizes(headers)
        head = read_head(headers, http_version, self._gate.tenant_header)
        length = head.content_length
        if length is not None:
            self.pace.check_length(length)
        if head.upgrade and parser.should_upgrade():
            self._upgrading, self._method = True, parser.get_method()
            return
        self._phase = _BODY
        url = self.url
        method = parser.get_method()
        target = self._gate.target(url) if method == b"POST" else None
        if target is None:
            check_target(url)
            if method == b"CONNECT":  # what follows would be no HTTP
                raise HeadRefused(405, "Method Not Allowed", "bad_request")
            self._begin_asgi(head)
            return
        keep_alive = http_version == "1.1" and parser.should_keep_alive()
        self._exchange = Exchange(self, self._plane, target, head, keep_alive, head.trace)
        self._repeatable = keep_alive and not head.expects_continue
        if head.expects_continue and not self._busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_sizes(self, headers: list[tuple[bytes, bytes]]) -> None:
        limits = self._limits
        if len(headers) > limits.headers_max:
            raise HeadRefused(431, "the request has too many headers", "head_size")
        if sum(len(name) + len(value) + 4 for name, value in headers) > limits.header_bytes_max:
            raise HeadRefused(431, "the request headers are too large", "head_size")

    def _begin_asgi(self, head: Head) -> None:
        """Let the base class build scope and cycle from what it would have seen."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = head.expects_continue
        self._exchange = None
        self.cycle = None  # the base class shall not queue: we do
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self.pace.add_chunk()

    def on_body(self, body: bytes) -> None:
        self.pace.add_body(len(body))
        if self._exchange is not None:
            self._exchange.add(body, 0)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._phase = _IDLE
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
            return
        self._exchange = None
        self._take_turn(exchange)

    # Turns

    def _take_turn(self, exchange: Exchange) -> None:
        """Run, or wait for the replies before this one."""
        if self._busy or self._write_stalled:
            self._wait(partial(self._start_infer, exchange), exchange)
        else:
            self._busy = True
            self._start_infer(exchange)

    def _wait(self, start: Callable[[], None], exchange: Exchange | None) -> None:
        """exchange: what holds a share of the budget until it starts."""
        self._waiting.append((start, exchange))
        self.flow.pause_reading()

    def _drop_waiting(self) -> None:
        """What waits will not have its turn."""
        while self._waiting:
            _, exchange = self._waiting.popleft()
            if exchange is not None:
                exchange.abandon()

    def _start_infer(self, exchange: Exchange) -> None:
        self._running = exchange
        exchange.start()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._busy or self._write_stalled:
            self._wait(partial(self._run_asgi, cycle, app), None)
        else:
            self._busy = True
            self._run_asgi(cycle, app)

    def _run_asgi(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running_cycle = cycle
        if self._plane.draining:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._running_cycle = None
        self._next()

    def refused(self, reply: bytes) -> None:
        """The request that was read last is answered with an error, and nothing else happens."""
        if not self.transport.is_closing():
            self.transport.write(reply)
            self.infer_answered(keep_alive=True)

    def infer_answered(self, keep_alive: bool) -> None:
        """The reply of the running exchange is written."""
        self._running = None
        if not keep_alive:
            self._phase = _CLOSING
            self._drop_waiting()
            self.transport.close()
            return
        self._next()

    def _next(self) -> None:
        self._busy = False
        if self.transport.is_closing() or self._write_stalled:
            return
        if self._waiting:
            self._busy = True
            start, _ = self._waiting.popleft()
            self.loop.call_soon(start)
            return
        if self._phase is _CLOSING:
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        now = self._gate.loop.time()
        if self._phase is _IDLE:
            self.pace.deadline = now + self._limits.keep_alive_s
        else:
            self.pace.resumed(now)

    # Ends

    def _refuse(self, status: int, message: str, reason: str) -> None:
        """Answer with an error after the replies still due, then hang up."""
        if self._phase is _CLOSING:
            return
        self._phase = _CLOSING
        self._read_again()
        if self._exchange is not None:
            self._exchange.abandon()
            self._exchange = None
        self._plane.metrics.closed("http", reason)
        write = partial(self._write_refusal, status, message)
        if self._busy or self._waiting:
            self._waiting.append((write, None))
            if not self._write_stalled:
                self.pace.deadline = NEVER
        else:
            self._busy = True
            write()

    def _write_refusal(self, status: int, message: str) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(error_reply(status, message, keep_alive=False))
        # Closing with unread bytes would reset the connection and could take the
        # reply with it, so the client may first finish what it is sending.
        self.pace.deadline = self._gate.loop.time() + LINGER_S
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def overdue(self) -> None:
        """The deadline of the phase has passed."""
        phase = self._phase
        if self._write_stalled and self._has_read():
            return
        if self._waiting and not self._write_stalled and phase is not _CLOSING:
            # We do not read: what is missing is not the client's fault.
            self.pace.deadline = NEVER
            return
        if self._write_stalled or phase is _CLOSING:
            self._plane.metrics.closed("http", "write_timeout" if self._write_stalled else "linger")
            self.pace.deadline = NEVER
            self.transport.abort()
        elif phase is _HEAD:
            self._refuse(408, "the request head did not arrive in time", "head_timeout")
        elif phase is _BODY:
            self._refuse(408, "the request body did not arrive in time", "body_timeout")
        else:
            reason = "first_byte_timeout" if self._fresh else "keep_alive_timeout"
            self._plane.metrics.closed("http", reason)
            self.pace.deadline = NEVER
            self.transport.close()

    def _has_read(self) -> bool:
        """Whether a stalled client has read enough to be waited for again."""
        limits = self._limits
        left: int = self.transport.get_write_buffer_size()
        enough: bool = self._unread_bytes - left >= limits.body_s * limits.body_bytes_per_s_min
        self._unread_bytes = left
        if enough:
            self.pace.deadline = self._gate.loop.time() + limits.body_s
        return enough

    def last_reply(self) -> None:
        """The reply of what is running is this connection's last."""
        if self._running is not None:
            self._running.keep_alive = False
        if self._exchange is not None:
            self._exchange.keep_alive = False
        for cycle in (self._running_cycle, self.cycle):
            if cycle is not None:
                cycle.keep_alive = False

    def close_if_idle(self) -> None:
        """Close if no request has begun to arrive and none is being answered."""
        if not self._busy and self._phase is _IDLE:
            self.transport.close()
