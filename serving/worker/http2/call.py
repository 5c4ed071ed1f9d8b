"""One call over HTTP/2: its head, its messages as they come, its reply.

States: the head arrives; messages arrive until the client has half-closed; the
reply is queued (`finished`: the status stands); the stream is closed. A call that
is closed before it was finished has been given up by its client, and what it asked
for is withdrawn. A refused call may still be sending: its stream is reset behind
the status.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from serving.core.content_coding import PLAIN_ONLY
from serving.core.errors import (
    DeadlineExceeded,
    GrpcStatus,
    Overloaded,
    ServeError,
    TooLarge,
    Unsupported,
    shown,
)
from serving.core.grpc_framing import (
    PREFIX_BYTES,
    Chunk,
    MessageReader,
    check_size,
    is_grpc,
    message_coding,
    percent_encoded,
    prefix,
    prefixed,
    reply_coding,
    timeout_ns,
)
from serving.core.pace import NEVER
from serving.worker.grpc_call import METADATA_KEYS, RETRY_PUSHBACK_MS, Method, Stream, Unary
from serving.worker.http2.binding import HeaderList
from serving.worker.http2.gate import Http2Gate

log = logging.getLogger("driftgate.serving")

# Replies of one stream that its client has not taken; beyond it the handler waits.
UNSENT_BYTES_MAX = 256 * 1024
_KEYS = {key: key.encode() for key in METADATA_KEYS}
RETRY_PUSHBACK = (b"grpc-retry-pushback-ms", RETRY_PUSHBACK_MS.encode())
# Up to here a copy costs less than a second piece would.
JOIN_BYTES_MAX = 64 * 1024


class Wire(Protocol):
    """The connection, as its calls use it."""

    unsent_bytes: int  # of replies

    @property
    def gate(self) -> Http2Gate: ...
    @property
    def calls(self) -> Mapping[int, object]:
        """Those whose streams are open."""
        ...

    def message_came(self) -> None: ...
    def give_back(self, stream_id: int, size: int) -> None: ...
    def respond(self, stream_id: int, head: HeaderList) -> None: ...
    def respond_last(self, stream_id: int, head: HeaderList) -> None: ...
    def resume(self, stream_id: int) -> None: ...
    def reset(self, stream_id: int) -> None: ...


class ServerCall:
    """A call, as handlers see it (`grpc_call.Call`) and as its reply (`grpc_call.Reply`)."""

    __slots__ = (
        "_accepts", "_connection", "_headed", "_held", "_message", "_messages", "_method",
        "_reader", "_received", "_requests", "_room", "_task", "_unsent", "_withdraw", "began",
        "deadline", "fields", "finished", "half_closed", "moved", "pieces", "stream_id", "trailers",
    )  # fmt: skip

    def __init__(self, connection: Wire, stream_id: int) -> None:
        self._connection, self.stream_id = connection, stream_id
        self.fields: dict[bytes, bytes] = {}
        self.half_closed = False  # the client has sent all
        self.finished = False
        self.deadline = NEVER  # of the loop's clock
        self.began = self.moved = connection.gate.now  # when it began; when a reply last moved
        self.pieces: list[bytes | memoryview] = []  # of replies, not yet sent
        self.trailers: HeaderList | None = None
        self._method: Method | None = None
        self._reader: MessageReader | None = None
        self._message: bytes | None = None  # the only one, of a unary call
        self._messages = 0
        self._received = 0
        self._held = 0  # bytes of the budget that an unfinished message takes
        self._unsent = 0
        self._headed = False  # the head of the reply is queued
        self._accepts = PLAIN_ONLY
        self._withdraw: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._requests: Requests | None = None
        self._room: asyncio.Future[None] | None = None

    # What handlers ask

    def metadata(self, name: str) -> str:
        value = self.fields.get(_KEYS.get(name) or name.encode())  # the other names tenants
        return "" if value is None else value.decode("latin-1")

    def left_ns(self) -> int:
        if self.deadline == NEVER:
            return 0
        left_s = self.deadline - self._connection.gate.loop.time()
        if left_s <= 0:
            raise DeadlineExceeded("the deadline of the call has passed")
        return int(left_s * 1e9)

    # The request

    def begin(self, field_bytes: int) -> None:
        """The head has come. field_bytes: of all of it."""
        fields, gate = self.fields, self._connection.gate
        if field_bytes > gate.field_bytes_soft:  # first, since not all fields were kept
            limit = gate.field_bytes_soft
            self.fail(TooLarge(f"metadata of {field_bytes} bytes exceeds the limit of {limit}"))
        elif fields.get(b":method") != b"POST":
            self._finish_http(b"405", (b"allow", b"POST"))
        elif not is_grpc(fields.get(b"content-type", b"")):
            self._finish_http(b"415")
        else:
            try:
                self._begin(fields)
            except ServeError as error:
                self.fail(error)

    def _begin(self, fields: dict[bytes, bytes]) -> None:
        gate = self._connection.gate
        path = fields[b":path"]
        method = gate.methods.get(path)
        if method is None:
            raise Unsupported(f"there is no method '{shown(path.decode('latin-1'))}'")
        self._method = method
        if b"grpc-timeout" in fields:
            self.deadline = gate.loop.time() + timeout_ns(fields[b"grpc-timeout"]) / 1e9
        if b"grpc-encoding" in fields:
            coding = message_coding(fields[b"grpc-encoding"])
            if coding:
                self._reader = MessageReader(gate.message_bytes_max, coding, gate.binding.allocate)
        if gate.packs_replies:
            self._accepts = reply_coding(fields.get(b"grpc-accept-encoding", b""))
        if self._connection.unsent_bytes > gate.unsent_bytes_max:
            raise Overloaded("this connection has replies that were not read; read them first")
        stream = method[2]
        if stream is not None:
            self._requests = Requests(self)
            self._start(self._run_stream(stream, self._requests))

    def data(self, chunk: Chunk, *, last: bool) -> int:
        """Take bytes of messages; how many of them the client may replace at once."""
        size = len(chunk)
        if self.finished:
            return size
        requests = self._requests
        try:
            if (
                self._reader is None
                and size >= PREFIX_BYTES
                and chunk[:PREFIX_BYTES] == prefix(size - PREFIX_BYTES)
            ):  # the usual case: one whole message
                check_size(size - PREFIX_BYTES, self._connection.gate.message_bytes_max)
                self._arrived(chunk[PREFIX_BYTES:])
            else:
                self._data_in_parts(chunk)
        except ServeError as error:
            self.fail(error)
            return size
        if last:
            return 0
        return size if requests is None else requests.admits(size)

    def _data_in_parts(self, chunk: Chunk) -> None:
        gate = self._connection.gate
        reader = self._reader
        if reader is None:
            reader = self._reader = MessageReader(gate.message_bytes_max, "", gate.binding.allocate)
        if reader.between_messages:  # the first piece of a message is free, as over HTTP
            self.began, self._received = gate.now, 0
        else:
            gate.plane.admission.hold_bytes(len(chunk))
            self._held += len(chunk)
        self._received += len(chunk)
        for message in reader.feed(chunk):
            if self._requests is not None:
                self._release()
            self._arrived(message)

    def _arrived(self, message: bytes) -> None:
        self._messages += 1
        if self._requests is not None:
            self._requests.put(message)
            self._connection.message_came()
        elif self._messages == 1:
            self._message = message
        else:
            raise ServeError("a unary call has one request message, got another")

    def half_close(self) -> None:
        """The client has sent all."""
        self.half_closed = True
        if self.finished:
            return
        if self._reader is not None and not self._reader.between_messages:
            self.fail(ServeError("the call ended in the middle of a message"))
        elif self._requests is not None:
            self._requests.end()
        elif self._message is None:
            self.fail(ServeError("a unary call has one request message, got none"))
        else:
            self._dispatch(self._message)

    def _dispatch(self, message: bytes) -> None:
        assert self._method is not None
        self._message = None
        self._release()
        begin, unary, _ = self._method
        if begin is not None:
            try:
                self._withdraw = begin(message, self, self)
            except Exception as error:
                self.fail(error)
        else:
            assert unary is not None
            self._start(self._run_unary(unary, message))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._connection.gate.run(work)

    async def _run_unary(self, handler: Unary, message: bytes) -> None:
        try:
            reply = await handler(message, self)
        except Exception as error:
            self.fail(error)
        else:
            self.succeed(reply)

    async def _run_stream(self, handler: Stream, requests: "Requests") -> None:
        try:
            async with aclosing(handler(requests, self)) as replies:
                async for reply in replies:
                    await self._write(reply)
        except Exception as error:
            self.fail(error)
        else:
            self._finish(self._connection.gate.binding.ok)

    def give_back(self, size: int) -> None:
        """Let the client send so many bytes more."""
        if not self.half_closed and not self.finished:
            self._connection.give_back(self.stream_id, size)

    # The reply

    def succeed(self, reply: bytes) -> None:
        """The reply of a unary call."""
        if self.finished:
            return
        self.finished = True
        self._withdraw = self._task = None
        gate, accepts = self._connection.gate, self._accepts
        if accepts.coding and gate.packer.takes(len(reply), accepts):
            gate.packer.send(reply, accepts, self._answer)
        else:
            self._answer(reply, "")

    def _answer(self, reply: bytes, coding: str) -> None:
        if self.stream_id not in self._connection.calls:
            return  # closed while it was packed
        self.trailers = self._connection.gate.binding.ok
        self._queue(reply, packed=bool(coding))
        self._respond(coding)

    async def _write(self, reply: bytes) -> None:
        """One of a stream's replies; waits while its client does not read."""
        gate, accepts = self._connection.gate, self._accepts
        coding = ""
        if accepts.coding and gate.packer.takes(len(reply), accepts):
            reply, coding = await gate.packed(reply, accepts)
        if self.finished:
            return
        self._queue(reply, packed=bool(coding))
        if self._headed:
            self._connection.resume(self.stream_id)
        else:
            self._respond(accepts.coding)
        while self._unsent > UNSENT_BYTES_MAX:
            self._room = gate.loop.create_future()
            await self._room

    def _queue(self, reply: bytes, *, packed: bool) -> None:
        if len(reply) <= JOIN_BYTES_MAX:
            self.pieces.append(prefixed(reply, packed=packed))
        else:
            self.pieces += [prefix(len(reply), packed=packed), reply]
        size = len(reply) + PREFIX_BYTES
        self._unsent += size
        connection = self._connection
        connection.unsent_bytes += size
        self.moved = connection.gate.now

    def _respond(self, coding: str) -> None:
        self._headed = True
        self._connection.respond(self.stream_id, self._connection.gate.binding.heads[coding])

    def sent(self, size: int) -> None:
        """So many bytes of replies have left."""
        self._unsent -= size
        connection = self._connection
        connection.unsent_bytes -= size
        self.moved = connection.gate.now
        if self._unsent <= UNSENT_BYTES_MAX:
            _wake(self._room)

    def fail(self, error: Exception) -> None:
        """End the call with an error; the one place where errors become statuses."""
        if self.finished:
            return
        if not isinstance(error, ServeError):
            log.error("a call failed", exc_info=error)
            error = ServeError("internal error")
        pairs = [
            (b"grpc-status", b"%d" % error.grpc_status),
            (b"grpc-message", percent_encoded(error.message)),
        ]
        if error.grpc_status is GrpcStatus.UNAVAILABLE:
            pairs.append(RETRY_PUSHBACK)
        binding = self._connection.gate.binding
        if self._headed:
            self._finish(HeaderList(binding.ffi, pairs))
        else:
            self.finished = True
            self._abandon()
            self._connection.respond_last(self.stream_id, binding.failed_only(pairs))

    def _finish(self, trailers: HeaderList) -> None:
        if self.finished:
            return
        self.finished = True
        self._abandon()
        self.trailers = trailers
        if self._headed:
            self._connection.resume(self.stream_id)
        else:
            self._respond("")

    def _finish_http(self, status: bytes, *extra: tuple[bytes, bytes]) -> None:
        """Answer what is no gRPC."""
        self.finished = True
        binding = self._connection.gate.binding
        pairs = HeaderList(binding.ffi, [(b":status", status), *extra])
        self._connection.respond_last(self.stream_id, pairs)

    # Ends

    def closed(self) -> None:
        """The stream is gone, answered or not."""
        if self.finished and not self._unsent:
            return  # the usual end: nothing is left to be given up
        self._connection.unsent_bytes -= self._unsent
        self._unsent = 0
        self.pieces.clear()
        _wake(self._room)
        self.finished = True
        self._abandon()

    def _abandon(self) -> None:
        """Nobody waits for what was asked."""
        self._release()
        self._message = self._reader = None
        if self._requests is not None:
            self._requests.drop()
        withdraw, self._withdraw = self._withdraw, None
        if withdraw is not None:
            withdraw()
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    def _release(self) -> None:
        if self._held:
            self._connection.gate.plane.admission.free_bytes(self._held)
            self._held = 0

    def look(self, now: float) -> None:
        """End what has taken too long; called a few times a second."""
        if self._unsent and self._requests is None:
            # A stream's client may read as slowly as it likes: its handler waits for it.
            if now - self.moved > self._connection.gate.plane.limits.body_s:
                self._connection.reset(self.stream_id)
        elif self.finished:
            return
        elif now >= self.deadline:
            self.fail(DeadlineExceeded("the deadline of the call has passed"))
        elif self._is_owed(now):
            self.fail(DeadlineExceeded("the request message did not arrive in time"))

    def _is_owed(self, now: float) -> bool:
        """Whether the client has been in the middle of a message for too long."""
        if self.half_closed:
            return False
        if self._requests is not None:
            if self._reader is None or self._reader.between_messages:
                return False
            if self._requests.withheld:  # we keep it waiting
                self.began, self._received = now, 0
                return False
        limits = self._connection.gate.plane.limits
        return now - self.began > limits.body_s + self._received / limits.body_bytes_per_s_min


class Requests:
    """The messages of a stream that its handler has not taken: an async iterator.

    While one waits, what has come of the stream's window is not given back, so a
    client that is faster than its handler waits for it.
    """

    __slots__ = ("_call", "_ended", "_waiting", "_wanted", "withheld")

    def __init__(self, call: ServerCall) -> None:
        self._call = call
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self._wanted: asyncio.Future[None] | None = None
        self.withheld = 0  # bytes of the window

    def put(self, message: bytes) -> None:
        self._waiting.append(message)
        _wake(self._wanted)

    def admits(self, size: int) -> int:
        """How many of `size` bytes that came the client may replace at once."""
        if self._waiting:
            self.withheld += size
            return 0
        return size

    def end(self) -> None:
        """No more will come; what waits can still be had."""
        self._ended = True
        _wake(self._wanted)

    def drop(self) -> None:
        """The call is over."""
        self._waiting.clear()
        self.end()

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> bytes:
        waiting = self._waiting
        while not waiting:
            if self._ended:
                raise StopAsyncIteration
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        message = waiting.popleft()
        if not waiting and self.withheld:
            size, self.withheld = self.withheld, 0
            self._call.give_back(size)
        return message


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
