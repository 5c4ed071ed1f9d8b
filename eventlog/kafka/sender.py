"""Records to Kafka: in order, acknowledged by all replicas, or an error that says so.

Laws:
- a partition gets one batch at a time, so what follows a record in its partition is
  never there without it, and a watermark never overtakes the rows that it speaks of;
- a producer that failed in any way is replaced by the next call. The library counts
  a batch that was refused as sent, so the broker would refuse every later one;
- what was given up may still arrive: records are at least once, and their readers
  know a duplicate by its sequence numbers.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from eventlog.core.kafka_message import Message, Placed, to_message
from eventlog.core.record import LABELS, PREDICTIONS
from eventlog.kafka.cluster import close_client, count_partitions, replicas_in_sync
from eventlog.kafka.connect import client_arguments, explain
from eventlog.kafka.event_loop import EventLoop, is_told_to_end
from eventlog.kafka.failure import Unavailable, Unsendable, sentence
from eventlog.kafka.topics import Topics, partition_of
from eventlog.settings import KafkaSettings

# Of the whole batch, since the broker does not say which record it meant.
_REFUSALS = (InvalidTimestampError, MessageSizeTooLargeError, RecordListTooLargeError)
DISCARD_S = 3.0
# Two tries of the library within it.
PATIENCE = 2.0
REPLICAS_S = 1.0  # for a leader that was waited for already

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Addressed:
    """A message for a topic; where its key says if it names no partition."""

    topic: str
    partition: int | None
    message: Message


@dataclass(slots=True)
class _Lane:
    """What is still to be sent to one partition: places in the call's sequence, messages."""

    topic: str
    partition: int
    waiting: deque[tuple[int, Message]] = field(default_factory=deque)


class _Refused(Exception):
    """The broker refuses this batch of a lane's first `count` messages."""

    def __init__(self, lane: _Lane, count: int, reason: str) -> None:
        super().__init__(reason)
        self.lane, self.count, self.reason = lane, count, reason


class Sender:
    """For one event loop; calls of `send` take turns."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._topics = Topics(settings.namespace)
        self._turn = asyncio.Lock()
        self._session: _Session | None = None
        self._partitions = 0
        self._closed = False

    @property
    def partitions(self) -> int:
        """How many partitions `predictions` had when `start` first came through.

        It stays so while this object lives: partitions that are added later are
        written after the next start, when every model's place is computed anew.
        """
        return self._partitions

    async def start(self) -> None:
        """Connect; also done by `send`. Raises: Unavailable."""
        async with self._turn:
            await self._connected()

    async def send(self, placed: Sequence[Placed]) -> None:
        """Returns when all are acknowledged by every replica in sync.

        Raises: Unavailable: send all of them again, later. Unsendable: all others may
                be there; send them again, without that one.
        """
        await self.start()
        try:
            await self.send_messages([self._addressed(item) for item in placed])
        except Unsendable as refusal:
            item = placed[refusal.index]
            raise Unsendable(refusal.index, refusal.reason, item) from refusal

    async def send_messages(self, messages: Sequence[Addressed]) -> None:
        """As `send`, for what is no record of the log."""
        for index, item in enumerate(messages):
            self._check_size(index, item.message)
        async with self._turn:
            session = await self._connected()
            lanes = await self._run(session.lanes(messages))
            await self._deliver(lanes)

    async def close(self, timeout_s: float) -> None:
        """Drop what is on its way and end; within `timeout_s`, whatever the brokers do."""
        self._closed = True
        await self._discard(timeout_s)

    def _addressed(self, item: Placed) -> Addressed:
        topic = self._topics.stream(item.stream)
        partition = item.partition
        if partition is None:
            partition = partition_of(item.model, self._partitions)
        return Addressed(topic, partition, to_message(item.record, topic, item.model))

    def _check_size(self, index: int, message: Message) -> None:
        size = message_bytes(message)
        limit = self._settings.message_bytes_max
        if size > limit:
            reason = f"it has {size} bytes, and kafka.message_bytes_max is {limit}"
            raise Unsendable(index, reason)

    async def _deliver(self, lanes: Sequence[_Lane]) -> None:
        """Raises: Unavailable, Unsendable."""
        try:
            await self._run((await self._connected()).deliver(lanes, self._settings.batch_bytes))
        except _Refused as refusal:
            if refusal.count > 1:  # one by one, so that it is known which
                await self._deliver_singly(lanes)
                return
            raise Unsendable(refusal.lane.waiting[0][0], refusal.reason) from refusal

    async def _deliver_singly(self, lanes: Sequence[_Lane]) -> None:
        try:
            await self._run((await self._connected()).deliver(lanes, 1))
        except _Refused as refusal:
            raise Unsendable(refusal.lane.waiting[0][0], refusal.reason) from refusal

    async def _connected(self) -> "_Session":
        if self._closed:
            raise Unavailable("the sender was closed")
        if self._session is None:
            self._session = _Session(self._bootstrap, self._settings)
            count = await self._run(self._session.open((PREDICTIONS, LABELS)))
            self._partitions = self._partitions or count
        return self._session

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In the session's loop; any failure ends the session."""
        session = self._session
        assert session is not None
        try:
            return await asyncio.wrap_future(session.loop.submit(coroutine))
        except asyncio.CancelledError:
            await self._discard(DISCARD_S)
            if is_told_to_end():
                raise
            raise Unavailable("the sender was closed") from None
        except Exception:
            await self._discard(DISCARD_S)
            raise

    async def _discard(self, timeout_s: float) -> None:
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.loop.end, session.stop, timeout_s)


