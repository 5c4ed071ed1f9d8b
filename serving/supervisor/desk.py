"""Answers what workers pass on from clients: statistics, repository, settings.

One table holds the methods. An answer may take as long as a model takes to load,
so each runs in a task of its own; the worker that asked bounds how many there are.
"""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.message import DecodeError, Message

from protos import channel_pb2
from protos import inference_pb2 as pb
from serving.channel import PACKET_BYTES_MAX
from serving.core.errors import InvalidRequest, ServeError
from serving.core.message_json import to_plain
from serving.supervisor.say import say
from serving.supervisor.worker_state import Worker

_OVERHEAD_BYTES = 4096  # of a packet, beside the reply

Handler = Callable[[Any], Awaitable[Message]]
Document = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the inference service. document: its reply as a JSON value."""

    request: type[Message]
    handler: Handler
    document: Document = to_plain


class ClientDesk:
    """Owns the answers that are being worked out."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, worker: Worker, ask: channel_pb2.Ask) -> None:
        """Answer `ask` to `worker`, now or later."""
        task = asyncio.get_running_loop().create_task(self._answer(worker, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up on what is not answered; the workers say so to their clients."""
        for task in self._tasks:
            task.cancel()

    async def _answer(self, worker: Worker, ask: channel_pb2.Ask) -> None:
        try:
            reply = await self._reply(ask)
        except ServeError as error:
            _tell(worker, _refusal(ask.id, error))
        except Exception:  # a fault in one answer must not cost the others
            say(traceback.format_exc())
            _tell(worker, _refusal(ask.id, ServeError("internal error")))
        else:
            _tell_reply(worker, ask.id, reply)

    async def _reply(self, ask: channel_pb2.Ask) -> bytes:
        method = self._methods[ask.method]
        request = method.request()
        try:
            request.ParseFromString(ask.request)
        except DecodeError as error:
            raise InvalidRequest("the message is not valid protobuf of this method") from error
        reply = await method.handler(request)
        return orjson.dumps(method.document(reply)) if ask.json else reply.SerializeToString()


def index_document(reply: pb.RepositoryIndexResponse) -> list[dict[str, str]]:
    """The HTTP form is the list alone, without what is not known of a model."""
    return [
        {key: value for key, value in to_plain(entry).items() if value or key == "name"}
        for entry in reply.models
    ]


def empty_document(_: Message) -> dict[str, Any]:
    """Of a load or unload: clients look at the status alone."""
    return {}


def regions_document(reply: Any) -> list[dict[str, Any]]:
    """The HTTP form is a list."""
    return [to_plain(region) for _, region in sorted(reply.regions.items())]


def settings_document(reply: Any) -> dict[str, Any]:
    """Settings by name; each is the one value that it has, or a list of texts."""
    document = {}
    for name, setting in sorted(reply.settings.items()):
        (value,) = to_plain(setting).values() or [None]
        document[name] = value
    return document


def trace_document(reply: pb.TraceSettingResponse) -> dict[str, Any]:
    """As Triton spells it: the levels are a list, every other setting is text."""
    return {
        name: values if name == "trace_level" else "".join(values)
        for name, values in settings_document(reply).items()
    }


def _refusal(number: int, error: ServeError) -> channel_pb2.Answer:
    return channel_pb2.Answer(
        id=number,
        error=error.message,
        grpc_status=int(error.grpc_status),
        http_status=error.http_status,
    )


def _tell_reply(worker: Worker, number: int, reply: bytes) -> None:
    if len(reply) <= PACKET_BYTES_MAX - _OVERHEAD_BYTES:
        _tell(worker, channel_pb2.Answer(id=number, reply=reply))
        return
    descriptor = os.memfd_create("driftgate-answer", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(reply)
        file.flush()
        file.seek(0)
        _tell(worker, channel_pb2.Answer(id=number), file.fileno())


def _tell(worker: Worker, answer: channel_pb2.Answer, *fds: int) -> None:
    worker.tell(channel_pb2.ToWorker(answer=answer), fds)
