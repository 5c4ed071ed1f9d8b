"""The messages of one partition, out of the chunks that a broker gave.

Laws:
- batches are unpacked one at a time, when they are asked for: a chunk stays as
  small as it came;
- `position` moves over whatever was looked at, so a message that nobody can read is
  met once;
- a batch that is damaged is asked for once more, since a connection may have
  damaged it, and then passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka.record.memory_records import MemoryRecords

from eventlog.core.kafka_message import Message
from eventlog.kafka.cluster import Chunk


@dataclass(frozen=True, slots=True)
class Damaged:
    """A batch that cannot be unpacked, from its offset up to `next_offset`."""

    next_offset: int
    reason: str


class Feed:
    """Mutable. Offsets here are Kafka's: the first message of a partition has 0."""

    def __init__(self, position: int) -> None:
        self.position = position  # of the next message to look at
        self.end = position  # what the partition will number its next message, as last seen
        self._given = position  # after the last message that its reader was given
        self._messages: Iterator[tuple[int, Message]] | None = None
        self._batch_end = position
        self._damaged_at = -1

    @property
    def is_empty(self) -> bool:
        """Whether another chunk is needed to go on."""
        return self._messages is None

    @property
    def is_in_doubt(self) -> bool:
        """Whether the batch at `position` was damaged and is to be asked for again."""
        return self._messages is None and self._damaged_at == self.position

    @property
    def backlog(self) -> int:
        """How many messages wait, roughly, of which some are here."""
        return 0 if self.is_empty else max(1, self.end - self.position)

    def continues(self, position: int) -> bool:
        """Whether a reader who stands at `position` has seen what comes before this feed."""
        return self._given <= position <= self.position

    def fill(self, chunk: Chunk) -> None:
        self.end = chunk.end
        self._messages = self._unpack(chunk.data) if chunk.data else None

    def move(self, position: int) -> None:
        """What lies between is gone."""
        self.position, self._messages = position, None

    def given(self, offset: int) -> None:
        """The reader has the message of this offset, and all before it."""
        self._given = offset + 1

    def take(self, count: int) -> Iterator[tuple[int, Message | Damaged]]:
        """Up to `count` messages with their offsets; fewer if the chunk ends before."""
        for _ in range(count):
            if self._messages is None:
                return
            try:
                item = next(self._messages, None)
            except Exception as error:  # whatever the library raises for bytes that are wrong
                self._messages = None
                if self._damaged_at != self.position:
                    self._damaged_at = self.position
                    return
                start, self.position = self.position, max(self._batch_end, self.position + 1)
                yield start, Damaged(self.position, f"its batch is damaged: {error!r}")
                return
            if item is None:
                self._messages = None
                return
            yield item

    def _unpack(self, data: bytes) -> Iterator[tuple[int, Message]]:
        records = MemoryRecords(data)
        while records.has_next():
            batch = records.next_batch()
            self._batch_end = batch.next_offset
            if not batch.validate_crc():
                raise ValueError("wrong checksum")
            if not batch.is_control_batch:
                for record in batch:
                    if record.offset >= self.position:  # a batch may begin before it
                        self.position = record.offset + 1
                        yield record.offset, message_of(record)
            self.position = max(self.position, batch.next_offset)


def message_of(record: Any) -> Message:
    """Of a record as the library gives it. A value or a header may be null; here that is empty."""
    headers = record.headers
    if any(value is None for _, value in headers):
        headers = [(name, value or b"") for name, value in headers]
    return Message(record.key, record.value or b"", headers, record.timestamp)
