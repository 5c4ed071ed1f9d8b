"""Closing the books of incarnations whose process is gone, and repairing segments.

Laws:
- only who holds the books' lock replaces segments; only who holds a slab's lock
  ends an incarnation;
- whatever is written takes effect by one rename, so a kill at any point leaves
  the state before or after, and doing it again is harmless;
- after it, every sequence number below `acknowledged` is in exactly one record,
  or was consumed from one.
"""

import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eventlog.core.intervals import drop_first
from eventlog.core.marks import end_record, gap_record
from eventlog.core.record import (
    LABELS,
    GapReason,
    Record,
    RecordKind,
    Run,
    StoredRecord,
)
from eventlog.log import StorageError
from eventlog.positions import MONITOR_GROUP, Consumed, read_positions
from eventlog.repair import read_all, repair_all
from eventlog.segment import (
    Meta,
    accounted,
    build_segment,
)
from eventlog.segment_files import (
    CORRUPT_SUFFIX,
    SegmentName,
    all_segments,
    books_lock,
    list_segments,
    list_slabs,
    slab_path,
)
from eventlog.slab import Slab, SlabDamaged, SlabInUse, SlabState, create_slab

# A worker opens its slab within seconds of being given its name.
RESERVED_NS_MAX = 3_600_000_000_000
ALLOCATE_ATTEMPTS = 64
READ_BATCH = 32  # records at a time: 24 MiB at most

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClosedIncarnation:
    """An incarnation whose books were closed just now.

    gaps:      reason label -> rows of the gap records that closing wrote.
    uncertain: the machine went down, or the slab was damaged: clients may have
               been told of more rows than `acknowledged`.
    damaged:   files that were set aside.
    """

    producer: str
    acknowledged: int
    gaps: Mapping[str, int] = field(default_factory=dict)
    uncertain: bool = False
    damaged: tuple[str, ...] = ()


