"""A connection of the nghttp2 engine without a socket: frames in, frames out.

Library, binding, connection and calls are the real ones. Behind them are three
methods, one of each kind, which answer with what they were asked.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

from serving.core.errors import InvalidRequest
from serving.nghttp2 import find
from serving.settings import LimitSettings
from serving.worker.grpc_call import METADATA_BYTES, METADATA_KEYS, Call, Reply
from serving.worker.http2.binding import Binding
from serving.worker.http2.connection import Connection
from serving.worker.http2.gate import Http2Gate
from serving.worker.reply_packer import ReplyPacker
from tests.fuzz.connection import LOOP, Transport, turns, without_complaint
from tests.http2_frames import Answers

MESSAGE_BYTES_MAX = 4096
BEGIN, UNARY, STREAM = "/s/Begin", "/s/Unary", "/s/Stream"


class Wire(Transport):
    """A transport that is full now and then."""

    def set_write_buffer_limits(self, high: int) -> None: ...


@cache
def _binding() -> Binding:
    return Binding(find(), METADATA_BYTES[1])


class World:
    """A gate, and the count of what its calls hold."""

    def __init__(self) -> None:
        self.waiting = self.held_bytes = 0
        ignore = lambda *_: None  # noqa: E731
        plane: Any = SimpleNamespace(
            limits=LimitSettings(),
            message_bytes_max=MESSAGE_BYTES_MAX,
            draining=False,
            metrics=SimpleNamespace(
                closed=ignore, connections_of=lambda _: SimpleNamespace(set=ignore)
            ),
            admission=SimpleNamespace(hold_bytes=self._hold, free_bytes=self._free),
        )
        methods: Any = {
            BEGIN.encode(): (self._begin, None, None),
            UNARY.encode(): (None, self._unary, None),
            STREAM.encode(): (None, None, self._stream),
        }
        binding = _binding()
        packer = ReplyPacker(LOOP, 64)
        self.gate = Http2Gate(LOOP, plane, binding, methods, packer, packs_replies=True)

    def exchange(self, pieces: Sequence[bytes]) -> Answers:
        """What a connection says to these pieces, each read at once."""
        transport: Any = Wire()
        connection = Connection(self.gate)
        said = Answers()
        try:
            with without_complaint():
                LOOP.run_until_complete(self._drive(connection, transport, pieces))
            for _ in said.feed(bytes(transport.written)):
                pass
        finally:
            said.close()
        assert self.waiting == 0, "a call was neither answered nor withdrawn"
        assert self.held_bytes == 0, "bytes of the budget are not given back"
        assert connection.unsent_bytes == 0
        assert not connection.calls
        assert not self.gate.connections
        assert self.gate.idle
        return said

    async def _drive(self, connection: Connection, transport: Any, pieces: Sequence[bytes]) -> None:
        transport.set_protocol(connection)
        connection.connection_made(transport)
        for turn, piece in enumerate(pieces):
            if transport.closing:
                break
            full = turn % 3 == 2
            if full:
                connection.pause_writing()
            transport.deliver(piece)
            await turns()
            if full:
                connection.resume_writing()
                await turns()
        connection.look(self.gate.now + 1)
        await turns()
        connection.connection_lost(None)
        await turns()

    def _hold(self, size: int) -> None:
        self.held_bytes += size

    def _free(self, size: int) -> None:
        self.held_bytes -= size

    def _begin(self, data: bytes, call: Call, reply: Reply) -> Callable[[], None]:
        _check(data)
        asked = b"".join(call.metadata(key).encode() for key in METADATA_KEYS)
        self.waiting += 1
        open_ = [True]

        def done() -> None:
            if open_:
                open_.clear()
                self.waiting -= 1

        def answer() -> None:
            if open_:
                done()
                reply.succeed(data + asked)

        LOOP.call_soon(answer)
        return done

    async def _unary(self, data: bytes, _: Call) -> bytes:
        _check(data)
        await asyncio.sleep(0)
        return data

    async def _stream(self, requests: AsyncIterator[bytes], _: Call) -> AsyncGenerator[bytes, None]:
        self.waiting += 1
        try:
            async for data in requests:
                _check(data)
                yield data
        finally:
            self.waiting -= 1


def _check(data: bytes) -> None:
    """Raises: InvalidRequest for some."""
    if data[:1] == b"!":
        raise InvalidRequest("é % \n" + data.decode("latin-1"))