class _Session:
    """One producer in a loop of its own; all coroutines run there."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._topics = Topics(settings.namespace)
        self._patience_s = PATIENCE * settings.request_timeout_s
        self._producer: AIOKafkaProducer | None = None
        self.loop = EventLoop("kafka-sender")

    async def open(self, streams: Iterable[str]) -> int:
        """Returns: the number of partitions of the first of `streams`.

        Raises: Unavailable.
        """
        try:
            arguments = client_arguments(self._bootstrap, self._settings)
            self._producer = AIOKafkaProducer(
                **arguments,
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                max_batch_size=self._settings.batch_bytes,
                max_request_size=self._settings.message_bytes_max,
            )
            async with asyncio.timeout(self._patience_s):
                await self._producer.start()
        except (OSError, KafkaError) as error:
            raise Unavailable(await explain(self._bootstrap, self._settings, error)) from error
        counts = [await self._count(self._topics.stream(stream)) for stream in streams]
        return counts[0]

    async def stop(self) -> None:
        if self._producer is not None:
            await close_client(self._producer.client)
            await self._producer.stop()

    async def lanes(self, messages: Sequence[Addressed]) -> list[_Lane]:
        """Raises: Unavailable if a topic or partition is missing."""
        lanes: dict[tuple[str, int], _Lane] = {}
        for index, item in enumerate(messages):
            count = await self._count(item.topic)
            partition = item.partition
            if partition is None:
                partition = partition_of((item.message.key or b"").decode(), count)
            if partition >= count:
                raise Unavailable(f"topic {item.topic} has no partition {partition}")
            lane = lanes.setdefault((item.topic, partition), _Lane(item.topic, partition))
            lane.waiting.append((index, item.message))
        return list(lanes.values())

    async def deliver(self, lanes: Sequence[_Lane], batch_bytes: int) -> None:
        """Send what waits in `lanes`, in batches of at least one message.

        Raises: Unavailable; _Refused if all else that can be is acknowledged.
        """
        ends = await asyncio.gather(
            *(self._deliver_lane(lane, batch_bytes) for lane in lanes), return_exceptions=True
        )
        failures = [end for end in ends if isinstance(end, BaseException)]
        failures.sort(key=lambda failure: isinstance(failure, _Refused))
        if failures:
            raise failures[0]

    async def _deliver_lane(self, lane: _Lane, batch_bytes: int) -> None:
        assert self._producer is not None
        while lane.waiting:
            batch, count = self._fill(lane, batch_bytes)
            try:
                async with asyncio.timeout(self._patience_s):
                    acknowledged = await self._producer.send_batch(
                        batch, lane.topic, partition=lane.partition
                    )
                    await acknowledged
            except _REFUSALS as error:
                raise _Refused(lane, count, sentence(error)) from error
            except (OSError, KafkaError) as error:
                raise Unavailable(await self._why_not(lane, error)) from error
            for _ in range(count):
                lane.waiting.popleft()

    async def _why_not(self, lane: _Lane, error: BaseException) -> str:
        """In a sentence. The library tries again what a broker refuses for a while, until the
        time is over, and does not say what was refused: too few replicas, most of the time.
        """
        assert self._producer is not None
        reason = f"topic {lane.topic}: {sentence(error)}"
        if not isinstance(error, TimeoutError):
            return reason
        with suppress(TimeoutError):
            async with asyncio.timeout(REPLICAS_S):
                client = self._producer.client
                lost = await replicas_in_sync(client, lane.topic, lane.partition)
                return f"{reason}; {lost}" if lost else reason
        return reason

    def _fill(self, lane: _Lane, batch_bytes: int) -> tuple[Any, int]:
        """A batch of the lane's first messages, and how many they are: one at least."""
        assert self._producer is not None
        batch, count, size = self._producer.create_batch(), 0, 0
        for _, message in lane.waiting:
            size += message_bytes(message)
            if count and size > batch_bytes:
                break
            taken = batch.append(
                timestamp=message.timestamp_ms,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
            )
            if taken is None:
                break
            count += 1
        return batch, count

    async def _count(self, topic: str) -> int:
        assert self._producer is not None
        client = self._producer.client
        known = client.cluster.partitions_for_topic(topic)
        if known is not None:
            return len(known)
        try:
            async with asyncio.timeout(self._patience_s):
                if topic not in await count_partitions(client, [topic]):
                    raise UnknownTopicOrPartitionError
                return len(await self._producer.partitions_for(topic))
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"topic {topic}: {sentence(error)}") from error


def message_bytes(message: Message) -> int:
    """How large it is in a batch, before compression; never less than that."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(
        message.key, message.value, list(message.headers)
    )
    return size