def allocate_incarnation(directory: Path, clock: Callable[[], int] = time.time_ns) -> str:
    """A new producer name, reserved on disk: 24 random bits that no slab or segment has.

    Raises: StorageError if no free name was found, OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    used = {name.producer for name in all_segments(directory)}
    for _ in range(ALLOCATE_ATTEMPTS):
        producer = secrets.token_hex(3)
        if producer in used:
            continue
        try:
            create_slab(directory, producer, clock())
        except FileExistsError:
            continue
        return producer
    raise StorageError(f"{directory} has no free incarnation name")


def close_books(
    directory: Path, clock: Callable[[], int] = time.time_ns, group: str = MONITOR_GROUP
) -> list[ClosedIncarnation]:
    """Account for every incarnation whose process is gone; idempotent.

    What an incarnation numbered and did not write becomes a gap (crash; unknown
    after a power loss), then its end record follows. Damaged segments are set
    aside as `*.corrupt`, what is intact in them is kept, the rest is a gap
    (corrupt). An incarnation that cannot be closed now (full disk) is left for
    the next call.
    group: whose reading counts as delivery.
    """
    if not directory.is_dir():
        return []
    closed: list[ClosedIncarnation] = []
    with books_lock(directory):
        producers = {*list_slabs(directory), *list_segments(directory)}
        for producer in sorted(producers):
            try:
                result = _close_one(directory, producer, clock(), group)
            except (StorageError, OSError, sqlite3.Error) as error:
                logger.warning("books of incarnation %s stay open: %s", producer, error)
                continue
            if result is not None:
                closed.append(result)
    return closed


def _close_one(directory: Path, producer: str, now_ns: int, group: str) -> ClosedIncarnation | None:
    names = list_segments(directory).get(producer, [])
    try:
        slab = Slab(directory, producer)
    except SlabInUse:
        return None
    except (SlabDamaged, FileNotFoundError) as error:
        slab = _rebuild_slab(directory, producer, now_ns, error)
    try:
        state = slab.state
        if state is SlabState.CLOSED:
            return None
        if state is SlabState.RESERVED and not names:
            _forget_reserved(directory, slab, now_ns)
            return None
        uncertain = state is not SlabState.OPEN or not slab.same_boot
        return _settle(directory, slab, names, now_ns, group, uncertain=uncertain)
    finally:
        slab.release()


def _settle(
    directory: Path,
    slab: Slab,
    names: list[SegmentName],
    now_ns: int,
    group: str,
    *,
    uncertain: bool,
) -> ClosedIncarnation:
    producer = slab.producer
    positions = read_positions(directory, group)
    damaged = repair_all(directory, names, slab.acknowledged, positions, group)
    names = list_segments(directory).get(producer, [])
    meta, stored = _last_segment(directory, names, producer)
    covered = accounted(meta, stored)
    if stored and stored[-1].record.kind is RecordKind.END:
        # Only the mark in the slab is missing: killed between the two.
        slab.acknowledged = max(slab.acknowledged, covered.end)
        slab.close_books(now_ns)
        return ClosedIncarnation(producer, slab.acknowledged, {}, damaged=damaged)
    slab.acknowledged = max(slab.acknowledged, covered.end)
    last = stored[-1].offset if stored else meta.first_offset - 1
    reached = max((c.position.get(producer, 0) for c in positions.values()), default=0)
    missing = covered.missing(slab.acknowledged)
    if reached > last:  # read by a consumer, then lost with the machine: these were delivered
        consumed = positions.get(group, Consumed()).rows(producer)
        missing = drop_first(missing, max(0, consumed - covered.total))
    watermark_ns = stored[-1].record.watermark_ns if stored else 0
    reason = GapReason.UNKNOWN if uncertain else GapReason.CRASH
    records = _closing_records(producer, missing, reason, slab.acknowledged, watermark_ns)
    first = max(last, reached) + 1
    labels = meta.labels + sum(s.record.rows for s in stored if s.record.stream == LABELS)
    name = SegmentName(producer, first)
    # One in which nothing can be seen is left alone: its readers keep it open, and its
    # write-ahead log would be taken for that of the new file.
    name = next((it.replacement() for it in names if it.first_offset == first), name)
    build_segment(
        directory,
        name,
        Meta(producer, first, covered.runs(), labels, now_ns),
        [StoredRecord(producer, first + i, record) for i, record in enumerate(records)],
    )
    slab.close_books(now_ns, uncertain=uncertain)
    rows = sum(count for _, count in missing)
    gaps = {reason.label: rows} if rows else {}
    return ClosedIncarnation(producer, slab.acknowledged, gaps, uncertain, damaged)


def _closing_records(
    producer: str, missing: Sequence[Run], reason: GapReason, acknowledged: int, watermark_ns: int
) -> list[Record]:
    records = []
    if missing or reason is GapReason.UNKNOWN:  # an uncertainty is told also when no row is named
        records.append(
            gap_record(producer, missing, reason, watermark_ns=watermark_ns, at=acknowledged)
        )
    records.append(end_record(producer, acknowledged, watermark_ns, clean=False))
    return records


def _last_segment(
    directory: Path, names: Sequence[SegmentName], producer: str
) -> tuple[Meta, list[StoredRecord]]:
    if not names:
        return Meta(producer, 1, (), 0, 0), []
    return read_all(directory, names[-1])


def _rebuild_slab(directory: Path, producer: str, now_ns: int, error: Exception) -> Slab:
    path = slab_path(directory, producer)
    if path.exists():
        path.rename(path.with_name(path.name + CORRUPT_SUFFIX))
        logger.warning("%s: set aside, its incarnation's last rows are unknown", error)
    create_slab(directory, producer, now_ns)
    return Slab(directory, producer)


def _forget_reserved(directory: Path, slab: Slab, now_ns: int) -> None:
    if now_ns - slab.created_ns > RESERVED_NS_MAX or not slab.same_boot:
        slab_path(directory, slab.producer).unlink()
