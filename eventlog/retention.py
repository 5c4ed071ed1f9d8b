"""Keeping the log inside its age and its byte budget.

Laws:
- whole segments go, never rows; never one that a living producer may still
  write, nor the one before it;
- what every consumer group has read goes first and leaves nothing; what one has
  not read is replaced by gap records at the same offsets, in one rename;
- where the log goes on to Kafka, what was delivered there is not kept here;
- the budget counts files, write-ahead logs and set-aside ones too.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from eventlog.core.marks import gap_record
from eventlog.core.record import PREDICTIONS, GapReason, RecordKind, StoredRecord, runs_of
from eventlog.log import StorageError
from eventlog.positions import Consumed, delivery_group, read_positions
from eventlog.repair import repair_segment
from eventlog.segment import (
    SegmentDamaged,
    build_segment,
    connect_reader,
    damage,
    last_offset,
    read_meta,
    read_records,
)
from eventlog.segment_files import (
    CORRUPT_SUFFIX,
    SCRATCH_SUFFIX,
    WAL_SUFFIXES,
    SegmentName,
    all_segments,
    books_lock,
    list_segments,
    list_slabs,
    remove_segment,
    segment_bytes,
    slab_path,
)
from eventlog.settings import LogSettings
from eventlog.slab import SlabDamaged, SlabState, SlabView

# What a crash left half-written is older than any writing takes.
SCRATCH_NS_MAX = 3_600_000_000_000
READ_BATCH = 32

logger = logging.getLogger(__name__)


class Cause(Enum):
    AGE = "age"
    BYTES = "bytes"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Removed:
    """One file that went. gap_rows: prediction rows that nobody will read now."""

    name: str
    bytes: int
    cause: Cause
    gap_rows: int = 0


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: SegmentName
    bytes: int
    modified_ns: int
    consumed: bool
    tombstone: bool


def enforce_retention(directory: Path, settings: LogSettings, now_ns: int) -> list[Removed]:
    """Remove what is over age, then the oldest until the rest fits the budget.

    Consumed segments go before unread ones. Call it now and then from one place.
    Raises: OSError if the directory cannot be read.
    """
    if not directory.is_dir():
        return []
    damaged: list[SegmentName] = []
    group = delivery_group(settings)
    with books_lock(directory):
        _sweep(directory, now_ns)
        removed = _remove_set_aside(directory, settings, now_ns)
        candidates, kept_bytes = _survey(directory, group)
        total = kept_bytes + sum(item.bytes for item in candidates)
        for item in sorted(candidates, key=lambda c: (not c.consumed, c.modified_ns, c.name)):
            expired = now_ns - item.modified_ns > settings.retention_s * 1e9
            if not expired and total <= settings.retention_bytes:
                continue
            if item.tombstone and not item.consumed:
                continue
            result = _remove(directory, item, Cause.AGE if expired else Cause.BYTES, damaged)
            if result is not None:
                removed.append(result)
                total -= result.bytes
        _forget_incarnations(directory, settings, now_ns)
    for name in damaged:
        repair_segment(directory, name, group)  # the next call finds a sound one
    return removed


def remove_delivered(directory: Path, group: str) -> list[Removed]:
    """Remove the segments that every consumer group has read, of any age; leaves no gap.

    For a log whose records are kept elsewhere. Raises: OSError.
    """
    with books_lock(directory):
        read = [item for item in _survey(directory, group)[0] if item.consumed]
        for item in read:
            remove_segment(directory, item.name)
    return [Removed(str(item.name), item.bytes, Cause.DELIVERED) for item in read]


def _survey(directory: Path, group: str) -> tuple[list[_Candidate], int]:
    """What may go, and the bytes of what may not."""
    positions = read_positions(directory, group)
    candidates: list[_Candidate] = []
    kept_bytes = 0
    for producer, names in list_segments(directory).items():
        # The writer of an open incarnation needs its last segment, and its books
        # need the one before it if that last one is damaged.
        removable = len(names) if _is_closed(directory, producer) else len(names) - 2
        for index, name in enumerate(names):
            size = segment_bytes(directory, name)
            if index >= removable:
                kept_bytes += size
                continue
            candidates.append(_candidate(directory, names, index, size, positions))
    return candidates, kept_bytes


def _candidate(
    directory: Path,
    names: Sequence[SegmentName],
    index: int,
    size: int,
    positions: Mapping[str, Consumed],
) -> _Candidate:
    name = names[index]
    path = directory / str(name)
    last: int | None = names[index + 1].first_offset - 1 if index + 1 < len(names) else None
    tombstone = False
    try:
        if last is None or name.revision:
            with damage(path), closing(connect_reader(path)) as connection:
                last = last_offset(connection) if last is None else last
                tombstone = read_meta(connection).tombstone
    except StorageError:
        last = last if last is not None else 1 << 62  # not known to be read
    read = [consumed.position.get(name.producer, 0) for consumed in positions.values()]
    modified_ns = path.stat().st_mtime_ns
    return _Candidate(name, size, modified_ns, bool(read) and min(read) >= last, tombstone)


def _remove(
    directory: Path, item: _Candidate, cause: Cause, damaged: list[SegmentName]
) -> Removed | None:
    """None if the gaps cannot be written now: then the rows stay."""
    gap_rows, freed = 0, item.bytes
    if not item.consumed:
        try:
            gap_rows, size = _bury(directory, item.name)
        except SegmentDamaged:
            damaged.append(item.name)
            return None
        except (StorageError, OSError) as error:
            logger.warning("log segment %s stays: %s", item.name, error)
            return None
        freed -= size
    remove_segment(directory, item.name)
    return Removed(str(item.name), freed, cause, gap_rows)


def _bury(directory: Path, name: SegmentName) -> tuple[int, int]:
    """Put gap records in the place of unread data; marks and gaps stay as they are.

    Record by record at the same offsets, so that a reader in the middle of the
    segment misses exactly what it had not read.
    Returns: prediction rows lost, bytes of the replacement.
    """
    path = directory / str(name)
    buried: list[StoredRecord] = []
    lost = 0
    with damage(path), closing(connect_reader(path)) as connection:
        meta = read_meta(connection)
        after = 0
        while batch := read_records(connection, name, after, READ_BATCH):
            lost += sum(item.record.rows for item in batch if _is_prediction_data(item))
            buried += [_gap_for(item) for item in batch]
            after = batch[-1].offset
    replacement = name.replacement()
    build_segment(directory, replacement, replace(meta, tombstone=True), buried)
    return lost, segment_bytes(directory, replacement)


def _is_prediction_data(item: StoredRecord) -> bool:
    return item.record.kind is RecordKind.DATA and item.record.stream == PREDICTIONS


def _gap_for(item: StoredRecord) -> StoredRecord:
    record = item.record
    if record.kind is not RecordKind.DATA:
        return item
    gap = gap_record(
        record.producer,
        runs_of(record),
        GapReason.RETENTION,
        model=record.headers.get("model", ""),
        watermark_ns=record.watermark_ns,
        stream=record.stream,
    )
    return StoredRecord(item.partition, item.offset, gap)


def _is_closed(directory: Path, producer: str) -> bool:
    try:
        return SlabView(directory, producer).state == SlabState.CLOSED
    except (SlabDamaged, FileNotFoundError):
        return False


def _sweep(directory: Path, now_ns: int) -> None:
    """Remove what an interrupted replacement or removal has left behind."""
    current = {name for names in list_segments(directory).values() for name in names}
    for name in all_segments(directory):
        if name not in current:
            remove_segment(directory, name)
    for path in directory.glob(f"*{SCRATCH_SUFFIX}"):
        with suppress(FileNotFoundError):  # a file that is being made has its name by now
            if now_ns - path.stat().st_mtime_ns > SCRATCH_NS_MAX:
                path.unlink()
    for suffix in WAL_SUFFIXES:
        for path in directory.glob(f"*.db{suffix}"):
            if not path.with_name(path.name.removesuffix(suffix)).exists():
                path.unlink(missing_ok=True)


def _remove_set_aside(directory: Path, settings: LogSettings, now_ns: int) -> list[Removed]:
    """Damaged files are kept for a person to look at, no longer than the rest."""
    removed: list[Removed] = []
    paths = sorted(directory.glob(f"*{CORRUPT_SUFFIX}*"), key=lambda path: path.stat().st_mtime_ns)
    total = sum(path.stat().st_size for path in paths)
    for path in paths:
        status = path.stat()
        expired = now_ns - status.st_mtime_ns > settings.retention_s * 1e9
        if expired or total > settings.retention_bytes // 4:
            path.unlink()
            total -= status.st_size
            cause = Cause.AGE if expired else Cause.BYTES
            removed.append(Removed(path.name, status.st_size, cause))
    return removed


def _forget_incarnations(directory: Path, settings: LogSettings, now_ns: int) -> None:
    """Drop the slabs of incarnations that ended long ago and of which no data are left."""
    segments = list_segments(directory)
    for producer in list_slabs(directory):
        try:
            slab = SlabView(directory, producer)
        except (SlabDamaged, FileNotFoundError):
            continue
        age_ns = now_ns - slab.closed_ns
        if slab.state != SlabState.CLOSED or age_ns <= settings.retention_s * 1e9:
            continue
        names = segments.get(producer, [])
        if all(_is_old_tombstone(directory, name, settings, now_ns) for name in names):
            for name in names:
                remove_segment(directory, name)
            slab_path(directory, producer).unlink(missing_ok=True)


def _is_old_tombstone(
    directory: Path, name: SegmentName, settings: LogSettings, now_ns: int
) -> bool:
    path = directory / str(name)
    if not name.revision or now_ns - path.stat().st_mtime_ns <= settings.retention_s * 1e9:
        return False
    try:
        with damage(path), closing(connect_reader(path)) as connection:
            return read_meta(connection).tombstone
    except StorageError:
        return False
