"""The brokers as a reader sees them: partitions, offsets, and batches from a position on.

aiokafka's consumer reads ahead in the background and hides where a partition ends.
A log's reader has to know that there is nothing more, so it asks: one request to
each broker, answered at once. Requests, encodings and connections are aiokafka's.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from eventlog.kafka.connect import client_arguments, explain
from eventlog.kafka.failure import Unavailable, sentence
from eventlog.settings import KafkaSettings

EARLIEST, LATEST = -2, -1  # in place of a time
METADATA_S = 10.0  # how old the list of partitions may be
RETRY_S = 0.1
_READ_UNCOMMITTED = 0

# Another broker, or the same one a little later, may do better.
_PASSING = (
    KafkaConnectionError,
    KafkaStorageError,
    LeaderNotAvailableError,
    NodeNotReadyError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a partition holds from a position on: whole batches, the first may begin before it.

    end: the offset that the next message will get.
    """

    data: bytes
    end: int


class Cluster:
    """For one event loop. Every call is bounded by twice `request_timeout_s`.

    Raises, all of them: Unavailable.
    """

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._patience_s = 2 * settings.request_timeout_s
        self._client: AIOKafkaClient | None = None
        self._known: dict[str, int] = {}
        self._asked_at = -METADATA_S

    async def partitions(self, topics: Collection[str]) -> dict[str, int]:
        """How many each of them has; one that does not exist is left out."""
        if time.monotonic() - self._asked_at >= METADATA_S or not self._known:
            self._known = await self._patiently(lambda client: _track(client, topics))
            self._asked_at = time.monotonic()
        return self._known

    async def offsets(self, times_ms: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """The first offset whose message is of a time or later, or EARLIEST or LATEST.

        A partition without such a message is left out.
        """
        found: dict[TopicPartition, int] = {}

        async def ask(client: AIOKafkaClient) -> None:
            missing = [partition for partition in times_ms if partition not in asked]
            leaders, leaderless = _by_leader(client, missing)
            if leaderless:
                raise LeaderNotAvailableError
            for node, partitions in leaders.items():
                topics = _by_topic((p, (p.partition, times_ms[p])) for p in partitions)
                answer = await client.send(node, OffsetRequest(-1, _READ_UNCOMMITTED, topics))
                for topic, number, code, *rest in _flat(answer):
                    _check(code)
                    asked.add(TopicPartition(topic, number))
                    if rest[-1] >= 0:
                        found[TopicPartition(topic, number)] = rest[-1]

        asked: set[TopicPartition] = set()
        await self._patiently(ask)
        return found

    async def fetch(
        self, positions: Mapping[TopicPartition, int], partition_bytes: int, total_bytes: int
    ) -> dict[TopicPartition, Chunk]:
        """What there is now beyond each position, in the order of `positions` up to `total_bytes`.

        A partition whose position does not exist, or no longer, is left out. While
        some have data, one that cannot be read now is left out too.
        """
        chunks: dict[TopicPartition, Chunk] = {}
        answered: set[TopicPartition] = set()

        async def ask_node(client: AIOKafkaClient, node: int, topics: list[Any]) -> None:
            failure: KafkaError | None = None
            request = FetchRequest(0, 0, total_bytes, _READ_UNCOMMITTED, topics)
            for topic, number, code, end, *rest in _flat(await client.send(node, request)):
                partition, error = TopicPartition(topic, number), for_code(code)
                if issubclass(error, _PASSING):
                    failure = error()
                    continue
                answered.add(partition)
                if error is not OffsetOutOfRangeError:
                    _check(code)
                    chunks[partition] = Chunk(rest[-1] or b"", end)
            if failure:
                raise failure

        async def ask(client: AIOKafkaClient) -> None:
            leaders, leaderless = _by_leader(client, [p for p in positions if p not in answered])
            failure: KafkaError | None = LeaderNotAvailableError() if leaderless else None
            for node, partitions in leaders.items():
                try:
                    wanted = ((p, (p.partition, positions[p], partition_bytes)) for p in partitions)
                    await ask_node(client, node, _by_topic(wanted))
                except _PASSING as error:
                    failure = error
            if failure and not any(chunk.data for chunk in chunks.values()):
                raise failure

        await self._patiently(ask)
        return chunks

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close_client(client)

    async def _patiently(self, ask: Callable[[AIOKafkaClient], Awaitable[T]]) -> T:
        """Ask again after what passes by itself, for a while."""
        reason: BaseException = TimeoutError()
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    client = await self._connected()
                    try:
                        return await ask(client)
                    except _PASSING as error:
                        reason = error
                        await client.force_metadata_update()
                        await asyncio.sleep(RETRY_S)
        except (OSError, KafkaError) as error:
            await self.close()
            if not isinstance(error, TimeoutError):
                reason = error
            raise Unavailable(f"kafka cannot be read: {sentence(reason)}") from error

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            try:
                client = AIOKafkaClient(
                    **client_arguments(self._bootstrap, self._settings),
                    metadata_max_age_ms=round(METADATA_S * 1000),
                )
                await client.bootstrap()
            except (OSError, KafkaError) as error:
                raise Unavailable(await explain(self._bootstrap, self._settings, error)) from error
            self._client = client
        return self._client


async def close_client(client: AIOKafkaClient, timeout_s: float = 1.0) -> None:
    """Close its connections; those that still hold bytes for a silent broker are cut."""
    writers = [
        connection._writer  # noqa: SLF001
        for connection in client._conns.values()  # noqa: SLF001
    ]
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await client.close()
            return
    for writer in writers:
        if writer is not None:
            writer.transport.abort()


async def count_partitions(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, int]:
    """How many each topic has; one that does not exist is left out.

    The library's own question would have a broker create what is missing, with the
    broker's settings. Raises: KafkaError.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError
    answer = await client.send(node, MetadataRequest(list(topics), allow_auto_topic_creation=False))
    found: dict[str, int] = {}
    for code, topic, _, partitions in answer.topics:
        if for_code(code) is not UnknownTopicOrPartitionError:
            _check(code)
            found[topic] = len(partitions)
    return found


async def replicas_in_sync(client: AIOKafkaClient, topic: str, partition: int) -> str:
    """Which of a partition's replicas its leader has lost, in words; empty if none, or unknown."""
    leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
    if leader is None or leader == -1:
        return ""
    request = MetadataRequest([topic], allow_auto_topic_creation=False)
    try:
        answer = await client.send(leader, request)
    except KafkaError:
        return ""
    for _, _, _, partitions in answer.topics:
        for _, number, _, replicas, in_sync, *_ in partitions:
            if number == partition and len(in_sync) < len(replicas):
                return f"partition {number} has {len(in_sync)} of {len(replicas)} replicas in sync"
    return ""


async def _track(client: AIOKafkaClient, topics: Collection[str]) -> dict[str, int]:
    found = await count_partitions(client, topics)
    if found:  # leaders are looked up in what the client itself has asked for
        await client.set_topics(list(found))
    return found


def _by_leader(
    client: AIOKafkaClient, partitions: Iterable[TopicPartition]
) -> tuple[dict[int, list[TopicPartition]], list[TopicPartition]]:
    """By the broker that leads them, and those that none leads now."""
    leaders: dict[int, list[TopicPartition]] = defaultdict(list)
    leaderless = []
    for partition in partitions:
        node = client.cluster.leader_for_partition(partition)
        if node is None or node == -1:
            leaderless.append(partition)
        else:
            leaders[node].append(partition)
    return leaders, leaderless


def _by_topic(items: Iterable[tuple[TopicPartition, Any]]) -> list[tuple[str, list[Any]]]:
    topics: dict[str, list[Any]] = {}
    for partition, item in items:
        topics.setdefault(partition.topic, []).append(item)
    return list(topics.items())


def _flat(answer: Any) -> Iterable[tuple[Any, ...]]:
    for topic, partitions in answer.topics:
        for partition in partitions:
            yield (topic, *partition)


def _check(code: int) -> None:
    if code:
        raise for_code(code)
