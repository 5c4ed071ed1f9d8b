"""Messages of labels on their way from a topic to the gateway, or to the dead letters.

Law: a message is done when its labels are on the gateway's disk or its letter is in the
dead-letter topic; whatever is in between when something fails is left, and comes again.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from eventlog.core.dead_letter import dead_letter, truncated
from eventlog.core.kafka_message import Message
from eventlog.core.label_message import (
    LabelMessage,
    LabelMessageError,
    parse_label_message,
    posts,
    request_body,
)
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.label_gateway import GatewayAway
from eventlog.kafka.row_topic import Publishes
from eventlog.kafka.sender import Addressed

SAID_MAX = 20  # refusals that the log tells one by one

logger = logging.getLogger(__name__)


class Gateway(Protocol):
    """The part of `LabelGateway` that is used here."""

    def post(self, model: str, body: bytes) -> str: ...


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the topic of labels, and where it is; damage: why it cannot be had."""

    partition: int
    offset: int
    message: Message
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """left: what is not done, in the order it came; problem: why; empty if all is done."""

    left: Sequence[Received]
    problem: str


Post = list[tuple[Received, LabelMessage]]


class LabelDelivery:
    """Of one topic. labels: that the gateway took; refused: messages in the dead letters;
    dropped: messages that not even the dead-letter topic takes.
    """

    def __init__(
        self, topic: str, gateway: Gateway, letters: Publishes, letters_topic: str, bytes_max: int
    ) -> None:
        """bytes_max: of a letter."""
        self._topic, self._gateway, self._letters = topic, gateway, letters
        self._letters_topic, self._bytes_max = letters_topic, bytes_max
        self.labels = self.refused = self.dropped = 0

    async def deliver(self, received: Sequence[Received]) -> Outcome:
        """Never raises for the gateway's or Kafka's sake."""
        left = {(item.partition, item.offset): item for item in received}
        try:
            for post in posts(await self._read(received, left)):
                await self._post(post, left)
        except (GatewayAway, Unavailable) as error:
            return Outcome(list(left.values()), str(error))
        return Outcome((), "")

    async def _read(
        self, received: Sequence[Received], left: dict[tuple[int, int], Received]
    ) -> Post:
        found: Post = []
        for item in received:
            try:
                if item.damage:
                    raise LabelMessageError(item.damage)
                found.append((item, parse_label_message(item.message)))
            except LabelMessageError as error:
                await self._refuse(item, str(error), left)
        return found

    async def _post(self, post: Post, left: dict[tuple[int, int], Received]) -> None:
        """All of a request's labels are taken or none, so the wrong ones are found by halves."""
        model = post[0][1].model
        body = request_body(message for _, message in post)
        problem = await asyncio.to_thread(self._gateway.post, model, body)
        if not problem:
            self.labels += sum(message.count for _, message in post)
            for item, _ in post:
                del left[item.partition, item.offset]
        elif len(post) == 1:
            await self._refuse(post[0][0], problem, left)
        else:
            middle = len(post) // 2
            await self._post(post[:middle], left)
            await self._post(post[middle:], left)

    async def _refuse(
        self, item: Received, reason: str, left: dict[tuple[int, int], Received]
    ) -> None:
        """Into the dead letters, as it was. Raises: Unavailable."""
        letter = dead_letter(item.message, self._topic, item.partition, item.offset, reason)
        problem = ""
        for bytes_max in (self._bytes_max, 0):  # then without its value
            message = Addressed(self._letters_topic, 0, truncated(letter, bytes_max))
            try:
                await self._letters.send_messages([message])
            except Unsendable as refusal:
                problem = refusal.reason
                continue
            self.refused += 1
            problem = ""
            break
        if problem:
            self.dropped += 1
        if problem or self.refused <= SAID_MAX:
            logger.warning(
                "labels in %s, partition %d, offset %d are refused: %s; the message is %s",
                *(self._topic, item.partition, item.offset, reason),
                f"dropped, for {self._letters_topic} does not take it: {problem}"
                if problem
                else f"in {self._letters_topic}",
            )
        del left[item.partition, item.offset]
