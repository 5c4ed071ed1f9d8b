"""Which partitions are this monitor's: membership of a consumer group, and nothing else.

The group's protocol gives out partition numbers of `predictions`; records are read by
others. A member is static: it keeps its partitions over a restart that is shorter than
the session. When partitions are given out anew, everybody's are taken first: `assigned`
is None until it is known whose they are, and the owner has REVOKE_S to hand over well.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import TimeoutError as WaitTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from eventlog.kafka.connect import client_arguments
from eventlog.kafka.event_loop import EventLoop, is_told_to_end, stop_within
from eventlog.kafka.failure import sentence
from eventlog.settings import KafkaSettings

REVOKE_S = 20.0
RETRY_S = 2.0
CLOSE_S = 5.0
COMMIT_S = 5.0
POLL_MS = 500

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """group: its name; instance: this member's, the same after a restart."""

    group: str
    instance: str
    session_s: float


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """`assigned` may be read from any thread; it is replaced whole."""

    def __init__(self, bootstrap: str, settings: KafkaSettings, topic: str, member: Member) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._topic, self._member = topic, member
        self.assigned: frozenset[int] | None = frozenset()
        self.rebalances = 0
        self.failure = ""  # why there is no membership now
        self._released = threading.Event()
        self._consumer: AIOKafkaConsumer | None = None
        self._loop = EventLoop("monitor-group")
        self._done = self._loop.submit(self._belong())

    def released(self) -> None:
        """To be called once when `assigned` is None: all that was owned may be others' now."""
        self._released.set()

    def commit(self, positions: Mapping[int, int]) -> None:
        """Show others how far this group has read; without effect on what is read.

        positions: partition number -> the offset that is read next, as Kafka counts.
        """
        if self._consumer is None or self.assigned is None:
            return
        mine = {
            TopicPartition(self._topic, number): offset
            for number, offset in positions.items()
            if number in self.assigned
        }
        with suppress(WaitTimeoutError, KafkaError, OSError, RuntimeError):
            self._loop.submit(self._commit(mine)).result(COMMIT_S)

    def close(self) -> None:
        self._released.set()
        self._loop.end(self._stop, CLOSE_S)

    # -- in the loop ---------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Any) -> None:
        had = bool(self.assigned)
        self._released.clear()
        self.assigned = None
        if revoked and had:
            await asyncio.to_thread(self._released.wait, REVOKE_S)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        consumer = self._consumer
        if consumer is not None:
            consumer.pause(*assigned)  # nothing is read here
        self.rebalances += 1
        self.assigned = frozenset(item.partition for item in assigned)

    async def _belong(self) -> None:
        while True:
            try:
                await self._join()
            except (OSError, KafkaError) as error:
                self._failed(sentence(error))
            except asyncio.CancelledError:
                if is_told_to_end():
                    raise
                self._failed("the connection to Kafka was closed")  # a task of the client's
            await self._stop()
            await asyncio.sleep(RETRY_S)

    def _failed(self, reason: str) -> None:
        if not self.failure:
            logger.warning("consumer group: %s; trying again", reason)
        self.failure = reason

    async def _join(self) -> None:
        session_ms = round(self._member.session_s * 1000)
        consumer = AIOKafkaConsumer(
            **client_arguments(self._bootstrap, self._settings),
            group_id=self._member.group,
            group_instance_id=self._member.instance,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 5,
            rebalance_timeout_ms=round(REVOKE_S * 1000) + session_ms,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            partition_assignment_strategy=(StickyPartitionAssignor,),
        )
        self._consumer = consumer
        consumer.subscribe([self._topic], listener=self)
        await consumer.start()
        while True:  # the library tells of failures, and stays a member, as long as it is asked
            await consumer.getmany(timeout_ms=POLL_MS)
            self.failure = ""

    async def _commit(self, positions: dict[TopicPartition, int]) -> None:
        if self._consumer is not None and positions:
            async with asyncio.timeout(COMMIT_S):
                await self._consumer.commit(positions)

    async def _stop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop_within(CLOSE_S / 2, consumer.stop())
