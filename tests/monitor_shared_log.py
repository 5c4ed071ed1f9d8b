"""A log in memory with Kafka's shape: fixed partitions that many producers share."""

from collections.abc import Sequence

from eventlog import Position, Record, StoredRecord
from eventlog.core.fairness import shares
from eventlog.core.kafka_message import place
from eventlog.core.record import PREDICTIONS, RecordKind, runs_of
from eventlog.kafka.topics import partition_of

PARTITIONS = ("predictions/0", "labels/0")


class SharedLog:
    """Partition `number` of `count`; the others' records are not kept."""

    def __init__(self, count: int = 1, number: int = 0) -> None:
        self._count, self._number = count, number
        self.partitions = (f"predictions/{number}", f"labels/{number}")
        self.stored: dict[str, list[StoredRecord]] = {name: [] for name in self.partitions}
        self._next = dict.fromkeys(self.partitions, 1)

    def append(self, records: Sequence[Record]) -> None:
        for record in records:
            for placed in place(record, self._count):
                number = placed.partition
                if number is None:
                    number = partition_of(placed.model, self._count)
                if number == self._number:
                    self.put(f"{placed.stream}/{number}", placed.record)

    def put(self, partition: str, record: Record) -> None:
        offset = self.skip(partition, 1)
        self.stored[partition].append(StoredRecord(partition, offset, record))

    def skip(self, partition: str, offsets: int) -> int:
        """Offsets that hold nothing that can be read; returns the first."""
        first = self._next[partition]
        self._next[partition] += offsets
        return first

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        backlog = {
            name: [item for item in stored if item.offset > after.get(name, 0)]
            for name, stored in self.stored.items()
        }
        counts = shares({name: len(found) for name, found in backlog.items()}, limit)
        return [item for name, count in counts.items() for item in backlog[name][:count]]

    def end(self) -> dict[str, int]:
        return {name: following - 1 for name, following in self._next.items()}

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:
        for item in self.stored[self.partitions[0]]:
            record = item.record
            if record.producer != producer or record.stream != PREDICTIONS:
                continue
            if record.kind is RecordKind.DATA and any(
                first <= sequence < first + count for first, count in runs_of(record)
            ):
                return item
        return None

    def close(self) -> None:
        pass
