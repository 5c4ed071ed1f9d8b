"""The prediction writer of one worker: ledger slab, buffer, spool and one thread.

Watermarks. A watermark W in a record promises that every row that arrived before
W is in that record or an earlier one. Rows are stamped on arrival and offered
only when their batch has run, so the writer cannot know W by itself. The data
plane knows it: the oldest of the rows waiting or running, or the time now if
there are none. It says so with `advance(ts_ns)`, a promise that every row
offered from now on has arrived at `ts_ns` or later, about once per flush and
from the thread that stamps and offers. Nothing is tracked per request or batch:

    def tick():                                   # loop.call_later, every flush_ms
        oldest = [b.oldest_ts_ns for b in batchers if b.busy]   # head of the queue, or of the run
        writer.advance(min(oldest, default=writer.now_ns()))

The order makes it exact: the thread reads the promise first and the queue after,
so whatever arrived before the promise was queued before it was read. Only the
last record of a flush carries the new watermark. Until the first `advance` the
time of the flush stands in, which is right only for rows that are offered in the
instant they are stamped. Rows that come in spite of a promise are counted in
`late_rows` and logged as they are.

The first record is a heartbeat, committed before the constructor returns and so
before any row can arrive. Whoever lists the log after having read a watermark of
another producer therefore sees every producer that may have older rows.

Time stamps should come from `now_ns`: wall time that never steps back within an
incarnation.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from eventlog.core.arrow_codec import encode_predictions
from eventlog.core.grouping import concatenate, key_of, split
from eventlog.core.intervals import Intervals
from eventlog.core.labels import Label, encode_labels
from eventlog.core.marks import end_record, gap_record, heartbeat_record, parse_gap
from eventlog.core.predictions import PredictionRows
from eventlog.core.record import (
    PREDICTIONS,
    GapReason,
    Record,
    RecordKind,
    Run,
    runs_of,
)
from eventlog.intake import SKIPS_MAX, Done, Intake, Offered, OfferedLabels
from eventlog.log import StorageError
from eventlog.segment import Connect, connect
from eventlog.settings import LogSettings
from eventlog.spool import Spool
from eventlog.sqlite_log import open_slab

# A full disk is asked again at most this often; each attempt costs a few opens.
RETRY_S = 1.0
RUNS_PER_GAP = 4096
# A reader in the way, or space that comes back in the last moment.
END_ATTEMPTS, END_PAUSE_S = 3, 0.05

logger = logging.getLogger(__name__)

GapKey = tuple[GapReason, str]  # reason, model


class MonotoneClock:
    """Unix time in ns that follows no step of the system's clock."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        return time.monotonic_ns() + self._offset_ns


