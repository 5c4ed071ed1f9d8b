"""Clients' questions that only the supervisor can answer: statistics, repository, settings.

They travel over the control channel, so a worker neither reads files nor renders
long replies for them, and predictions go on beside. The next supervisor does not
know what the last one was asked: a lost connection answers all that wait with
UNAVAILABLE.
"""

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Protocol

from protos import channel_pb2 as pb
from serving.core.errors import DeadlineExceeded, GrpcStatus, Overloaded, ServeError

WAITING_MAX = 64  # questions at a time; predictions have bounds of their own
ANSWER_S_MAX = 330.0  # loading a large model takes the longest


class Sender(Protocol):
    """The part of channel.Endpoint that is used here."""

    async def send(self, message: pb.FromWorker) -> None: ...


class Desk:
    """Asks, waits, and hands over the answer. Lives on the loop."""

    def __init__(self) -> None:
        self._supervisor: Sender | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._numbers = itertools.count(1)

    def attach(self, supervisor: Sender) -> None:
        self._supervisor = supervisor

    def detach(self) -> None:
        """The supervisor hung up."""
        self._supervisor = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(_away())

    async def ask(self, method: str, request: bytes, *, json: bool) -> bytes:
        """The reply to a method of the inference service.

        request: its message. json: the reply's form.
        Raises: ServeError.
        """
        if self._supervisor is None:
            raise _away()
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} questions to the gateway wait already; ask again soon")
        number = next(self._numbers)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        ask = pb.Ask(id=number, method=method, request=request, json=json)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await self._supervisor.send(pb.FromWorker(ask=ask))
                return await future
        except OSError as error:
            raise _away() from error
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {ANSWER_S_MAX:g} s") from error
        finally:
            self._waiting.pop(number, None)

    def answered(self, answer: pb.Answer, fds: Sequence[int]) -> None:
        """Take an answer and its descriptor, which is closed here."""
        reply = answer.reply
        for fd in fds:
            with os.fdopen(fd, "rb") as file:
                reply = file.read()
        future = self._waiting.pop(answer.id, None)
        if future is None or future.done():
            return
        if answer.error:
            future.set_exception(_refused(answer))
        else:
            future.set_result(reply)


def _away() -> ServeError:
    return Overloaded("the gateway's supervisor is away; predictions go on, ask again soon")


def _refused(answer: pb.Answer) -> ServeError:
    error = ServeError(answer.error)
    error.http_status = answer.http_status
    error.grpc_status = GrpcStatus(answer.grpc_status)
    return error
