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
"""

from collections import deque
from collections.abc import Callable
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
from eventlog.core.record import runs_of
from monitor.core.block import ModelBlock, Outcome
from monitor.core.label_book import LabelBook, Mark, PageKey
from monitor.core.model_state import ModelState, Summary
from monitor.core.open_blocks import ArrivedLabel, OpenBlocks, OpenModel, fill
from monitor.core.predictions import error_of, find_output, infer_spec
from monitor.core.producers import Producer, Producers
from monitor.core.profile import PredictionKind, ReferenceProfile
from monitor.core.settings import CoreSettings
from monitor.core.tree import Tree, pack, unpack
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


class LabelFate(StrEnum):
    """What became of a label; every label that was read has exactly one."""

    JOINED = "joined"
    MALFORMED = "malformed"  # the id is not one of ours
    ORPHAN = "orphan"  # no such row in the log
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    UNJUDGED = "unjudged"  # the row failed, or its output is not understood


@dataclass(frozen=True, slots=True)
class Pending:
    """A record that was read: the last block it has rows in, and what it holds in memory.

    is_loss: what it has in that block are rows that are lost.
    """

    offset: int
    last_block: int
    bytes: int
    is_loss: bool


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
    reread_lost: int = 0  # open rows that were gone from the log after a crash
    labels: dict[str, dict[str, int]] = field(default_factory=dict)  # model -> fate -> count

    def label(self, model: str, fate: LabelFate) -> None:
        fates = self.labels.setdefault(model, {})
        fates[fate.value] = fates.get(fate.value, 0) + 1


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
        state: bytes | None = None,
    ) -> None:
        """state: what `to_bytes()` gave, or None to start from the log's beginning.

        Raises: ValueError or KeyError when the state is damaged.
        """
        self._log, self._decode_id, self._profiles = log, decode_id, profiles
        self.settings = settings
        self.finder = RowFinder(log)
        self.book = LabelBook(load_page)
        self.models: dict[str, ModelState] = {}
        self.producers = Producers()
        self.counters = Counters()
        self._tally = ConsumedTally()
        self._blocks = OpenBlocks(settings.block_ns, None)
        self._pending: dict[str, deque[Pending]] = {}
        self._writers: dict[str, set[str]] = {}  # partition -> living producers in it
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
        while found := self._log.read(dict.fromkeys(self._read, NOWHERE), DISCOVERED):
            count += self._take_all(found)
        self._survey_ns = self.producers.watermark_ns()
        return count

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
        slowest = self.producers.slowest()
        if not any(slowest in writers for writers in self._writers.values()):
            return wanted
        for partition, queue in self._pending.items():
            if slowest in self._writers[partition]:
                continue  # rows may be ahead of their own producer's watermark
            last = max((pending.last_block for pending in queue), default=NOTHING_OPEN)
            if last > self._blocks.index_of(watermark_ns) + 1:
                wanted[partition] = NOWHERE
        return wanted

    def _take(self, stored: StoredRecord) -> None:
        record = stored.record
        self._read[stored.partition] = stored.offset
        self._tally.add(stored)
        producer = self.producers.note(
            record.producer, record.watermark_ns, record.kind is RecordKind.END
        )
        self._buffer(stored, producer, first_reading=True)

    def _buffer(
        self,
        stored: StoredRecord,
        producer: Producer,
        *,
        first_reading: bool,
        lost_at: int | None = None,
    ) -> None:
        """Keep what belongs to open blocks; counters move on the first reading alone.

        lost_at: the block of rows that the record says are lost, when it is known
                 already; it follows from all that its producer had written before.
        """
        record, last, lost = stored.record, NOTHING_OPEN, NOTHING_OPEN
        writers = self._writers.setdefault(stored.partition, set())
        (writers.discard if record.kind is RecordKind.END else writers.add)(record.producer)
        if lost_at is None:
            lost_at = self._blocks.index_of(producer.watermark_ns)
        watched = self.counters if first_reading else Counters()
        try:
            if record.kind is RecordKind.DATA and record.stream == PREDICTIONS:
                last = self._buffer_rows(stored, producer, watched)
            elif record.kind is RecordKind.DATA and record.stream == LABELS:
                last = self._buffer_labels(stored, producer, watched)
            elif record.kind is RecordKind.GAP and record.stream == PREDICTIONS:
                last = self._buffer_gap(stored, producer, lost_at, watched)
                lost = last
        except RecordError:
            watched.undecodable += record.rows
            model = record.headers.get("model", "")
            last = lost = self._buffer_lost(model, record.rows, lost_at, watched)
        size = len(record.body) if last != NOTHING_OPEN else 0
        self._open_bytes += size
        self._pending.setdefault(stored.partition, deque()).append(
            Pending(stored.offset, last, size, lost != NOTHING_OPEN)
        )

    def _buffer_rows(self, stored: StoredRecord, producer: Producer, watched: Counters) -> int:
        rows = decode_predictions(stored.record)
        new = producer.first_time(PREDICTIONS, rows.all_runs)
        self.finder.add(stored.record.producer, rows)
        last, late = self._blocks.add_rows(rows, new)
        watched.late += late
        watched.duplicates += 0 if new is None else new.count(False)
        return last

    def _buffer_labels(self, stored: StoredRecord, producer: Producer, watched: Counters) -> int:
        record = stored.record
        model, labels = decode_labels(record)
        runs = runs_of(record)
        new = producer.first_time(LABELS, runs)
        sequences = [first + i for first, count in runs for i in range(count)]
        arrived = [
            ArrivedLabel(record.producer, sequence, label)
            for place, (sequence, label) in enumerate(zip(sequences, labels, strict=True))
            if new is None or new[place]
        ]
        watched.duplicates += len(labels) - len(arrived)
        index = self._blocks.index_of(int(record.headers.get("ts_max_ns", record.watermark_ns)))
        if self._blocks.add_labels(index, model, arrived):
            return index
        watched.late += len(arrived)
        return NOTHING_OPEN

    def _buffer_gap(
        self, stored: StoredRecord, producer: Producer, index: int, watched: Counters
    ) -> int:
        gap = parse_gap(stored.record)
        producer.first_time(PREDICTIONS, runs_of(stored.record))
        if gap.reason is GapReason.SAMPLED:
            return NOTHING_OPEN  # left out at random, by policy: the rest is representative
        return self._buffer_lost(gap.model, gap.rows, index, watched)

    def _buffer_lost(self, model: str, rows: int, index: int, watched: Counters) -> int:
        if self._blocks.add_lost(index, model, rows):
            return index
        watched.late += rows
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
                block.outcomes += self._join(model, content[model])
            state = self.models.setdefault(model, ModelState(model, self.settings))
            on_closed(Closed(model, state.close(block, partial(self._profiles, model))))

    def _join(self, model: str, content: OpenModel) -> list[Outcome]:
        """The outcomes of a block's labels, in the order of producer and sequence."""
        outcomes = []
        for arrived in sorted(content.labels, key=lambda item: (item.producer, item.sequence)):
            fate, outcome = self._outcome(model, arrived)
            self.counters.label(model, fate)
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    def _outcome(self, model: str, arrived: ArrivedLabel) -> tuple[LabelFate, Outcome | None]:
        label = arrived.label
        try:
            request = self._decode_id(label.prediction_id)
        except InvalidPredictionId:
            return LabelFate.MALFORMED, None
        sequence = request.sequence + label.row
        mark = self.book.mark(request.producer, sequence, label.value)
        if mark is not Mark.FIRST:
            return LabelFate(mark.value), None
        found = self.finder.find(request.producer, sequence, request.ts_ms)
        if found is None or found[0].model != model or found[0].row[found[1]] != label.row:
            return LabelFate.ORPHAN, None
        rows, place = found
        profile = self._profiles(model, rows.version, rows.digest)
        spec = (profile.prediction if profile else None) or infer_spec(rows.outputs)
        output = find_output(rows.outputs, spec) if spec else None
        if spec is None or output is None:
            return LabelFate.UNJUDGED, None
        error = error_of(output, spec, place, label.value)
        if error is None:
            return LabelFate.UNJUDGED, None
        is_number = spec.kind is PredictionKind.NUMBER
        outcome = Outcome(rows.digest, int(rows.ts_ns[place]), error, is_number)
        return LabelFate.JOINED, outcome

    # -- storing -------------------------------------------------------------------

    def consumed(self) -> Consumed:
        """What to publish as this group's position."""
        return self._tally.consumed()

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

    def _lost_at(self) -> dict[str, list[tuple[int, int]]]:
        """Per partition: offset and block of records of lost rows that are read again."""
        frontier = self._blocks.frontier or 0
        found = {
            partition: [
                (item.offset, item.last_block)
                for item in queue
                if item.is_loss and item.last_block >= frontier
            ]
            for partition, queue in self._pending.items()
        }
        return {partition: places for partition, places in found.items() if places}

    def _to_tree(self) -> Tree:
        consumed = self._tally.consumed()
        counters = self.counters
        return {
            "read": self._read,
            "survey_ns": self._survey_ns,
            "restart": self._restart(),
            "lost_at": self._lost_at(),
            "delivered": dict(consumed.delivered),
            "gaps": sorted([*key, rows] for key, rows in consumed.gaps.items()),
            "frontier": self._blocks.frontier,
            "producers": self.producers.to_tree(),
            "models": {name: state.to_tree() for name, state in self.models.items()},
            "late": counters.late,
            "duplicates": counters.duplicates,
            "undecodable": counters.undecodable,
            "reread_lost": counters.reread_lost,
            "labels": counters.labels,
        }

    def _restore(self, tree: Tree) -> None:
        self._read = dict(tree["read"])
        self._survey_ns = tree["survey_ns"]
        gaps = {(producer, reason): rows for producer, reason, rows in tree["gaps"]}
        self._tally = ConsumedTally(Consumed(dict(tree["read"]), tree["delivered"], gaps))
        self._blocks = OpenBlocks(self.settings.block_ns, tree["frontier"])
        self.producers = Producers.from_tree(tree["producers"])
        for name, item in tree["models"].items():
            self.models[name] = ModelState.from_tree(
                name, item, self.settings, partial(self._profiles, name)
            )
        self.counters = Counters(
            tree["late"],
            tree["duplicates"],
            tree["undecodable"],
            tree["reread_lost"],
            {model: dict(fates) for model, fates in tree["labels"].items()},
        )
        self._reread(tree["restart"], {p: dict(places) for p, places in tree["lost_at"].items()})

    def _reread(self, restart: dict[str, int], lost_at: dict[str, dict[int, int]]) -> None:
        """Fill the open blocks again with the records between restart and read."""
        replayed = Producers()
        position = {name: restart.get(name, read) for name, read in self._read.items()}
        while behind := {name for name, at in position.items() if at < self._read[name]}:
            after = {name: at if name in behind else NOWHERE for name, at in position.items()}
            found = [item for item in self._log.read(after, REREAD) if item.partition in behind]
            for stored in found:
                if stored.offset <= self._read[stored.partition]:
                    record = stored.record
                    producer = replayed.note(record.producer, record.watermark_ns, ended=False)
                    block = lost_at.get(stored.partition, {}).get(stored.offset)
                    self._buffer(stored, producer, first_reading=False, lost_at=block)
                position[stored.partition] = min(stored.offset, self._read[stored.partition])
            for name in behind - {stored.partition for stored in found}:
                self.counters.reread_lost += self._read[name] - position[name]
                position[name] = self._read[name]
