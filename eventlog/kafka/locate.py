"""Finding the record of a row by the time at which the row's request arrived.

A message bears the time of its youngest row, so a row is in no message before the
first whose time is the row's or later. From there on messages are looked through
until the row is found, or its producer says in that partition that everything of
that time has been written. Without either that is to the end: another gateway may
have written hours of records before this one's backlog came.
"""

from collections.abc import Collection

from aiokafka import TopicPartition

from eventlog.core.kafka_message import from_message
from eventlog.core.record import Record, RecordError, holds_row
from eventlog.kafka.cluster import Cluster
from eventlog.kafka.feed import Damaged, Feed

PARTITION_BYTES = 256 * 1024  # most rows are in the first batch
TOTAL_BYTES = 1024 * 1024
NS_PER_MS = 1_000_000


async def locate(
    cluster: Cluster,
    partitions: Collection[TopicPartition],
    producer: str,
    sequence: int,
    ts_ms: int,
) -> tuple[TopicPartition, int, Record] | None:
    """Partition, Kafka's offset and record of a row. Raises: Unavailable."""
    starts = await cluster.offsets(dict.fromkeys(partitions, ts_ms))
    feeds = {partition: Feed(offset) for partition, offset in starts.items()}
    while feeds:
        positions = {partition: feed.position for partition, feed in feeds.items()}
        chunks = await cluster.fetch(positions, PARTITION_BYTES, TOTAL_BYTES)
        for partition in positions:
            feed, chunk = feeds.pop(partition), chunks.get(partition)
            if chunk is None:
                continue
            feed.fill(chunk)
            offset, record = _search(feed, partition.topic, producer, sequence, ts_ms)
            if record is not None and holds_row(record, sequence):
                return partition, offset, record
            if record is None and feed.position < feed.end:
                feeds[partition] = feed  # behind the others, who may have taken all the room
    return None


def _search(
    feed: Feed, topic: str, producer: str, sequence: int, ts_ms: int
) -> tuple[int, Record | None]:
    """The record that holds the row or says that it will not come; None if none here does."""
    name = producer.encode()
    while not feed.is_empty:
        for offset, message in feed.take(1):
            if isinstance(message, Damaged) or dict(message.headers).get("producer") != name:
                continue
            try:
                record = from_message(message, topic)
            except RecordError:
                continue  # whoever reads the partition through reports it
            if holds_row(record, sequence) or record.watermark_ns >= (ts_ms + 1) * NS_PER_MS:
                return offset, record
    return -1, None