class PredictionWriter:
    """Owns one incarnation. `assign`, `offer`, `skip` and `advance` are for the hot path.

    Callbacks (`release`, `done`) run in the writer's thread, or at once in the
    caller's when the buffer is full; they must be short and thread-safe.
    """

    def __init__(
        self,
        directory: Path,
        producer: str,
        settings: LogSettings,
        *,
        connect: Connect = connect,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Raises: SlabInUse, LogError if the incarnation was used before, OSError."""
        self._settings, self._producer = settings, producer
        self.now_ns = clock or MonotoneClock()
        self._slab = open_slab(directory, producer)
        self._wake = threading.Event()
        self._intake = Intake(self._slab, settings, self._wake)
        self._spool = Spool(directory, producer, settings, connect=connect, clock=self.now_ns)
        self._promised_ns: int | None = None
        self._published_ns = 0
        self._written_ns = 0  # when the last record was
        self._pending: dict[GapKey, Intervals] = {}
        self._retry_at_s = 0.0
        self._closing = self._ended = False
        self.written = 0
        self.late_rows = 0
        self.gap_rows: dict[str, int] = {}
        self.assign = self._intake.assign
        self.skip = self._intake.skip
        self._announce()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def acknowledged(self) -> int:
        """Rows numbered so far."""
        return self._intake.acknowledged

    @property
    def buffered_rows(self) -> int:
        """Rows offered and not yet in the spool."""
        return self._intake.buffered_rows

    def offer(self, rows: PredictionRows, release: Callable[[], None] | None = None) -> None:
        """Log `rows`, whose numbers `assign` gave; takes the arrays by reference.

        `release` is called once the arrays are no longer needed. Beyond the
        buffer's bounds the rows become a gap (overflow).
        """
        self._intake.offer(rows, release, None)

    def offer_durable(self, rows: PredictionRows, done: Done) -> None:
        """As `offer`; `done(None)` once the rows are on disk, `done(error)` if they are a gap."""
        self._intake.offer(rows, None, done)

    def offer_labels(self, model: str, labels: Sequence[Label], done: Done) -> None:
        """`done(None)` once the labels are in the log, `done(error)` if they may not be."""
        self._intake.offer_labels(model, labels, done)

    def advance(self, ts_ns: int) -> None:
        """Promise that every row offered from now on arrived at `ts_ns` or later."""
        if self._promised_ns is None or ts_ns > self._promised_ns:
            self._promised_ns = ts_ns

    def close(self, timeout_s: float) -> bool:
        """Write what is buffered, account for the rest, end the incarnation.

        Returns: whether the end record is in the log. If not, `close_books` does
        it once this process is gone.
        """
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        return self._ended

    def _announce(self) -> None:
        """Be in the log before there are rows; a disk that refuses is asked again by `_flush`."""
        now_ns = self.now_ns()
        self._store([], now_ns, now_ns, durable=False)

    def _run(self) -> None:
        interval_s = self._settings.flush_ms / 1000
        while not self._closing:
            self._wake.wait(interval_s)
            self._wake.clear()
            self._guarded_flush()
        self._end()

    def _guarded_flush(self) -> None:
        try:
            self._flush()
        except Exception:
            # The thread must live: whatever was taken is accounted for at the end.
            logger.exception("prediction log: a flush failed")

    def _flush(self) -> None:
        now_ns = self.now_ns()
        promised_ns = self._promised_ns  # before the queue is read: see the module's law
        offered, labels, skips = self._intake.take()
        watermark_ns = max(self._published_ns, now_ns if promised_ns is None else promised_ns)
        try:
            for first, rows, reason, model in skips:
                self._owe((reason, model), [(first, rows)])
            records, unfit = self._encode(offered)
            label_records, unfit_labels = self._label_records(labels, now_ns)
            records += label_records
            error = self._store(
                records, now_ns, watermark_ns, durable=any(item.done for item in offered)
            )
            for item in offered:
                if item.done is not None:
                    _call(item.done, error or unfit.get(id(item)))
            for taken in labels:
                _call(taken.done, error or unfit_labels.get(id(taken)))
        except Exception as failure:  # ours; whoever waits is not left waiting
            waiting = [item.done for item in offered if item.done is not None]
            for done in [*waiting, *(taken.done for taken in labels)]:
                _call(done, failure)
            raise
        finally:
            self._intake.taken(offered, labels)

    def _encode(self, offered: Sequence[Offered]) -> tuple[list[Record], dict[int, Exception]]:
        """Records, and by id the items that could not be encoded."""
        groups: dict[Hashable, list[Offered]] = {}
        for item in offered:
            if len(item.rows):
                groups.setdefault(key_of(item.rows), []).append(item)
        records: list[Record] = []
        unfit: dict[int, Exception] = {}
        for items in groups.values():
            try:
                records += self._encode_group([item.rows for item in items])
            except Exception as error:  # a caller's mistake must not cost other rows
                logger.error("prediction log: rows of %s: %s", items[0].rows.model, error)
                for item in items:
                    unfit[id(item)] = error
                    self._owe((GapReason.CORRUPT, item.rows.model), item.rows.all_runs)
        for item in offered:
            if item.release is not None:
                _call(item.release)
        return records, unfit

    def _encode_group(self, batches: Sequence[PredictionRows]) -> list[Record]:
        settings = self._settings
        rows = concatenate(batches)
        if int(rows.ts_ns.min()) < self._published_ns:
            self.late_rows += int((rows.ts_ns < self._published_ns).sum())
        pieces = split(rows, settings.record_rows_max, settings.record_bytes_max)
        return [encode_predictions(piece, self._producer, self._published_ns) for piece in pieces]

    def _label_records(
        self, labels: Sequence[OfferedLabels], now_ns: int
    ) -> tuple[list[Record], dict[int, Exception]]:
        """Records, and by id the items that could not be encoded."""
        by_model: dict[str, list[OfferedLabels]] = {}
        for item in labels:
            by_model.setdefault(item.model, []).append(item)
        records: list[Record] = []
        unfit: dict[int, Exception] = {}
        number = self._spool.next_label
        for model, items in by_model.items():
            try:
                made = self._encode_labels(model, items, number, now_ns)
            except Exception:  # a caller's mistake must not cost other labels: find whose
                made = []
                for item in items:
                    first = number + sum(record.rows for record in made)
                    try:
                        made += self._encode_labels(model, [item], first, now_ns)
                    except Exception as error:
                        logger.error("prediction log: labels of %s: %s", model, error)
                        unfit[id(item)] = error
            records += made
            number += sum(record.rows for record in made)
        return records, unfit

    def _encode_labels(
        self, model: str, items: Sequence[OfferedLabels], number: int, now_ns: int
    ) -> list[Record]:
        batch = [label for item in items for label in item.labels]
        rows_max = self._settings.record_rows_max
        return [
            encode_labels(
                model,
                batch[start : start + rows_max],
                self._producer,
                number + start,
                self._published_ns,
                # Labels arrive when they are written: never before a published watermark.
                arrived_ns=max(now_ns, self._published_ns),
            )
            for start in range(0, len(batch), rows_max)
        ]

    def _store(
        self, records: list[Record], now_ns: int, watermark_ns: int, *, durable: bool
    ) -> StorageError | None:
        """Append what is due; on failure the rows are owed as a gap. Returns the failure."""
        batch = records
        try:
            self._settle()  # first: it may strike gaps off what is owed
            batch = self._gap_records() + records
            due = now_ns - self._written_ns >= self._settings.heartbeat_ms * 1_000_000
            if batch:
                batch[-1] = replace(batch[-1], watermark_ns=watermark_ns)
            elif due:
                batch = [heartbeat_record(self._producer, self.acknowledged, watermark_ns)]
            else:
                return None
            self._append(batch, durable=durable)
        except StorageError as error:
            self._lose(batch)
            return error
        self._published_ns, self._written_ns = watermark_ns, now_ns
        return None

    def _append(self, batch: Sequence[Record], *, durable: bool = False) -> None:
        try:
            self._spool.append(batch, durable=durable)
        except StorageError as error:
            self._back_off(error)
            raise
        if self._retry_at_s:
            logger.warning("prediction log: writing again")
            self._retry_at_s = 0.0
        self._count(batch)
        self._pending.clear()  # every gap that was owed is in the batch

    def _settle(self) -> bool:
        """Find out what became of a failed append, at most once in RETRY_S.

        Returns: whether there was one and its records are in the log.
        """
        if self._retry_at_s and time.monotonic() < self._retry_at_s and not self._closing:
            raise StorageError("the disk refused a moment ago")
        doubted = self._spool.in_doubt
        if not doubted:
            return False
        try:
            stored = self._spool.settle()
        except StorageError as error:
            self._back_off(error)
            raise
        if stored:
            self._count(doubted)
            self._published_ns = max(self._published_ns, doubted[-1].watermark_ns)
            self._forgive(doubted)
        else:
            self._lose(doubted)
        return stored

    def _back_off(self, error: StorageError) -> None:
        if not self._retry_at_s:
            logger.warning("prediction log: %s; predictions go on, their rows become gaps", error)
        self._retry_at_s = time.monotonic() + RETRY_S

    def _lose(self, batch: Sequence[Record]) -> None:
        """Owe the rows of records that were not written, save those still in doubt."""
        doubted = {id(record) for record in self._spool.in_doubt}
        for record in batch:
            if _has_rows(record) and id(record) not in doubted:
                self._owe((GapReason.STORAGE, record.headers.get("model", "")), runs_of(record))

    def _owe(self, key: GapKey, runs: Sequence[Run]) -> None:
        """Remember a gap until it is written; past the bound, until the incarnation ends."""
        if sum(map(len, self._pending.values())) < SKIPS_MAX:
            self._pending.setdefault(key, Intervals()).update(runs)

    def _forgive(self, written: Sequence[Record]) -> None:
        """Take gaps that turned out to be written off what is owed."""
        for record in written:
            if record.kind is RecordKind.GAP:
                gap = parse_gap(record)
                owed = self._pending.get((gap.reason, gap.model), Intervals())
                left = owed.minus(Intervals(runs_of(record)))
                self._pending[gap.reason, gap.model] = Intervals(left)

    def _gap_records(self) -> list[Record]:
        """All that is owed, in records of bounded size."""
        records: list[Record] = []
        for (reason, model), intervals in self._pending.items():
            runs = intervals.runs()
            records += [
                gap_record(
                    self._producer,
                    runs[start : start + RUNS_PER_GAP],
                    reason,
                    model=model,
                    watermark_ns=self._published_ns,
                )
                for start in range(0, len(runs), RUNS_PER_GAP)
            ]
        return records

    def _count(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if _has_rows(record):
                self.written += record.rows
            elif record.kind is RecordKind.GAP:
                label = parse_gap(record).reason.label
                self.gap_rows[label] = self.gap_rows.get(label, 0) + record.rows

    def _end(self) -> None:
        """The last flush, a gap for what was numbered and never offered, the end record."""
        acknowledged = self._intake.close()
        self._guarded_flush()
        for attempt in range(END_ATTEMPTS):
            try:
                self._write_end(acknowledged)
                break
            except (StorageError, OSError) as error:
                if attempt + 1 == END_ATTEMPTS:
                    logger.warning("prediction log: no end record: %s", error)
                time.sleep(END_PAUSE_S)
        self._spool.close()
        self._intake.detach()
        self._slab.release()

    def _write_end(self, acknowledged: int) -> None:
        doubted = self._spool.in_doubt
        if self._settle() and doubted[-1].kind is RecordKind.END:
            self._mark_ended()  # the attempt before this one went well after all
            return
        batch = self._gap_records()
        owed = Intervals(run for gaps in self._pending.values() for run in gaps.runs())
        missing = Intervals(self._spool.accounted.missing(acknowledged))
        if left := missing.minus(owed):
            batch.append(
                gap_record(self._producer, left, GapReason.CRASH, watermark_ns=self._published_ns)
            )
        watermark_ns = max(self._published_ns, self.now_ns())
        batch.append(end_record(self._producer, acknowledged, watermark_ns, clean=True))
        self._append(batch, durable=True)
        self._mark_ended()

    def _mark_ended(self) -> None:
        self._slab.close_books(self.now_ns())
        self._ended = True


def _has_rows(record: Record) -> bool:
    return record.kind is RecordKind.DATA and record.stream == PREDICTIONS


def _call(callback: Callable[..., None], *args: object) -> None:
    try:
        callback(*args)
    except Exception:  # theirs, in our thread
        logger.exception("prediction log: a callback failed")
