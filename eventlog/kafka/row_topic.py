"""Publishing the events of rows, beside the records and never in their way.

Laws:
- they have a producer of their own, so that whatever is wrong with their topic
  touches no record;
- a topic that does not take them costs at most a tenth of the shipper's time; what it
  does not get meanwhile is counted, and not made.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from eventlog.core.record import Record
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.row_events import RETRY_S, RowEvents
from eventlog.kafka.sender import Addressed

SHARE = 10  # of the time that a failure took, until the next try

logger = logging.getLogger(__name__)


class Publishes(Protocol):
    """The part of `Sender` that is used here."""

    async def send_messages(self, messages: Sequence[Addressed]) -> None: ...
    async def close(self, timeout_s: float) -> None: ...


class RowTopic:
    """Of one shipper."""

    def __init__(
        self,
        events: RowEvents,
        outlet: Publishes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self._outlet, self._clock = events, outlet, clock
        self._retry_at = float("-inf")
        self._said = False

    @property
    def left_out(self) -> int:
        """Events that the topic did not get."""
        return self._events.left_out

    async def publish(self, records: Sequence[Record]) -> None:
        """Send the rows of records that are in Kafka already; never raises for Kafka's sake."""
        for record in records:  # one by one: JSON is many times the size of a record
            if self._clock() < self._retry_at:
                await asyncio.to_thread(self._events.leave_out, record)
                continue
            messages = await asyncio.to_thread(self._events.messages, record)
            if messages and not await self._send(
                [Addressed(self._events.topic, None, message) for message in messages]
            ):
                self._events.left_out += len(messages)

    async def _send(self, messages: list[Addressed]) -> bool:
        began = self._clock()
        try:
            await self._outlet.send_messages(messages)
        except (Unavailable, Unsendable) as error:
            if not self._said:
                logger.warning("rows are left out: %s; records go on, trying again", error)
            self._said = True
            now = self._clock()
            self._retry_at = now + max(RETRY_S, SHARE * (now - began))
            return False
        self._said = False
        return True

    async def close(self, timeout_s: float) -> None:
        await self._outlet.close(timeout_s)
