"""The compacted topic through which partitions are handed over: `core/handover.py` on Kafka.

Laws:
- every call is bounded in time and raises Unavailable when Kafka cannot do it now;
- what was written is acknowledged by every replica in sync before a call returns;
- a producer that failed is replaced. It is not idempotent: a key written twice is
  written once, and it ends when it is told to.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from eventlog.core.kafka_message import Message
from eventlog.kafka.cluster import EARLIEST, LATEST, Cluster
from eventlog.kafka.connect import client_arguments
from eventlog.kafka.event_loop import EventLoop
from eventlog.kafka.failure import Unavailable, sentence
from eventlog.kafka.feed import Feed
from eventlog.settings import KafkaSettings
from monitor.core.handover import CLAIM, Entry, HandedOver, claim_entry

READ_S = 120.0  # for all that a partition of it holds
CLOSE_S = 3.0
READ_BYTES = 4 * 1024 * 1024  # at a time
WRITE_BYTES = 8 * 1024 * 1024  # on their way at once
T = TypeVar("T")


class HandoverTopic:
    """For use by one thread."""

    def __init__(self, bootstrap: str, settings: KafkaSettings, topic: str) -> None:
        self._bootstrap, self._settings, self._topic = bootstrap, settings, topic
        self._patience_s, self._read_s = 2 * settings.request_timeout_s, READ_S
        self._loop = EventLoop("monitor-handover")
        self._producer: AIOKafkaProducer | None = None
        self._cluster = Cluster(bootstrap, settings)
        self._asked: Future[Any] | None = None  # what is being waited for
        self._known: dict[int, int] = {}  # partition -> beyond it nothing has been looked at

    def claim(self, number: int, owner: str) -> HandedOver:
        """Own partition `number` from now on; returns all that was there, the claim included.

        Raises: Unavailable.
        """
        return self._run(self._claim(number, owner), self._read_s)

    def write(self, number: int, entries: Sequence[Entry]) -> None:
        """Raises: Unavailable; some may be there."""
        self._run(self._write(number, entries), self._patience_s)

    def newest_claim(self, number: int, epoch: int) -> int:
        """The epoch of the newest claim, `epoch` if nobody claimed since. Raises: Unavailable."""
        return self._run(self._newest_claim(number, epoch), self._patience_s)

    def read(self, number: int) -> HandedOver:
        """All that is in partition `number`, which stays whose it is. Raises: Unavailable."""
        return self._run(self._read_whole(number), self._read_s)

    def partitions(self) -> int:
        """How many there are; 0 where there is no topic. Raises: Unavailable."""
        return self._run(self._count(), self._patience_s)

    def hurry(self, timeout_s: float) -> None:
        """Give up what is being waited for, and wait for nothing longer than this from now on.

        From any thread.
        """
        self._patience_s = min(self._patience_s, timeout_s)
        self._read_s = min(self._read_s, timeout_s)
        asked = self._asked
        if asked is not None:
            asked.cancel()

    def close(self) -> None:
        self._loop.end(self._stop, CLOSE_S)

    # -- in the loop ---------------------------------------------------------------

    async def _claim(self, number: int, owner: str) -> HandedOver:
        offset = await self._send(number, [claim_entry(owner)])
        found = HandedOver()
        await self._read(number, None, offset + 1, found.add)
        self._known[number] = offset + 1
        return found

    async def _read_whole(self, number: int) -> HandedOver:
        found = HandedOver()
        await self._read(number, None, await self._offset(number, LATEST), found.add)
        return found

    async def _count(self) -> int:
        return (await self._cluster.partitions([self._topic])).get(self._topic, 0)

    async def _write(self, number: int, entries: Sequence[Entry]) -> None:
        group: list[Entry] = []
        size = 0
        for entry in entries:
            group.append(entry)
            size += len(entry[1] or b"")
            if size >= WRITE_BYTES:
                await self._send(number, group)
                group, size = [], 0
        if group:
            await self._send(number, group)

    async def _newest_claim(self, number: int, epoch: int) -> int:
        newest = epoch

        def look(offset: int, key: str, value: bytes | None) -> None:
            nonlocal newest
            if key == CLAIM and value is not None:
                newest = max(newest, offset + 1)

        end = await self._offset(number, LATEST)
        start = self._known.get(number, 0)
        if end > start:  # not all of it is what this monitor wrote
            await self._read(number, start, end, look)
            if newest == epoch:
                self._known[number] = end
        return newest

    async def _send(self, number: int, entries: Sequence[Entry]) -> int:
        """The last offset. Own entries that follow each other need not be looked at later."""
        if self._producer is None:
            producer = AIOKafkaProducer(
                **client_arguments(self._bootstrap, self._settings),
                acks="all",
                compression_type="zstd",
                max_batch_size=1024 * 1024,
                max_request_size=self._settings.message_bytes_max + 64 * 1024,
            )
            self._producer = producer
            await producer.start()
        futures = [
            await self._producer.send(self._topic, value, key.encode(), number)
            for key, value in entries
        ]
        offset = -1
        for future in futures:
            offset = (await future).offset
            if self._known.get(number) == offset:
                self._known[number] = offset + 1
        return offset

    async def _offset(self, number: int, time: int) -> int:
        partition = TopicPartition(self._topic, number)
        if number >= (await self._cluster.partitions([self._topic])).get(self._topic, 0):
            raise Unavailable(f"{self._topic} has no partition {number}; `driftgate log init`")
        return (await self._cluster.offsets({partition: time})).get(partition, 0)

    async def _read(
        self,
        number: int,
        start: int | None,
        end: int,
        each: Callable[[int, str, bytes | None], None],
    ) -> None:
        """Every entry from `start` (None: the first) up to `end`."""
        first, partition = await self._offset(number, EARLIEST), TopicPartition(self._topic, number)
        feed = Feed(first if start is None else max(start, first))
        while feed.position < end:
            found = await self._cluster.fetch({partition: feed.position}, READ_BYTES, READ_BYTES)
            if partition not in found or not found[partition].data:
                raise Unavailable(f"{self._topic}/{number} ends before {end}")
            feed.fill(found[partition])
            for offset, message in feed.take(end):
                if offset < end and isinstance(message, Message) and message.key is not None:
                    each(offset, message.key.decode("utf-8", "replace"), message.value or None)

    def _run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        try:
            asked = self._loop.submit(self._bounded(coroutine, timeout_s))
            self._asked = asked
            return asked.result()
        except (CancelledError, RuntimeError):
            raise Unavailable("kafka: this end was closed") from None

    async def _bounded(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await coroutine
        except (OSError, KafkaError) as error:
            await self._stop()
            raise Unavailable(f"kafka topic {self._topic}: {sentence(error)}") from error

    async def _stop(self) -> None:
        producer, self._producer = self._producer, None
        with suppress(Exception):  # it is given up either way
            async with asyncio.timeout(CLOSE_S / 3):
                if producer is not None:
                    await producer.stop()
        await self._cluster.close()
