"""The control log that gateways share, as a Kafka topic of one partition.

The client has an event loop and a thread of its own, so that nothing it does stalls
the supervisor, and nothing it waits for outlives the call. The producer is not an
idempotent one: a command that arrives twice is folded once anyway, and such a
producer has states that only a new one gets out of.
"""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import cramjam
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from eventlog.kafka.connect import client_arguments, explain
from eventlog.kafka.event_loop import EventLoop, is_told_to_end
from eventlog.kafka.failure import sentence
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from protos import control_pb2 as pb
from serving.store.desired_state import OutcomeUnknownError, OutOfReachError
from serving.store.shared_log import SharedEntry, SharedSnapshot
from serving.store.snapshot import state_document, state_from

READ_ENTRIES_MAX = 500  # folded and committed as one
CLOSE_S = 1.0
VERSION = b"1"  # of what a message holds
T = TypeVar("T")


class KafkaControlLog:
    """A `SharedLog`; see there."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._session: _Session | None = None

    async def open(self) -> tuple[int, int]:
        await self._discard()
        self._session = _Session(self._bootstrap, self._settings)
        return await self._run(self._session.open())

    async def append(self, proposal: pb.Proposal) -> None:
        session = self._opened()
        try:
            await self._run(session.append(proposal))
        except OutOfReachError as error:
            # Only the brokers know whether they took it; the client tries several times.
            raise OutcomeUnknownError(
                f"{error}: it is not known whether the command was taken; try again with "
                "the same id, which is not applied twice"
            ) from error

    async def read(self, position: int, wait_s: float) -> list[SharedEntry]:
        return await self._run(self._opened().read(position, wait_s), wait_s)

    async def newest_snapshot(self) -> SharedSnapshot | None:
        return await self._run(self._opened().newest_snapshot())

    async def keep_snapshot(self, snapshot: SharedSnapshot) -> None:
        await self._run(self._opened().keep_snapshot(snapshot))

    async def close(self) -> None:
        await self._discard()

    def _opened(self) -> "_Session":
        if self._session is None:
            raise OutOfReachError("there is no connection to Kafka")
        return self._session

    async def _run(self, coroutine: Coroutine[Any, Any, T], wait_s: float = 0.0) -> T:
        """In the session's loop; a failure there is one of the log."""
        session = self._opened()
        try:
            future = asyncio.wrap_future(session.loop.submit(coroutine))
            async with asyncio.timeout(wait_s + self._settings.control_timeout_s):
                return await future
        except (OSError, KafkaError) as error:  # TimeoutError is an OSError
            raise OutOfReachError(f"topic {session.topic}: {sentence(error)}") from error
        except RuntimeError as error:
            raise OutOfReachError("the connection to Kafka was closed") from error
        except asyncio.CancelledError:
            if is_told_to_end():
                raise
            raise OutOfReachError("the connection to Kafka was closed") from None

    async def _discard(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.loop.end, session.stop, CLOSE_S)


class _Session:
    """A consumer and a producer; all coroutines run in the session's own loop."""

    def __init__(self, bootstrap: str, settings: KafkaSettings) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        topics = Topics(settings.namespace)
        self.topic, self._snapshots = topics.control, topics.control_snapshots
        self._partition = TopicPartition(self.topic, 0)
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self.loop = EventLoop("kafka-control")

    def _arguments(self) -> dict[str, Any]:
        arguments = client_arguments(self._bootstrap, self._settings)
        arguments["request_timeout_ms"] = round(self._settings.control_timeout_s * 1000)
        return arguments

    async def open(self) -> tuple[int, int]:
        try:
            self._consumer = self._new_consumer()
            await self._consumer.start()
            self._producer = AIOKafkaProducer(
                **self._arguments(),
                acks="all",
                max_request_size=self._settings.message_bytes_max,
            )
            await self._producer.start()
        except (OSError, KafkaError) as error:
            raise OutOfReachError(await explain(self._bootstrap, self._settings, error)) from error
        self._consumer.assign([self._partition])
        first = await self._consumer.beginning_offsets([self._partition])
        end = await self._consumer.end_offsets([self._partition])
        self._consumer.seek(self._partition, first[self._partition])
        return first[self._partition], end[self._partition]

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._arguments(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=200,
            max_poll_records=READ_ENTRIES_MAX,
        )

    async def append(self, proposal: pb.Proposal) -> None:
        assert self._producer is not None
        command = proposal.command
        headers = [
            ("driftgate-control", VERSION),
            ("verb", pb.Verb.Name(command.verb).encode()),
            ("actor", command.actor.encode()),
            ("gateway", proposal.gateway.encode()),
            ("id", command.id.encode()),
        ]
        await self._producer.send_and_wait(
            self.topic,
            proposal.SerializeToString(),
            key=command.model.encode(),
            partition=0,
            headers=headers,
        )

    async def read(self, position: int, wait_s: float) -> list[SharedEntry]:
        """Nothing new is told apart from nobody there: then the end is asked for."""
        assert self._consumer is not None
        if await self._consumer.position(self._partition) != position:
            self._consumer.seek(self._partition, position)
        found = await self._consumer.getmany(self._partition, timeout_ms=round(wait_s * 1000))
        messages = found.get(self._partition, [])
        if not messages:
            await self._consumer.end_offsets([self._partition])
        return [SharedEntry(message.offset, message.value or b"") for message in messages]

    async def newest_snapshot(self) -> SharedSnapshot | None:
        assert self._consumer is not None
        partition = TopicPartition(self._snapshots, 0)
        reader = self._new_consumer()
        await reader.start()
        try:
            reader.assign([partition])
            end = (await reader.end_offsets([partition]))[partition]
            await reader.seek_to_beginning(partition)
            newest: SharedSnapshot | None = None
            while await reader.position(partition) < end:
                found = await reader.getmany(partition, timeout_ms=200)
                for message in found.get(partition, []):
                    read = _snapshot_from(message.value or b"")
                    if read is not None and (newest is None or read.position > newest.position):
                        newest = read
            return newest
        finally:
            await reader.stop()

    async def keep_snapshot(self, snapshot: SharedSnapshot) -> None:
        assert self._producer is not None
        value = _snapshot_value(snapshot)
        if len(value) < self._settings.message_bytes_max:
            key = self._settings.namespace.encode()
            await self._producer.send_and_wait(self._snapshots, value, key=key, partition=0)

    async def stop(self) -> None:
        for client in (self._producer, self._consumer):
            if client is not None:
                # One that fails to say goodbye is gone all the same; its tasks are already.
                with suppress(Exception, asyncio.CancelledError):
                    async with asyncio.timeout(CLOSE_S / 4):
                        await client.stop()


def _snapshot_value(snapshot: SharedSnapshot) -> bytes:
    document = {
        "position": snapshot.position,
        "last_digest": snapshot.last_digest,
        "deployments": state_document(snapshot.state),
    }
    return bytes(cramjam.zstd.compress(json.dumps(document).encode()))


def _snapshot_from(value: bytes) -> SharedSnapshot | None:
    """None for what is no snapshot."""
    try:
        document = json.loads(bytes(cramjam.zstd.decompress(value)))
        state = state_from(document["deployments"])
        return SharedSnapshot(document["position"], state, document["last_digest"])
    except (cramjam.DecompressionError, ValueError, KeyError, TypeError):
        return None
