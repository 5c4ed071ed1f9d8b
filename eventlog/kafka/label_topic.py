"""The topic that applications write labels to: read as a group, taken to the gateway.

Laws:
- a position is committed when everything before it is done (see `LabelDelivery`). Killed
  anywhere, or with its partitions given to another, what was done comes again: a label
  that came twice counts once, from here as from anywhere;
- whatever fails is said once and tried again with growing pauses; no prediction and no
  record of the log waits for it;
- a batch that cannot be unpacked is asked for twice and then passed over, with a letter.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    KafkaError,
    UnsupportedCodecError,
)

from eventlog.core.kafka_message import Message
from eventlog.core.record import LogError
from eventlog.kafka.cluster import Cluster
from eventlog.kafka.connect import client_arguments, explain
from eventlog.kafka.event_loop import is_told_to_end, stop_within
from eventlog.kafka.failure import Unavailable, sentence
from eventlog.kafka.feed import Damaged, Feed, message_of
from eventlog.kafka.figures import Figures
from eventlog.kafka.label_delivery import LabelDelivery, Received
from eventlog.settings import KafkaSettings

POLL_MS = 500
POLL_MESSAGES = 1000
PARTITION_BYTES = 1024 * 1024  # read ahead of each partition; a larger message comes alone
TOTAL_BYTES = 8 * 1024 * 1024
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
LOOK_S = 10.0  # how soon it is noticed, where nothing comes, that topic or brokers are gone
PATIENCE = 3.0  # request timeouts for what the library tries again without an end
STOP_S = 2.0
REASONS_MAX = 8  # that are said of one absence

logger = logging.getLogger(__name__)


class LabelTopic(ConsumerRebalanceListener):  # type: ignore[misc]
    """For one event loop; says how it stands in the shipper's figures."""

    def __init__(
        self,
        bootstrap: str,
        settings: KafkaSettings,
        delivery: LabelDelivery,
        figures: Figures,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._topic, self._group = settings.labels_topic, f"{settings.namespace}-labels"
        self._patience_s = PATIENCE * settings.request_timeout_s
        self._delivery, self._figures, self._clock = delivery, figures, clock
        self._before = (figures.labels, figures.labels_refused, figures.labels_dropped)
        self._cluster: Cluster | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._next: dict[TopicPartition, int] = {}  # the offset that is to come
        self._done: dict[TopicPartition, int] = {}  # positions that are to be committed
        self._left: set[TopicPartition] = set()  # where something waits for another try
        self._suspect = False  # whether something could not be unpacked
        self._failures = 0
        self._reasons: set[str] = set()
        figures.labels_away_since_ns, figures.labels_away, figures.labels_lag = 0, "", 0

    async def run(self) -> None:
        """Until cancelled; in an `EventLoop`, whose end is sure."""
        try:
            while True:
                try:
                    await self._session()
                except LogError as error:
                    self._away(str(error))
                except asyncio.CancelledError:
                    if is_told_to_end():
                        raise
                    self._away(f"topic {self._topic}: the connection was lost")  # a task within
                except Exception as error:  # codecs raise what they like for bytes that are wrong
                    self._suspect = self._suspect or _is_of_bytes(error)
                    self._away(f"topic {self._topic}: {sentence(error)}")
                await self._close()
                await self._pause()
        finally:
            await self._close()

    async def _session(self) -> None:
        """One consumer, until something fails."""
        await self._look()
        consumer = await self._join()
        looked_at = time.monotonic()
        while True:
            if self._suspect:
                await self._pass_over_damage(consumer)
            async with asyncio.timeout(self._patience_s):
                batch = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_MESSAGES)
            if batch:
                await self._note_expired(consumer, batch)
                await self._take(consumer, [_received(x) for item in batch.values() for x in item])
            elif time.monotonic() - looked_at > LOOK_S:
                await self._look()
                looked_at = time.monotonic()
            if not batch and not self._left & consumer.assignment():
                self._answers()
            await self._commit(consumer)
            self._tell(consumer)

    async def _look(self) -> None:
        """The consumer does not tell of a topic that is not there, or has it made.

        Raises: Unavailable.
        """
        if self._cluster is None:
            self._cluster = Cluster(self._bootstrap, self._settings)
        if self._topic not in await self._cluster.partitions([self._topic]):
            raise Unavailable(f"topic {self._topic} does not exist; `driftgate log init` makes it")

    async def _join(self) -> AIOKafkaConsumer:
        try:
            self._consumer = consumer = AIOKafkaConsumer(
                **client_arguments(self._bootstrap, self._settings),
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # also what was written before we first came
                isolation_level="read_committed",
                max_partition_fetch_bytes=PARTITION_BYTES,
                fetch_max_bytes=TOTAL_BYTES,
                partition_assignment_strategy=(StickyPartitionAssignor,),
            )
            consumer.subscribe([self._topic], listener=self)
            async with asyncio.timeout(self._patience_s):
                await consumer.start()
        except (OSError, KafkaError) as error:
            raise Unavailable(await explain(self._bootstrap, self._settings, error)) from error
        return consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:  # noqa: ARG002
        """Another may go on with them, from what was committed."""
        self._forget()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Nothing to be done: the library begins where the group was."""

    async def _take(self, consumer: AIOKafkaConsumer, received: Sequence[Received]) -> None:
        outcome = await self._delivery.deliver(received)
        assigned = consumer.assignment()
        ends = {item.partition: item.offset + 1 for item in received}
        first_left: dict[int, int] = {}
        for item in outcome.left:
            first_left.setdefault(item.partition, item.offset)
        for number, end in ends.items():
            partition = TopicPartition(self._topic, number)
            if partition not in assigned:
                continue
            self._next[partition] = self._done[partition] = first_left.get(number, end)
            if number in first_left:
                consumer.seek(partition, first_left[number])
        self._left = {TopicPartition(self._topic, number) for number in first_left}
        if not outcome.problem:
            self._answers()
            return
        self._away(outcome.problem)
        self._tell(consumer)
        await self._pause()

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """A group that is changing refuses it: then again later, or by another."""
        assigned = consumer.assignment()
        positions = {item: offset for item, offset in self._done.items() if item in assigned}
        if not positions:
            return
        with suppress(CommitFailedError):
            async with asyncio.timeout(self._patience_s):
                await consumer.commit(positions)
            self._done = {k: v for k, v in self._done.items() if positions.get(k) != v}

    async def _note_expired(
        self, consumer: AIOKafkaConsumer, batch: Mapping[TopicPartition, Sequence[Any]]
    ) -> None:
        """What retention removed before we read it is told and counted."""
        for partition, messages in batch.items():
            expected = self._next.get(partition)
            if expected is None:
                expected = await consumer.committed(partition)
            if expected is None or messages[0].offset <= expected:
                continue
            begin = (await consumer.beginning_offsets([partition]))[partition]
            if begin > expected:
                self._figures.labels_expired += begin - expected
                logger.warning(
                    "%s, partition %d: messages %d to %d were removed before they were read",
                    *(self._topic, partition.partition, expected, begin - 1),
                )

    async def _pass_over_damage(self, consumer: AIOKafkaConsumer) -> None:
        """Deliver what comes before a batch that cannot be unpacked, and a letter in its place."""
        assert self._cluster is not None
        async with asyncio.timeout(self._patience_s):
            while not consumer.assignment():  # noqa: ASYNC110 - the library tells nobody
                await asyncio.sleep(POLL_MS / 1000)
            positions = {item: await consumer.position(item) for item in consumer.assignment()}
        for partition, position in positions.items():
            feed = Feed(position)
            received: list[Received] = []
            while True:
                chunks = await self._cluster.fetch(
                    {partition: feed.position}, PARTITION_BYTES, TOTAL_BYTES
                )
                if partition not in chunks:
                    break
                feed.fill(chunks[partition])
                received += [
                    _in_place(partition, offset, item) for offset, item in feed.take(POLL_MESSAGES)
                ]
                if not feed.is_in_doubt:
                    break
            if not any(item.damage for item in received):
                continue
            await self._take(consumer, received)
            if partition in consumer.assignment() - self._left:
                consumer.seek(partition, feed.position)
                self._next[partition] = self._done[partition] = feed.position
        self._suspect = False

    # -- how it stands -------------------------------------------------------------

    def _away(self, reason: str) -> None:
        figures = self._figures
        if not figures.labels_away_since_ns:
            figures.labels_away_since_ns = self._clock()
        if reason not in self._reasons and len(self._reasons) < REASONS_MAX:
            logger.warning("labels wait in Kafka: %s; trying again", reason)
            self._reasons.add(reason)
        figures.labels_away = reason
        self._failures += 1

    def _answers(self) -> None:
        figures = self._figures
        if figures.labels_away_since_ns:
            seconds = (self._clock() - figures.labels_away_since_ns) / 1e9
            logger.warning("labels are taken from Kafka again, after %.0f s", seconds)
        figures.labels_away_since_ns, figures.labels_away, self._failures = 0, "", 0
        self._reasons.clear()

    def _tell(self, consumer: AIOKafkaConsumer) -> None:
        figures, delivery = self._figures, self._delivery
        labels, refused, dropped = self._before
        figures.labels = labels + delivery.labels
        figures.labels_refused = refused + delivery.refused
        figures.labels_dropped = dropped + delivery.dropped
        figures.labels_lag = sum(
            max(0, (consumer.highwater(item) or 0) - offset)
            for item, offset in self._next.items()
            if item in consumer.assignment()
        )

    def _forget(self) -> None:
        """Where partitions stood that are not ours any more."""
        self._next.clear()
        self._done.clear()
        self._left.clear()

    async def _pause(self) -> None:
        await asyncio.sleep(BACKOFF_S[min(max(self._failures, 1), len(BACKOFF_S)) - 1])

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        cluster, self._cluster = self._cluster, None
        self._forget()
        ends = [consumer.stop()] if consumer is not None else []
        ends += [cluster.close()] if cluster is not None else []
        await stop_within(STOP_S, *ends)


def _is_of_bytes(error: Exception) -> bool:
    """Whether it may be what was sent that is wrong, and not how it was brought."""
    if isinstance(error, CorruptRecordException | UnsupportedCodecError):
        return True
    return not isinstance(error, OSError | KafkaError)


def _received(item: Any) -> Received:
    return Received(item.partition, item.offset, message_of(item))


def _in_place(partition: TopicPartition, offset: int, item: Message | Damaged) -> Received:
    if isinstance(item, Damaged):
        return Received(partition.partition, offset, Message(None, b"", (), 0), item.reason)
    return Received(partition.partition, offset, item)
