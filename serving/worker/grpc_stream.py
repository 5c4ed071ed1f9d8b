"""ModelStreamInfer: requests of one stream run side by side, replies keep their order.

Two tasks share a stream: the reader, which queues requests as they come, and the
engine's, which writes replies. `StreamWindow` decides; here is only who waits.
A read is never cancelled: grpcio hands its core a pointer into what the cancelled
await frees. The reader ends when its iterator does, which is with the call.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from serving.core.errors import Overloaded, ServeError
from serving.core.grpc_codec import stream_error, stream_reply
from serving.core.json_codec_reply import BatchOutputs
from serving.core.stream_window import Entry, Step, StreamWindow
from serving.worker.dataplane import DataPlane
from serving.worker.grpc_call import ERRORS_END, ROUTING_KEY, Call
from serving.worker.grpc_submit import parse_request, submit, trace_of
from serving.worker.task import Task

log = logging.getLogger("driftgate.serving")

# A client that always has another request on its way is read from for so long.
DRAIN_READ_S = 1.0

_left: set["asyncio.Task[Any]"] = set()


def leave(task: "asyncio.Task[Any]") -> None:
    """Let a read end with its call, and keep it until then."""
    _left.add(task)
    task.add_done_callback(_forget)


def _forget(task: "asyncio.Task[Any]") -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # the call is over, and so is what may have been wrong with it


class Slot(Entry):
    """One request of a stream: the data plane's waiter."""

    __slots__ = ("_stream", "error", "id", "reply", "task")
    protocol = "grpc"

    def __init__(self, stream: "InferStream", size: int) -> None:
        super().__init__(size)
        self._stream = stream
        self.id = ""
        self.task: Task | None = None
        self.reply = b""
        self.error: ServeError | None = None

    def routing_key(self) -> str:
        return self._stream.call.metadata(ROUTING_KEY)

    def tenant(self, header: str) -> str:
        return self._stream.call.metadata(header)

    @property
    def trace(self) -> bytes:
        return self._stream.trace

    def succeed(self, task: Task, outputs: BatchOutputs, start: int, stop: int) -> None:
        reply = task.version.grpc.encode(
            outputs, start, stop, task.envelope, task.wanted, task.prediction_id
        )
        self._settle(stream_reply(reply))

    def fail(self, error: ServeError) -> None:
        self.error = error
        self._settle(stream_error(error.message, self.id))

    def _settle(self, reply: bytes) -> None:
        self.reply = reply
        self._stream.settle(self)


class InferStream:
    """One call. Lives on the loop."""

    def __init__(self, plane: DataPlane, call: Call) -> None:
        self.call = call
        self._plane = plane
        self._loop = asyncio.get_running_loop()
        self._window: StreamWindow[Slot] = StreamWindow()
        self.trace = trace_of(call)  # of every request in it
        self._errors_end = call.metadata(ERRORS_END) == "true"
        self._reads = True
        self._room: asyncio.Future[None] | None = None  # the reader waits for it
        self._news: asyncio.Future[None] | None = None  # the writer does

    async def replies(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Serialized ModelStreamInferResponses.

        Raises: ServeError when the stream ends with one: a request's, if the
                client asked for that, or Overloaded in a drain.
        """
        leave(self._loop.create_task(self._read(requests)))
        window = self._window
        try:
            while (step := window.step()) is not Step.FINISH:
                if step is Step.WRITE:
                    slot = window.oldest
                    if slot.error is not None and self._errors_end:
                        raise slot.error
                    yield slot.reply
                    window.written()
                    _wake(self._room)
                elif step is Step.WAIT:
                    self._news = self._loop.create_future()
                    await self._news
                else:
                    raise Overloaded("the gateway drains: open the stream again elsewhere")
        finally:
            self._end()

    def settle(self, slot: Slot) -> None:
        self._window.settle(slot, len(slot.reply))
        _wake(self._news)

    def drain(self) -> None:
        """Answer what is there and what comes at once, then end."""
        self._window.draining = True
        self._loop.call_later(DRAIN_READ_S, self._stop_reading)
        _wake(self._news)

    def _stop_reading(self) -> None:
        self._reads = False
        _wake(self._room)

    def _end(self) -> None:
        self._stop_reading()
        for slot in self._window.unsettled():
            if slot.task is not None:
                slot.task.version.cancel(slot.task)

    async def _read(self, requests: AsyncIterator[bytes]) -> None:
        async for data in requests:
            if not self._reads:
                return
            self._take(data)
            while self._window.full and self._reads:
                self._room = self._loop.create_future()
                await self._room
        self._window.half_closed = True
        _wake(self._news)

    def _take(self, data: bytes) -> None:
        slot = Slot(self, len(data))
        self._window.add(slot)
        try:
            request = parse_request(self._plane, data)
            slot.id = request.envelope.id
            slot.task = submit(self._plane, request, len(data), self.call, slot)
        except ServeError as error:
            slot.fail(error)
        except Exception:
            log.exception("queueing a request failed")
            slot.fail(ServeError("internal error"))


def _wake(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class InferStreams:
    """The open streams of a worker."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._open: set[InferStream] = set()

    async def infer(
        self, requests: AsyncIterator[bytes], call: Call
    ) -> AsyncGenerator[bytes, None]:
        """ModelStreamInfer. Raises: ServeError when the stream ends with one."""
        stream = InferStream(self._plane, call)
        self._open.add(stream)
        if self._plane.draining:
            stream.drain()
        replies = stream.replies(requests)
        try:
            async for reply in replies:
                yield reply
        finally:
            self._open.discard(stream)
            await replies.aclose()

    def drain(self) -> None:
        for stream in self._open:
            stream.drain()


async def until(
    drained: asyncio.Event, requests: AsyncIterator[bytes]
) -> AsyncGenerator[bytes, None]:
    """The requests, up to the drain."""
    ended = asyncio.ensure_future(drained.wait())
    try:
        while not drained.is_set():
            read = asyncio.ensure_future(_next(requests))
            leave(read)
            await asyncio.wait({read, ended}, return_when=asyncio.FIRST_COMPLETED)
            data = read.result() if read.done() else None
            if data is None:
                return
            yield data
    finally:
        ended.cancel()


async def _next(requests: AsyncIterator[bytes]) -> bytes | None:
    return await anext(requests, None)
