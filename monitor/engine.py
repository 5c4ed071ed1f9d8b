"""The engine: records of the log in, statistics and verdicts out, and nothing else.

Laws:
- the state is a function of the records and the reference profiles alone: not
  of the clock, of how reads were cut, or of how often the process was killed;
- the state holds two positions per partition: `read` (what has been taken
  account of) and `restart` (before the first record with rows in an open
  block). After a crash the records between the two are read again, only to
  refill the open blocks;
- nothing is written here; whoever owns the engine stores `to_bytes()` and what
  the closed blocks gave, in one transaction.

Why no row can miss its block. A block is closed when its end is below `survey_ns`,
the watermark as it stood when the log, listed again after everything else had been
read, named no partition that was not read from yet. Let R be the last record taken
from a known producer before that listing, with watermark W. R was committed before
the listing began, and a producer states W only when its clock has passed it. Any
row older than W arrived before then, at a producer whose writer had committed its
first record, a heartbeat, before it let traffic in. So that heartbeat was there to
be listed: the row's producer is known, alive, and holds the watermark below the
row until the row itself was read. What remains for `late` are broken promises:
clocks of two producers that disagree by more than `lateness_ns`, a first heartbeat
that the disk refused, and a partition that was damaged.

That argument needs one log, committed to by all. Where records come by way of
shippers (Kafka), the partitions are fixed and shared by many producers, and
`core/partition_time.py` says what is promised instead: the state is still a function
of the records alone, rows may be late, and those that are count as unseen, as do
records that a partition's offsets have passed over.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from eventlog import (
    LABELS,
    PREDICTIONS,
    Consumed,
    ConsumedTally,
    GapReason,
    InvalidPredictionId,
    Log,
    PredictionId,
    RecordError,
    RecordKind,
    StoredRecord,
    decode_labels,
    decode_predictions,
    parse_gap,
)
from eventlog.core.kafka_message import is_copy
from eventlog.core.record import runs_of
from monitor.core.block import ModelBlock, Outcome
from monitor.core.label_book import LabelBook, Mark, PageKey
from monitor.core.model_state import ModelState, Summary
from monitor.core.open_blocks import ArrivedLabel, OpenBlocks, OpenModel, fill
from monitor.core.partition_time import Floors, PartitionTime, PartitionTimes
from monitor.core.performance.answers import answer_of
from monitor.core.predictions import error_of, find_output, infer_spec
from monitor.core.producers import Producer, Producers
from monitor.core.profile import PredictionKind, ReferenceProfile
from monitor.core.settings import CoreSettings
from monitor.core.slicing import places_of_row
from monitor.core.tree import Tree, pack, unpack
from monitor.decoded_bytes import decoded_bytes
from monitor.row_finder import RowFinder

# model, version, digest -> profile or None; a profile that was given stays the same
# for ever, None may become one: see `RegistryProfiles`
ProfileOf = Callable[[str, str, str], ReferenceProfile | None]
DecodeId = Callable[[str], PredictionId]

# Above it, only the partitions that hold time back are read.
OPEN_BYTES_MAX = 256 * 1024 * 1024
NOTHING_OPEN = -1  # in place of a block: a record that keeps no block open
ANY_MODEL = ""  # rows lost without a name count against every model
DISCOVERED = 16  # records at a time of partitions that appeared meanwhile
REREAD = 4096  # records at a time; more than there are partitions, so each has its turn
NOWHERE = 1 << 62  # an offset beyond every record: "read nothing of this partition"


class Unverifiable(Exception):
    """Raised by a DecodeId that has no keys: whether an id is one of ours is unknown."""


class LabelFate(StrEnum):
    """What became of a label; every label that was read has exactly one."""

    JOINED = "joined"
    MALFORMED = "malformed"  # the id is not one of ours
    UNVERIFIED = "unverified"  # nobody here can tell
    ORPHAN = "orphan"  # no such row in the log
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    UNJUDGED = "unjudged"  # the row failed, or its output is not understood


@dataclass(frozen=True, slots=True)
class Pending:
    """A record that was read: the last block it has rows in, and what it holds in memory."""

    offset: int
    last_block: int
    bytes: int
    losses: "tuple[Loss, ...]"


@dataclass(frozen=True, slots=True)
class Loss:
    """Rows that are not in the statistics, and the block whose share of them it is."""

    block: int
    model: str
    rows: int


@dataclass(frozen=True, slots=True)
class Closed:
    """One closed block of one model."""

    model: str
    summary: Summary


@dataclass(slots=True)
class Counters:
    """Totals since the state began."""

    late: int = 0
    duplicates: int = 0
    undecodable: int = 0
    passed_over: int = 0  # records that a shared partition does not hold (any more)
    reread_lost: int = 0  # open rows that were gone from the log after a crash
    labels: dict[str, dict[str, int]] = field(default_factory=dict)  # model -> fate -> count

    def label(self, model: str, fate: LabelFate) -> None:
        fates = self.labels.setdefault(model, {})
        fates[fate.value] = fates.get(fate.value, 0) + 1


def ignore_undecodable(stored: StoredRecord, reason: str) -> None:
    """What becomes of records that cannot be decoded, where nobody wants them."""


class Engine:
    """Mutable, single-threaded."""

    def __init__(
        self,
        log: Log,
        decode_id: DecodeId,
        profiles: ProfileOf,
        settings: CoreSettings,
        *,
        load_page: Callable[[PageKey], bytes | None],
        partitions: Sequence[str] = (),
        on_undecodable: Callable[[StoredRecord, str], None] = ignore_undecodable,
        state: bytes | None = None,
    ) -> None:
        """partitions: all of `log`, where they are fixed and shared by producers; empty:
                    each producer has one of its own.
        on_undecodable: gets such a record and what is wrong with it, again after a crash.
        state: what `to_bytes()` gave, or None to start from the log's beginning.

        Raises: ValueError or KeyError when the state is damaged.
        """
        self._log, self._decode_id, self._profiles = log, decode_id, profiles
        self.settings = settings
        self._partitions, self._on_undecodable = tuple(partitions), on_undecodable
        self.finder = RowFinder(log)
        self.book = LabelBook(load_page)
        self.models: dict[str, ModelState] = {}
        self.producers: Producers | PartitionTimes = Producers()
        if partitions:
            self.producers = PartitionTimes(partitions, settings.lateness_ns, settings.silence_ns)
        self.counters = Counters()
        self._tally = ConsumedTally()
        self._blocks = OpenBlocks(settings.block_ns, None)
        self._pending: dict[str, deque[Pending]] = {}
        self._floors = {partition: Floors() for partition in partitions}
        self._volume = dict.fromkeys(partitions, (0, 0))  # records, rows
        # Bytes of records by their last block, of blocks that a partition's floor has not passed.
        self._held: dict[str, dict[int, int]] = {partition: {} for partition in partitions}
        self._open_bytes = 0
        self._read: dict[str, int] = {}
        self._survey_ns: int | None = None  # older rows are all of known producers
        if state is not None:
            self._restore(unpack(state))

    # -- reading -------------------------------------------------------------------

    def read(self, limit: int) -> int:
        """Take the next records of the log; returns how many there were.

        Partitions that appeared meanwhile are begun too, all of them: see above.
        If the log cannot be read, no block closes that might lack a producer.
        Raises: as `Log.read`.
        """
        count = self._take_all(self._log.read(self._wanted(), limit))
        if not self._partitions:
            while found := self._log.read(dict.fromkeys(self._read, NOWHERE), DISCOVERED):
                count += self._take_all(found)
        self._survey_ns = self.producers.watermark_ns()
        return count

    def position(self, partition: str) -> int:
        """The last offset that was taken account of; 0 if none was."""
        return self._read.get(partition, 0)

    def _take_all(self, records: list[StoredRecord]) -> int:
        for stored in records:
            self._take(stored)
        return len(records)

    def _wanted(self) -> dict[str, int]:
        """Where to read on; partitions that are ahead wait while too many rows are open."""
        wanted = dict(self._read)
        watermark_ns = self.producers.watermark_ns()
        if self._open_bytes < OPEN_BYTES_MAX or watermark_ns is None:
            return wanted
        holding = self.producers.holding()
        if not holding & self._pending.keys():
            return wanted
        for partition, queue in self._pending.items():
            if partition in holding:
                continue  # rows may be ahead of their own producer's watermark
            last = max((pending.last_block for pending in queue), default=NOTHING_OPEN)
            if last > self._blocks.index_of(watermark_ns) + 1:
                wanted[partition] = NOWHERE
        return wanted

    def _take(self, stored: StoredRecord) -> None:
        record, partition = stored.record, stored.partition
        floor = self._floor(partition)
        producer = self.producers.note(
            partition, record.producer, record.watermark_ns, record.kind is RecordKind.END
        )
        lost_at = self._blocks.index_of(producer.watermark_ns)
        if floor is not None:
            lost_at = max(lost_at, floor)
        losses = self._passed_over(stored, lost_at if floor is None else floor)
        self._read[partition] = stored.offset
        repeated = self._buffer(stored, producer, self.counters, floor, losses, lost_at)
        self._tally.add(stored, record.rows if is_copy(record) else repeated)
        if isinstance(self.producers, PartitionTimes):
            self._make_room(partition, self.producers.times[partition])
            self._floors[partition].note(stored.offset, self._floor(partition))

    def _make_room(self, partition: str, time: PartitionTime) -> None:
        """By the partition's own records alone, as everything that moves its clock."""
        self._let_go(partition)
        held = self._held[partition]
        while sum(held.values()) > OPEN_BYTES_MAX and time.pass_over():
            self._let_go(partition)

    def _let_go(self, partition: str) -> None:
        floor, held = self._floor(partition) or 0, self._held[partition]
        for block in [block for block in held if block < floor]:
            del held[block]

    def _floor(self, partition: str) -> int | None:
        """Rows of `partition` that come now and belong to a lower block are late."""
        floor_ns = self.producers.floor_ns(partition)
        return None if floor_ns is None else self._blocks.index_of(floor_ns)

    def _passed_over(self, stored: StoredRecord, block: int) -> list[Loss]:
        """The loss in the offsets before a record of a shared partition.

        Nobody knows how many rows they held: as many as others before them, and at
        least one each. They count against every model of the partition.
        """
        if not self._partitions:
            return []
        records, rows = self._volume[stored.partition]
        if stored.record.kind is RecordKind.DATA:
            rows += stored.record.rows
        self._volume[stored.partition] = (records + 1, rows)
        missing = stored.offset - 1 - self._read.get(stored.partition, stored.offset - 1)
        self.counters.passed_over += missing
        if missing == 0 or not stored.partition.startswith(PREDICTIONS):
            return []
        return [Loss(block, ANY_MODEL, missing * max(1, -(-rows // (records + 1))))]

    def _buffer(
        self,
        stored: StoredRecord,
        producer: Producer,
        watched: Counters,
        floor: int | None,
        losses: list[Loss],
        lost_at: int | None,
    ) -> int:
        """Keep what belongs to open blocks; returns how many rows had been seen before.

        watched: what to count on.
        losses:  those that are known; to which the record's own are added.
        lost_at: the block for what the record says is lost; None: `losses` has it all.
        """
        record, last, repeated = stored.record, NOTHING_OPEN, 0
        own: list[Loss] = []
        try:
            if record.kind is RecordKind.DATA and record.stream == PREDICTIONS:
                last, repeated, own = self._buffer_rows(stored, producer, watched, floor)
            elif record.kind is RecordKind.DATA and record.stream == LABELS:
                last, repeated = self._buffer_labels(stored, producer, watched, floor)
            elif record.kind is RecordKind.GAP and record.stream == PREDICTIONS:
                repeated, own = self._gap(stored, producer, lost_at)
        except RecordError as error:
            repeated, own = self._undecodable(stored, producer, lost_at, watched, str(error))
        if lost_at is not None:
            losses = losses + own
        for loss in losses:
            last = max(last, self._buffer_lost(loss, watched))
        size = decoded_bytes(record) if last != NOTHING_OPEN else 0
        self._open_bytes += size
        if size and (held := self._held.get(stored.partition)) is not None:
            held[last] = held.get(last, 0) + size
        self._pending.setdefault(stored.partition, deque()).append(
            Pending(stored.offset, last, size, tuple(losses))
        )
        return repeated

    def _buffer_rows(
        self, stored: StoredRecord, producer: Producer, watched: Counters, floor: int | None
    ) -> tuple[int, int, list[Loss]]:
        rows = decode_predictions(stored.record)
        new = producer.first_time(PREDICTIONS, rows.all_runs)
        self.finder.add(stored, rows)
        last, late = self._blocks.add_rows(rows, new, floor, stored.record.producer)
        repeated = 0 if new is None else new.count(False)
        watched.late += late
        watched.duplicates += repeated
        lost = [Loss(floor, rows.model, late)] if late and floor is not None else []
        return last, repeated, lost

    def _buffer_labels(
        self, stored: StoredRecord, producer: Producer, watched: Counters, floor: int | None
    ) -> tuple[int, int]:
        record = stored.record
        model, labels = decode_labels(record)
        runs = runs_of(record)
        new = producer.first_time(LABELS, runs)
        sequences = [first + i for first, count in runs for i in range(count)]
        arrived_ns = int(record.headers.get("ts_max_ns", record.watermark_ns))
        arrived = [
            ArrivedLabel(record.producer, sequence, label, arrived_ns)
            for place, (sequence, label) in enumerate(zip(sequences, labels, strict=True))
            if new is None or new[place]
        ]
        repeated = len(labels) - len(arrived)
        watched.duplicates += repeated
        index = self._blocks.index_of(arrived_ns)
        if self._blocks.add_labels(index, model, arrived, floor):
            return index, repeated
        watched.late += len(arrived)
        return NOTHING_OPEN, repeated

    def _gap(
        self, stored: StoredRecord, producer: Producer, lost_at: int | None
    ) -> tuple[int, list[Loss]]:
        gap = parse_gap(stored.record)
        new = producer.first_time(PREDICTIONS, runs_of(stored.record))
        repeated = 0 if new is None else new.count(False)
        if gap.reason is GapReason.SAMPLED or lost_at is None:
            return repeated, []  # left out at random, by policy: the rest is representative
        return repeated, [Loss(lost_at, gap.model, gap.rows - repeated)]

    def _undecodable(
        self,
        stored: StoredRecord,
        producer: Producer,
        lost_at: int | None,
        watched: Counters,
        reason: str,
    ) -> tuple[int, list[Loss]]:
        record = stored.record
        if lost_at is None:
            return 0, []
        self._on_undecodable(stored, reason)
        watched.undecodable += record.rows
        try:
            new = producer.first_time(record.stream, runs_of(record))
        except RecordError:
            new = None
        repeated = 0 if new is None else new.count(False)
        return repeated, [Loss(lost_at, record.headers.get("model", ""), record.rows - repeated)]

    def _buffer_lost(self, loss: Loss, watched: Counters) -> int:
        if self._blocks.add_lost(loss.block, loss.model, loss.rows):
            return loss.block
        watched.late += loss.rows
        return NOTHING_OPEN

    # -- closing -------------------------------------------------------------------

    def close_blocks(self, on_closed: Callable[[Closed], None], limit: int = 1_000_000) -> bool:
        """Close, oldest first, up to `limit` blocks that the watermark has passed.

        on_closed: called right after each model's block, while the state is that block's.
        Returns:   whether more blocks are waiting.
        """
        if self._survey_ns is None:
            return False
        over = self._blocks.index_of(self._survey_ns - self.settings.lateness_ns)
        for _ in range(limit):
            index = self._blocks.oldest()
            if index is None or index >= over:
                self._blocks.advance(over)
                self._forget_closed()
                return False
            self._close(index, on_closed)
        self._forget_closed()
        return True

    def _close(self, index: int, on_closed: Callable[[Closed], None]) -> None:
        content = self._blocks.close(index)
        nameless = content.pop(ANY_MODEL, None)
        for model in sorted({*content, *(self.models if nameless else ())}):
            block = ModelBlock(index, lost=nameless.lost if nameless else 0)
            if model in content:
                fill(block, content[model])
                block.outcomes += self._join(model, content[model], self._cut(index))
            state = self.models.setdefault(model, ModelState(model, self.settings))
            on_closed(Closed(model, state.close(block, partial(self._profiles, model))))

    def _cut(self, block: int) -> int | None:
        """Rows of records beyond it are not known to the labels of `block`; None: all are.

        It makes no difference but for rows that come late, which may have been read.
        """
        cuts = [
            floors.cut(block)
            for partition, floors in self._floors.items()
            if partition.startswith(PREDICTIONS)
        ]
        return min((cut for cut in cuts if cut is not None), default=None)

    def _join(self, model: str, content: OpenModel, up_to: int | None) -> list[Outcome]:
        """The outcomes of a block's labels, in the order of producer and sequence."""
        outcomes = []
        for arrived in sorted(content.labels, key=lambda item: (item.producer, item.sequence)):
            fate, outcome = self._outcome(model, arrived, up_to)
            self.counters.label(model, fate)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def _outcome(
        self, model: str, arrived: ArrivedLabel, up_to: int | None
    ) -> tuple[LabelFate, Outcome | None]:
        label = arrived.label
        request = self._request(label.prediction_id)
        if isinstance(request, LabelFate):
            return request, None
        sequence = request.sequence + label.row
        mark = self.book.mark(request.producer, sequence, label.value)
        if mark is not Mark.FIRST:
            return LabelFate(mark.value), None
        found = self.finder.find(request.producer, sequence, request.ts_ms, up_to)
        if found is None or found[0].model != model or found[0].row[found[1]] != label.row:
            return LabelFate.ORPHAN, None
        rows, place = found
        profile = self._profiles(model, rows.version, rows.digest)
        outputs = rows.whole_outputs
        spec = (profile.prediction if profile else None) or infer_spec(outputs)
        output = find_output(outputs, spec) if spec else None
        if spec is None or output is None:
            return LabelFate.UNJUDGED, None
        error = error_of(output, spec, place, label.value)
        if error is None:
            return LabelFate.UNJUDGED, None
        outcome = Outcome(
            rows.digest,
            int(rows.ts_ns[place]),
            error,
            spec.kind is PredictionKind.NUMBER,
            rows.version,
            arrived.arrived_ns,
            answer_of(output, outputs, spec, profile, place, label.value),
            places_of_row(
                self.settings.slices_of(model), rows.inputs, rows.withheld, profile, place
            ),
        )
        return LabelFate.JOINED, outcome

    def _request(self, prediction_id: str) -> PredictionId | LabelFate:
        try:
            return self._decode_id(prediction_id)
        except InvalidPredictionId:
            return LabelFate.MALFORMED
        except Unverifiable:
            return LabelFate.UNVERIFIED

    # -- storing -------------------------------------------------------------------

    def consumed(self) -> Consumed:
        """What to publish as this group's position."""
        return self._tally.consumed()

    def seen_share(self) -> float | None:
        """The share of the live windows' rows that are in the statistics; None: there are none."""
        seen = [state.seen.live for state in self.models.values()]
        rows, lost = (sum(int(item[place]) for item in seen) for place in (0, 1))
        return rows / (rows + lost) if rows + lost else None

    @property
    def open_rows(self) -> int:
        return self._blocks.rows

    @property
    def frontier_ns(self) -> int:
        """Everything before it is in the statistics."""
        return (self._blocks.frontier or 0) * self.settings.block_ns

    def to_bytes(self) -> bytes:
        return pack(self._to_tree())

    def _restart(self) -> dict[str, int]:
        """Per partition: the offset before the first record with something still open."""
        self._forget_closed()
        restart = dict(self._read)
        restart |= {name: queue[0].offset - 1 for name, queue in self._pending.items() if queue}
        return restart

    def _forget_closed(self) -> None:
        frontier = self._blocks.frontier or 0
        for queue in self._pending.values():
            while queue and queue[0].last_block < frontier:
                self._open_bytes -= queue.popleft().bytes

    def _losses(self) -> dict[str, list[tuple[int, list[tuple[int, str, int]]]]]:
        """Per partition: the open losses of records that are read again, by offset."""
        frontier = self._blocks.frontier or 0
        found: dict[str, list[tuple[int, list[tuple[int, str, int]]]]] = {}
        for partition, queue in self._pending.items():
            for item in queue:
                still = [(x.block, x.model, x.rows) for x in item.losses if x.block >= frontier]
                if still:
                    found.setdefault(partition, []).append((item.offset, still))
        return found

    def _to_tree(self) -> Tree:
        consumed = self._tally.consumed()
        counters, restart = self.counters, self._restart()
        for partition, floors in self._floors.items():
            floors.forget(restart.get(partition, 0), self._blocks.frontier or 0)
        return {
            "read": self._read,
            "survey_ns": self._survey_ns,
            "restart": restart,
            "losses": self._losses(),
            "floors": {partition: floors.points for partition, floors in self._floors.items()},
            "volume": self._volume,
            "delivered": dict(consumed.delivered),
            "gaps": sorted([*key, rows] for key, rows in consumed.gaps.items()),
            "frontier": self._blocks.frontier,
            "producers": self.producers.to_tree(),
            "models": {name: state.to_tree() for name, state in self.models.items()},
            "late": counters.late,
            "duplicates": counters.duplicates,
            "undecodable": counters.undecodable,
            "passed_over": counters.passed_over,
            "reread_lost": counters.reread_lost,
            "labels": counters.labels,
        }

    def _restore(self, tree: Tree) -> None:
        self._read = dict(tree["read"])
        self._survey_ns = tree["survey_ns"]
        gaps = {(producer, reason): rows for producer, reason, rows in tree["gaps"]}
        self._tally = ConsumedTally(Consumed(dict(tree["read"]), tree["delivered"], gaps))
        self._blocks = OpenBlocks(self.settings.block_ns, tree["frontier"])
        self.producers.restore(tree["producers"])
        for partition, floors in self._floors.items():
            floors.points = [(offset, block) for offset, block in tree["floors"][partition]]
            records, rows = tree["volume"][partition]
            self._volume[partition] = (records, rows)
        for name, item in tree["models"].items():
            self.models[name] = ModelState.from_tree(
                name, item, self.settings, partial(self._profiles, name)
            )
        self.counters = Counters(
            tree["late"],
            tree["duplicates"],
            tree["undecodable"],
            tree["passed_over"],
            tree["reread_lost"],
            {model: dict(fates) for model, fates in tree["labels"].items()},
        )
        losses = {
            partition: {offset: [Loss(*item) for item in found] for offset, found in places}
            for partition, places in tree["losses"].items()
        }
        self._reread(tree["restart"], losses)
        for partition in self._partitions:
            self._let_go(partition)

    def _reread(self, restart: dict[str, int], losses: dict[str, dict[int, list[Loss]]]) -> None:
        """Fill the open blocks again with the records between restart and read."""
        replayed: dict[tuple[str, str], Producer] = {}
        position = {name: restart.get(name, read) for name, read in self._read.items()}
        while behind := {name for name, at in position.items() if at < self._read[name]}:
            after = {name: at if name in behind else NOWHERE for name, at in position.items()}
            found = [item for item in self._log.read(after, REREAD) if item.partition in behind]
            for stored in found:
                if stored.offset <= self._read[stored.partition]:
                    self._buffer_again(stored, replayed, losses.get(stored.partition, {}))
                position[stored.partition] = min(stored.offset, self._read[stored.partition])
            for name in behind - {stored.partition for stored in found}:
                self.counters.reread_lost += self._read[name] - position[name]
                position[name] = self._read[name]

    def _buffer_again(
        self,
        stored: StoredRecord,
        replayed: dict[tuple[str, str], Producer],
        losses: dict[int, list[Loss]],
    ) -> None:
        """Counters have moved, and what is lost is known: it followed from what came before."""
        producer = replayed.setdefault((stored.partition, stored.record.producer), Producer())
        floors = self._floors.get(stored.partition)
        floor = floors.at(stored.offset) if floors else None
        self._buffer(stored, producer, Counters(), floor, losses.get(stored.offset, []), None)
