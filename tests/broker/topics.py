"""Topics for one test, and what is in them."""

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T], timeout_s: float = 120.0) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await coroutine

    return asyncio.run(bounded())


def settings_for_test(**fields: Any) -> KafkaSettings:
    """With a namespace that nobody else has."""
    fields = {"partitions": 3, "request_timeout_s": 10.0, **fields}
    return KafkaSettings(namespace=f"t{secrets.token_hex(6)}", **fields)


def make_topics(address: str, settings: KafkaSettings, **configs: str) -> Topics:
    """Those of records, with `configs` (`_` for `.`)."""
    topics = Topics(settings.namespace)
    named = {name.replace("_", "."): value for name, value in configs.items()}

    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            names = (topics.predictions, topics.labels)
            new = [NewTopic(name, settings.partitions, 1, topic_configs=named) for name in names]
            response = await admin.create_topics(new)
            assert all(code == 0 for _, code, *_ in response.topic_errors), response
        finally:
            await admin.close()

    run(make())
    return topics


def read_topic(address: str, topic: str) -> list[Any]:
    """Everything in it, as the library gives it: by partition, in order."""

    async def read() -> list[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
        await consumer.start()
        try:
            numbers = await consumer._client._wait_on_metadata(topic)
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found = []
            for partition in partitions:
                consumer.seek(partition, 0)
                while await consumer.position(partition) < ends[partition]:
                    batch = await consumer.getmany(partition, timeout_ms=1000)
                    found += batch.get(partition, [])
            return found
        finally:
            await consumer.stop()

    return run(read())
