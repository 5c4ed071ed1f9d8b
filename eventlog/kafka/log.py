"""The Log on Kafka: partition p of a stream is "predictions/p" or "labels/p".

Laws:
- our offsets begin at 1, Kafka's at 0: what was consumed up to ours is where Kafka
  goes on;
- there is no consumer group here: a reader says where it stands, and reading on from
  there asks no broker to find the place again;
- offsets of a partition rise, and not always by one: what retention has removed, and
  what could not be read, is missing, and seen as a jump.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from aiokafka import TopicPartition

from eventlog.core.fairness import shares
from eventlog.core.kafka_message import STREAMS, Message, from_message, place
from eventlog.core.record import (
    PREDICTIONS,
    Position,
    Record,
    RecordError,
    StoredRecord,
    holds_row,
)
from eventlog.kafka.cluster import EARLIEST, LATEST, Cluster
from eventlog.kafka.event_loop import EventLoop
from eventlog.kafka.feed import Damaged, Feed
from eventlog.kafka.locate import locate
from eventlog.kafka.sender import Sender
from eventlog.kafka.topics import Topics
from eventlog.log import NOWHERE, LogClosed
from eventlog.settings import KafkaSettings

# Held compressed until they are read; a broker sends at least one batch all the same.
PARTITION_BYTES = 1024 * 1024
TOTAL_BYTES = 8 * 1024 * 1024
# As in the spool's reader: labels come in the order of their predictions, roughly.
LOCATED_MAX = 16
CLOSE_S = 3.0

# topic, partition, Kafka's offset, message, what is wrong with it
OnPoison = Callable[[str, int, int, Message, str], None]
T = TypeVar("T")
logger = logging.getLogger(__name__)


def report_poison(topic: str, partition: int, offset: int, _: Message, reason: str) -> None:
    logger.warning(
        "%s, partition %d, offset %d is passed over: %s", topic, partition, offset, reason
    )


class KafkaLog:
    """Connects when it is first used. Safe for use by several threads, who take turns."""

    def __init__(
        self,
        bootstrap: str,
        settings: KafkaSettings,
        *,
        only: Collection[int] | None = None,
        on_poison: OnPoison = report_poison,
    ) -> None:
        """only: the partition numbers to read, of both streams; None: all there are.

        on_poison: called for each message that is no record, in the reader's thread.
        """
        topics = Topics(settings.namespace)
        self._streams = {topics.stream(stream): stream for stream in STREAMS}
        self._settings, self._bootstrap = settings, bootstrap
        self._only, self._on_poison = only, on_poison
        self._lock = threading.Lock()
        self._closed = False
        self._loop = EventLoop("kafka-log")
        self._cluster = Cluster(bootstrap, settings)
        self._sender: Sender | None = None
        self._feeds: dict[TopicPartition, Feed] = {}
        self._located: deque[StoredRecord] = deque(maxlen=LOCATED_MAX)
        self._said: set[object] = set()

    def append(self, records: Sequence[Record]) -> None:
        """Send each to every partition that it belongs in; returns once all are acknowledged.

        Not all or none: of records that failed some may be there, and their readers
        see them once, by their sequence numbers.
        Raises: Unavailable (a StorageError), Unsendable, LogClosed.
        """
        with self._lock:
            self._run(self._append(records))

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        """As `Log.read`. Raises: Unavailable if a partition cannot be looked into, LogClosed."""
        with self._lock:
            feeds = self._feeds_at(after)
            while True:
                began = {partition: feed.position for partition, feed in feeds.items()}
                asked = self._replenish(feeds)
                found = self._take(feeds, limit)
                moved = any(feed.position != began[p] for p, feed in feeds.items())
                unasked = any(f.is_empty and p not in asked for p, f in feeds.items())
                if found or not (moved or unasked or any(f.is_in_doubt for f in feeds.values())):
                    return found

    def end(self) -> dict[str, int]:
        """As `Log.end`."""
        with self._lock:
            partitions = self._partitions()
            ends = self._run(self._cluster.offsets(dict.fromkeys(partitions, LATEST)))
            return {self._name(p): ends.get(p, 0) for p in partitions}

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:
        """As `Log.locate`, in the partitions that this log reads. Raises: Unavailable."""
        with self._lock:
            if self._closed:
                raise LogClosed("the log is closed")
            for stored in reversed(self._located):
                if stored.record.producer == producer and holds_row(stored.record, sequence):
                    return stored
            partitions = [p for p in self._partitions() if self._streams[p.topic] == PREDICTIONS]
            found = self._run(locate(self._cluster, partitions, producer, sequence, ts_ms))
            if found is None:
                return None
            partition, offset, record = found
            self._located.append(StoredRecord(self._name(partition), offset + 1, record))
            return self._located[-1]

    def close(self) -> None:
        """Ends within a few seconds, whatever the brokers do; a call that is waiting fails."""
        self._closed = True
        self._loop.end(self._stop, CLOSE_S)

    async def _append(self, records: Sequence[Record]) -> None:
        if self._sender is None:
            self._sender = Sender(self._bootstrap, self._settings)
        await self._sender.start()
        count = self._sender.partitions
        await self._sender.send([item for record in records for item in place(record, count)])

    async def _stop(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cluster.close())
            if self._sender is not None:
                group.create_task(self._sender.close(CLOSE_S / 3))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            coroutine.close()
            raise LogClosed("the log is closed")
        try:
            return self._loop.submit(coroutine).result()
        except (CancelledError, RuntimeError):
            raise LogClosed("the log was closed meanwhile") from None

    def _partitions(self) -> list[TopicPartition]:
        """Those there are now, in the order of streams and numbers."""
        counts = self._run(self._cluster.partitions(list(self._streams)))
        for topic in self._streams:
            if topic not in counts:
                self._say_once(topic, "topic %s does not exist; `driftgate log init` makes it")
        return [
            TopicPartition(topic, number)
            for topic in self._streams
            for number in range(counts.get(topic, 0))
            if self._only is None or number in self._only
        ]

    def _feeds_at(self, after: Position) -> dict[TopicPartition, Feed]:
        """The feed of every partition that is read, where its reader stands."""
        feeds: dict[TopicPartition, Feed] = {}
        for partition in self._partitions():
            position = after.get(self._name(partition), 0)
            if position >= NOWHERE:
                continue
            feed = self._feeds.get(partition)
            if feed is None or not feed.continues(position):
                feed = self._feeds[partition] = Feed(position)
            feeds[partition] = feed
        return feeds

    def _replenish(self, feeds: dict[TopicPartition, Feed]) -> Collection[TopicPartition]:
        """Returns: those of which it is now known what they hold."""
        hungry = {p: f.position for p, f in self._feeds.items() if p in feeds and f.is_empty}
        if not hungry:
            return ()
        chunks = self._run(self._cluster.fetch(hungry, PARTITION_BYTES, TOTAL_BYTES))
        for partition, chunk in chunks.items():
            feeds[partition].fill(chunk)
            # Who was served asks behind the others next time: the room goes round.
            self._feeds[partition] = self._feeds.pop(partition)
        self._displace({p: feeds[p] for p in hungry if p not in chunks})
        return hungry.keys()

    def _displace(self, lost: dict[TopicPartition, Feed]) -> None:
        """Go on where a partition now begins, if that is beyond where a reader stands."""
        if not lost:
            return
        starts = self._run(self._cluster.offsets(dict.fromkeys(lost, EARLIEST)))
        for partition, feed in lost.items():
            start = starts.get(partition, 0)
            if start > feed.position:
                logger.warning(
                    "%s: messages %d to %d are gone from Kafka",
                    self._name(partition), feed.position, start - 1,
                )  # fmt: skip
                feed.move(start)
            else:
                self._say_once(
                    self._name(partition),
                    "%s ends before the position of its reader: was its topic made anew?",
                )

    def _take(self, feeds: dict[TopicPartition, Feed], limit: int) -> list[StoredRecord]:
        found: list[StoredRecord] = []
        counts = shares({p: feed.backlog for p, feed in feeds.items() if feed.backlog}, limit)
        for partition, count in counts.items():
            feed, name = feeds[partition], self._name(partition)
            for offset, record in self._records(partition, feed.take(count)):
                found.append(StoredRecord(name, offset + 1, record))
                feed.given(offset)
        return found

    def _records(
        self, partition: TopicPartition, messages: Iterable[tuple[int, Message | Damaged]]
    ) -> Iterable[tuple[int, Record]]:
        """What can be understood of them; the rest is reported."""
        for offset, message in messages:
            if isinstance(message, Damaged):
                empty = Message(None, b"", (), 0)
                self._on_poison(partition.topic, partition.partition, offset, empty, message.reason)
                continue
            try:
                yield offset, from_message(message, partition.topic)
            except RecordError as error:
                self._on_poison(partition.topic, partition.partition, offset, message, str(error))

    def _name(self, partition: TopicPartition) -> str:
        return f"{self._streams[partition.topic]}/{partition.partition}"

    def _say_once(self, subject: str, text: str) -> None:
        if subject not in self._said:
            self._said.add(subject)
            logger.warning(text, subject)
