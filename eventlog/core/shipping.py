"""What goes to Kafka next: records of the spool on their partitions, and the marks among them.

Laws:
- a producer's records reach each partition in the order of its log;
- a partition that got nothing of a producer for a heartbeat's time gets a heartbeat:
  what its producer promised in other partitions holds there too, once everything
  before it was sent;
- a record that the brokers never take leaves a gap (refused) in its place, so that
  every row is in the topic in one record or another;
- the position moves over whole records: behind what every partition has of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eventlog.core.dead_letter import dead_letter, truncated
from eventlog.core.kafka_message import STREAMS, Message, Placed, place, to_message
from eventlog.core.marks import gap_record, heartbeat_record
from eventlog.core.record import (
    PREDICTIONS,
    GapReason,
    Record,
    RecordError,
    RecordKind,
    StoredRecord,
    merge_adjacent,
    runs_of,
)

Lane = tuple[str, int]  # stream, partition


@dataclass(frozen=True, slots=True)
class Letter:
    """Of a record that was refused: what it was, where it was to go, and why it cannot."""

    stored: StoredRecord
    placed: Placed
    reason: str


@dataclass(frozen=True, slots=True)
class _Item:
    """source: place of its record in the batch; None for a heartbeat of ours."""

    placed: Placed
    source: int | None


class Watermarks:
    """How far each partition knows each living producer to have come."""

    def __init__(
        self, partitions: int, heartbeat_ns: int, partition_of: Callable[[str], int]
    ) -> None:
        self.partitions = partitions
        self._heartbeat_ns, self._partition_of = heartbeat_ns, partition_of
        self._told: dict[str, dict[Lane, int]] = {}
        self._next: dict[str, int] = {}  # producer -> its next sequence, as far as is known

    def lane(self, placed: Placed) -> Lane:
        partition = placed.partition
        return placed.stream, self._partition_of(placed.model) if partition is None else partition

    def heartbeats(self, records: Sequence[Record], placed: Sequence[Placed]) -> list[Placed]:
        """What has to follow `records` so that no partition lags; `placed` is where these go."""
        last = {record.producer: record for record in records}
        told = {producer: dict(self._told.get(producer, {})) for producer in last}
        for item in placed:
            told[item.record.producer][self.lane(item)] = item.record.watermark_ns
        marks: list[Placed] = []
        for producer, record in last.items():
            if record.kind is RecordKind.END:
                continue
            mine = [item for item in records if item.producer == producer]
            number = max(self._next.get(producer, 0), *map(_next_sequence, mine))
            mark = heartbeat_record(producer, number, record.watermark_ns)
            due_ns = record.watermark_ns - self._heartbeat_ns
            marks += [
                Placed(stream, "", partition, mark)
                for stream in STREAMS
                for partition in range(self.partitions)
                if told[producer].get((stream, partition), -1) <= due_ns
            ]
        return marks

    def sent(self, placed: Sequence[Placed]) -> None:
        """They are in their partitions."""
        for item in placed:
            record = item.record
            if record.kind is RecordKind.END:
                self._told.pop(record.producer, None)
                self._next.pop(record.producer, None)
            else:
                number = max(self._next.get(record.producer, 0), _next_sequence(record))
                self._next[record.producer] = number
                self._told.setdefault(record.producer, {})[self.lane(item)] = record.watermark_ns


class Shipment:
    """One batch of records on its way.

    records: as they are shipped, in the order of the log; a refused one as its gap.
    letters: of those that were refused.
    is_sent: whether all of it is acknowledged.
    """

    def __init__(self, batch: Sequence[StoredRecord], watermarks: Watermarks) -> None:
        self._batch, self._watermarks = tuple(batch), watermarks
        self.records = list(batch)
        self.letters: list[Letter] = []
        self.is_sent = False
        self._items: list[_Item] = []
        for source, stored in enumerate(batch):
            try:
                targets = list(place(stored.record, watermarks.partitions))
            except RecordError as error:
                target = Placed(stored.record.stream, "", 0, stored.record)
                self.letters.append(Letter(stored, target, str(error)))
                self.records[source] = _refused(stored, "")
                targets = list(place(self.records[source].record, watermarks.partitions))
            self._items += [_Item(target, source) for target in targets]
        marks = watermarks.heartbeats([item.record for item in batch], self.placed)
        self._items += [_Item(mark, None) for mark in marks]

    @property
    def placed(self) -> list[Placed]:
        """What is to be sent, all of it and in this order."""
        return [item.placed for item in self._items]

    @property
    def refused_rows(self) -> int:
        """Of predictions, that became a gap here."""
        return sum(
            before.record.rows
            for before, stored in zip(self._batch, self.records, strict=True)
            if before is not stored and before.record.stream == PREDICTIONS
        )

    def refuse(self, index: int, reason: str) -> None:
        """`placed[index]` cannot be sent: a gap takes the place of data, nothing that of a mark."""
        item = self._items.pop(index)
        if item.source is None:
            return
        stored, placed = self._batch[item.source], item.placed
        self.letters.append(Letter(stored, placed, reason))
        if placed.record.kind is RecordKind.DATA:
            gap = _refused(stored, placed.model)
            self.records[item.source] = gap
            self._items.insert(index, _Item(replace(placed, record=gap.record), item.source))

    def sent(self) -> None:
        """All of it is acknowledged."""
        self.is_sent = True
        self._watermarks.sent(self.placed)


def letter_message(letter: Letter, topic: str, partition: int, bytes_max: int) -> Message:
    """The dead letter of a record that was to go to `partition` of `topic`."""
    message = to_message(letter.placed.record, topic, letter.placed.model)
    found = dead_letter(message, topic, partition, letter.stored.offset, letter.reason)
    return truncated(found, bytes_max)


def _refused(stored: StoredRecord, model: str) -> StoredRecord:
    record = stored.record
    try:
        runs = runs_of(record)
    except RecordError:
        runs = ((record.first_sequence, record.rows),)
    gap = gap_record(
        record.producer,
        merge_adjacent(runs),
        GapReason.REFUSED,
        model=model,
        watermark_ns=record.watermark_ns,
        stream=record.stream,
    )
    return replace(stored, record=gap)


def _next_sequence(record: Record) -> int:
    """The next sequence of predictions as `record` tells it; 0 for one of labels."""
    if record.stream != PREDICTIONS:
        return 0
    return max((sum(run) for run in runs_of(record)), default=record.first_sequence)
