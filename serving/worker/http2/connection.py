"""One connection: bytes between the transport and libnghttp2, and its calls.

Laws:
- all output of one turn of the loop leaves in one write, for all calls together, and
  none is asked of the library while the transport is full;
- bytes of messages go out of the connection's window at once, so no call holds up
  another; each call's own window is given back as its handler takes its messages;
- what costs us work and asks for no answer (resets, pings, settings, empty frames)
  is paid from a credit that calls earn and time restores; without it we hang up;
- a session that has ended is not fed any more, and none is ended inside a callback.
"""

import asyncio
from typing import Any

from serving.core.grpc_framing import Chunk
from serving.core.pace import NEVER
from serving.worker.http2.binding import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    PING,
    SETTINGS,
    HeaderList,
)
from serving.worker.http2.call import ServerCall
from serving.worker.http2.gate import Http2Gate

WRITE_BYTES = 256 * 1024  # of one write, and what the transport may hold back
CREDIT = 4000  # frames that ask for nothing
CREDIT_PER_S = 4000
CREDIT_PER_CALL = 4
RESET_COST = 10
SMALL_FRAME_BYTES = 256  # of data; smaller ones are honest only as the end of a message
LINGER_S = 2.0  # for the client to read what was last, and to hang up
PING_ACK_S = 20.0
LAST_CALLS_S = 4.0  # of a drain, for a client that does not answer its PING, or is slow to


class Connection(asyncio.BufferedProtocol):
    """One client."""

    def __init__(self, gate: Http2Gate) -> None:
        self.gate = gate
        self.session: Any = None
        self.calls: dict[int, ServerCall] = {}
        self.unsent_bytes = 0  # of replies
        # Of the header list that arrives: one at a time, as HTTP/2 has it.
        self.fields: dict[bytes, bytes] = {}
        self.field_bytes = 0
        self.field_bytes_soft, self.field_bytes_hard = gate.field_bytes_soft, gate.field_bytes_hard
        self.waits = False  # in the gate's list for the next flush
        self._lib = gate.binding.lib
        self._head_since, self._head_stream = NEVER, 0
        self._answered_early: list[int] = []
        self._received = 0  # bytes of data since the connection's window was given back
        self._credit = CREDIT
        self._greeted = False
        self._paused = False
        self._lingers = False
        self._doom = ""
        self._draining = False
        self._notice_sent = False  # when all is written: a PING is to follow it
        self._goaway_at = NEVER
        self._deadline = NEVER
        self._idle_since = self._heard_at = gate.now
        self._pinged_at = 0.0  # 0: no PING of ours is on its way
        self._unread_bytes = 0  # of the transport, when the client was last seen to stall
        self._transport: asyncio.Transport

    # Connection

    # uvloop's transports are asyncio's in all but name.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        gate = self.gate
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BYTES)
        self.session = gate.binding.new_session()
        self._deadline = gate.loop.time() + gate.plane.limits.first_byte_s
        gate.add(self)
        if len(gate.connections) > gate.plane.limits.connections_max:
            self._end("connections", ENHANCE_YOUR_CALM)
        elif gate.plane.draining:
            self.drain()
        gate.touch(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.gate.remove(self)
        self._forget()

    def _forget(self) -> None:
        """Give up all calls and the session."""
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.closed()
        session, self.session = self.session, None
        if session is not None:
            self._lib.nghttp2_session_del(session)

    def eof_received(self) -> None:
        """The client is gone, or has read our last word; the transport closes."""

    # Bytes in

    def get_buffer(self, _: int) -> memoryview:
        return self.gate.binding.input

    def buffer_updated(self, nbytes: int) -> None:
        gate, session = self.gate, self.session
        if session is None or self._lingers:
            return
        binding, lib = gate.binding, self._lib
        self._heard_at = gate.now
        binding.active = self
        taken = lib.nghttp2_session_mem_recv(session, binding.input_address, nbytes)
        if self._received:
            lib.nghttp2_session_consume_connection(session, self._received)
            self._received = 0
        if taken < 0:
            self._abort("bad_request")
        elif self._doom:
            self._end(self._doom, ENHANCE_YOUR_CALM)
        gate.touch(self)

    def begin_headers(self, stream_id: int) -> None:
        call = self.calls.get(stream_id)
        self.field_bytes = 0
        self._head_since, self._head_stream = self.gate.now, stream_id
        if call is None:
            call = self.calls[stream_id] = ServerCall(self, stream_id)
            self.fields = call.fields
        else:
            self.fields = {}  # trailers, which say nothing to us

    def end_headers(self, stream_id: int, ends: int) -> None:
        self._head_since = NEVER
        call = self.calls[stream_id]
        if self.fields is call.fields:
            call.begin(self.field_bytes)
        if ends:
            call.half_close()

    def data(self, stream_id: int, chunk: Chunk, ends: int) -> None:
        self._received += len(chunk)
        call = self.calls.get(stream_id)
        if call is not None:
            size = call.data(chunk, last=bool(ends))
            if size:
                self._lib.nghttp2_session_consume_stream(self.session, stream_id, size)

    def half_closed(self, stream_id: int) -> None:
        call = self.calls.get(stream_id)
        if call is not None:
            call.half_close()

    def small_frame(self, size: int) -> None:
        """A DATA frame that ends nothing."""
        if size < SMALL_FRAME_BYTES:
            self._spend(1)

    def control_frame(self, kind: int, ack: int) -> None:
        if kind == SETTINGS:
            if not self._greeted:
                self._greeted = True
                self._deadline = NEVER
        elif kind == PING and ack:
            self._pinged_at = 0.0
            if self._draining:
                self._goaway_at = 0.0
            return
        self._spend(1)

    def stream_closed(self, stream_id: int, error_code: int) -> None:
        if stream_id == self._head_stream:  # its head was too large, or against the rules
            self._head_since = NEVER
        call = self.calls.pop(stream_id, None)
        if call is None:
            return
        if error_code != NO_ERROR:
            self._spend(RESET_COST)
        elif self._credit < CREDIT:
            self._credit += CREDIT_PER_CALL
        call.closed()
        if not self.calls:
            self._idle_since = self.gate.now

    def message_came(self) -> None:
        """A message of a stream pays for its frame."""
        self._credit += 1

    def _spend(self, cost: int) -> None:
        self._credit -= cost
        if self._credit < 0:
            self._doom = "flood"

    # Bytes out

    def respond(self, stream_id: int, head: HeaderList) -> None:
        self._lib.nghttp2_submit_response(
            self.session, stream_id, head.array, head.size, self.gate.binding.provider
        )
        self.gate.touch(self)

    def respond_last(self, stream_id: int, head: HeaderList) -> None:
        """A reply that is nothing but a head; the rest of the request is not wanted."""
        self._lib.nghttp2_submit_response(
            self.session, stream_id, head.array, head.size, self.gate.binding.ffi.NULL
        )
        if not self.calls[stream_id].half_closed:
            self.answered_early(stream_id)
        self.gate.touch(self)

    def answered_early(self, stream_id: int) -> None:
        """The status is queued, and the client is still sending: it need not go on.

        The library drops what is queued for a stream that it is told to reset, so that
        is done when all has been sent.
        """
        self._answered_early.append(stream_id)

    def resume(self, stream_id: int) -> None:
        """A reply has more to send, or has ended."""
        self._lib.nghttp2_session_resume_data(self.session, stream_id)
        self.gate.touch(self)

    def give_back(self, stream_id: int, size: int) -> None:
        self._lib.nghttp2_session_consume_stream(self.session, stream_id, size)
        self.gate.touch(self)

    def reset(self, stream_id: int) -> None:
        self._lib.nghttp2_submit_rst_stream(self.session, 0, stream_id, CANCEL)
        self.gate.touch(self)

    def flush(self) -> None:
        """Write what the library has to say."""
        binding, lib, session = self.gate.binding, self._lib, self.session
        send, output, buffer = lib.nghttp2_session_mem_send, binding.output, binding.ffi.buffer
        if self._lingers or self._transport.is_closing():
            return
        binding.active = self
        while not self._paused and session is not None:
            data = bytearray()
            while (size := send(session, output)) > 0:
                data += buffer(output[0], size)
                if len(data) >= WRITE_BYTES:
                    break
            if data:
                self._transport.write(data)
            if size > 0:
                continue
            if size == 0 and (self._answered_early or self._notice_sent):
                self._follow_up()
                continue
            if size < 0:
                self._abort("internal")
            elif not lib.nghttp2_session_want_read(session):
                self._hang_up()
            break

    def _follow_up(self) -> None:
        """What the library would send before, or instead of, what has been sent now."""
        if self._notice_sent:
            self._notice_sent = False
            self._lib.nghttp2_submit_ping(self.session, 0, self.gate.binding.ffi.NULL)
        for stream_id in self._answered_early:
            if stream_id in self.calls:
                self._lib.nghttp2_submit_rst_stream(self.session, 0, stream_id, NO_ERROR)
        self._answered_early.clear()

    def pause_writing(self) -> None:
        """The client does not read: in each `body_s` it has to read as fast as it must send."""
        self._paused = True
        self._unread_bytes = self._transport.get_write_buffer_size()
        self._deadline = self.gate.loop.time() + self.gate.plane.limits.body_s

    def resume_writing(self) -> None:
        self._paused = False
        if not self._lingers:
            self._deadline = NEVER
        self.gate.touch(self)

    # Ends

    def drain(self) -> None:
        """Tell the client to go elsewhere; what it sends before it has heard is served.

        The PING comes behind the notice, so its answer says that the notice was heard.
        """
        if self._draining or self.session is None:
            return
        self._draining = True
        self._goaway_at = self.gate.loop.time() + LAST_CALLS_S
        self._lib.nghttp2_submit_shutdown_notice(self.session)
        self._notice_sent = True
        self.gate.touch(self)

    def _go_away(self) -> None:
        """No more calls: those that have begun are answered, then we hang up."""
        self._goaway_at = NEVER
        lib, session = self._lib, self.session
        last = lib.nghttp2_session_get_last_proc_stream_id(session)
        lib.nghttp2_submit_goaway(session, 0, last, NO_ERROR, self.gate.binding.ffi.NULL, 0)
        self.gate.touch(self)

    def _end(self, reason: str, error_code: int) -> None:
        """Say why, and hang up. Calls in flight are given up."""
        self._doom = ""
        self.gate.plane.metrics.closed("grpc", reason)
        self._lib.nghttp2_session_terminate_session(self.session, error_code)
        self.gate.touch(self)

    def _hang_up(self) -> None:
        """Nothing more is to be said or heard.

        Closing with unread bytes would reset the connection and could take the last
        reply with it, so the client is to hang up first.
        """
        self._lingers = True
        self._deadline = self.gate.loop.time() + LINGER_S
        calls, self.calls = self.calls, {}
        for call in calls.values():
            call.closed()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _abort(self, reason: str) -> None:
        self.gate.plane.metrics.closed("grpc", reason)
        self._transport.abort()

    def abort(self) -> None:
        """End it, whatever is under way."""
        self._transport.abort()

    def look(self, now: float) -> None:
        """Hold the client to its deadlines; called a few times a second."""
        if self.session is None:
            return
        if now >= self._deadline:
            self._overdue(now)
            return
        if self._lingers:
            return
        limits = self.gate.plane.limits
        self._credit = min(CREDIT, self._credit + int(CREDIT_PER_S * self.gate.sweep_s))
        for call in list(self.calls.values()):
            call.look(now)
        if now >= self._goaway_at:
            self._go_away()
        elif now - self._head_since > limits.header_s:
            self._end("head_timeout", NO_ERROR)
        elif self._pinged_at:
            if now - self._pinged_at > PING_ACK_S:
                self._abort("ping_timeout")
        elif not self.calls and self.gate.crowded and now - self._idle_since > limits.keep_alive_s:
            self.drain()
        elif now - self._heard_at > limits.keep_alive_s:
            self._pinged_at = now
            self._lib.nghttp2_submit_ping(self.session, 0, self.gate.binding.ffi.NULL)
            self.gate.touch(self)

    def _overdue(self, now: float) -> None:
        limits = self.gate.plane.limits
        if self._paused and not self._lingers:
            left = self._transport.get_write_buffer_size()
            if self._unread_bytes - left >= limits.body_s * limits.body_bytes_per_s_min:
                self._unread_bytes, self._deadline = left, now + limits.body_s
                return
            self._abort("write_timeout")
        elif self._lingers:
            self._abort("linger")
        else:
            self._abort("first_byte_timeout")
