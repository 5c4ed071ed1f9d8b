"""Damaged segments: set aside, and replaced by what is intact in them.

The rest of their rows becomes a gap (corrupt). Which rows these are follows from
what the next segment says was accounted for before it; nothing is guessed.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from eventlog.core.intervals import Intervals, drop_first
from eventlog.core.marks import end_record, gap_record
from eventlog.core.record import (
    LABELS,
    PREDICTIONS,
    GapReason,
    Record,
    RecordKind,
    Run,
    StoredRecord,
    runs_of,
)
from eventlog.log import StorageError
from eventlog.positions import Consumed, read_positions
from eventlog.segment import (
    Meta,
    SegmentDamaged,
    accounted,
    build_segment,
    connect_reader,
    damage,
    read_meta,
    read_records,
    salvage,
)
from eventlog.segment_files import (
    CORRUPT_SUFFIX,
    SegmentName,
    books_lock,
    list_segments,
    set_aside,
)
from eventlog.slab import SlabDamaged, SlabState, SlabView

READ_BATCH = 32  # records at a time: 24 MiB at most

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Wreck:
    """A damaged segment and what is known about it.

    before:  its meta. stored: its intact records. missing: rows lost with it.
    upper:   the first offset of the next segment; None if it is the last.
    """

    name: SegmentName
    before: Meta
    stored: Sequence[StoredRecord]
    missing: Sequence[Run]
    upper: int | None
    reason: GapReason


def repair_segment(directory: Path, name: SegmentName, group: str) -> bool:
    """Replace a damaged segment of a closed or sealed row by what is intact in it.

    group: whose reading counts as delivery.
    Returns: whether a replacement is in place. The open segment of a living
    producer is left alone.
    """
    with books_lock(directory):
        names = list_segments(directory).get(name.producer, [])
        if name not in names:
            return name.replacement() in names
        index = names.index(name)
        acknowledged = _acknowledged_if_closed(directory, name.producer)
        if index + 1 == len(names) and acknowledged is None:
            return False
        try:
            ended = acknowledged is not None and index + 1 == len(names)
            _replace(directory, names, index, acknowledged, group, ended=ended)
        except (StorageError, OSError) as error:
            logger.warning("segment %s cannot be repaired now: %s", name, error)
            return False
    return True


def _acknowledged_if_closed(directory: Path, producer: str) -> int | None:
    try:
        slab = SlabView(directory, producer)
    except (SlabDamaged, OSError):
        return None
    return slab.acknowledged if slab.state == SlabState.CLOSED else None


def read_all(directory: Path, name: SegmentName) -> tuple[Meta, list[StoredRecord]]:
    """Meta and records, bodies of data left out: raises SegmentDamaged where any does not check."""
    path = directory / str(name)
    with damage(path), closing(connect_reader(path)) as connection:
        meta = read_meta(connection)
        light: list[StoredRecord] = []
        after = 0
        while batch := read_records(connection, name, after, READ_BATCH):
            light += [_without_body(item) for item in batch]
            after = batch[-1].offset
        return meta, light


def _without_body(item: StoredRecord) -> StoredRecord:
    record = item.record
    if record.kind is not RecordKind.DATA:
        return item
    empty = Record(
        record.stream,
        record.kind,
        record.producer,
        record.first_sequence,
        record.rows,
        record.watermark_ns,
        record.headers,
        b"",
    )
    return StoredRecord(item.partition, item.offset, empty)


def repair_all(
    directory: Path,
    names: Sequence[SegmentName],
    acknowledged: int,
    positions: Mapping[str, Consumed],
    group: str,
) -> tuple[str, ...]:
    """Check what somebody may still have to read; what all have read is past harm."""
    damaged: list[str] = []
    for index, name in enumerate(names):
        follower = names[index + 1] if index + 1 < len(names) else None
        if (
            follower
            and positions
            and all(
                c.position.get(name.producer, 0) >= follower.first_offset - 1
                for c in positions.values()
            )
        ):
            continue
        try:
            _, stored = read_all(directory, name)
            last = stored[-1].offset if stored else name.first_offset - 1
            sealed_at = name.sealed_at(follower)
            if sealed_at is not None and last < sealed_at:
                raise SegmentDamaged(f"{name}: record {last + 1} is missing")
        except SegmentDamaged:
            _replace(directory, names, index, acknowledged, group)
            damaged.append(str(name) + CORRUPT_SUFFIX)
    return tuple(damaged)


def _replace(
    directory: Path,
    names: Sequence[SegmentName],
    index: int,
    acknowledged: int | None,
    group: str,
    *,
    ended: bool = False,
) -> None:
    """Put what is intact, and a gap for the rest, in the place of a damaged segment.

    ended: its books are closed and it was the last, so it held the end record;
    nobody else would write that again, and a reader waits for it.
    """
    name = names[index]
    meta, stored = salvage(directory / str(name), name)
    before = meta or _meta_from_previous(directory, names, index)
    after, upper, labels = _what_follows(directory, names, index, acknowledged)
    reason = GapReason.CORRUPT
    if before is None:  # neither it nor its predecessor says what came before
        lowest = min((first for s in stored for first, _ in _prediction_runs(s)), default=after.end)
        before = Meta(name.producer, name.first_offset, ((0, lowest),) if lowest else (), 0, 0)
        reason = GapReason.UNKNOWN
    covered = accounted(before, stored)
    missing = after.minus(covered)
    consumed = read_positions(directory, group).get(group, Consumed())
    gaps = _gaps_for(_Wreck(name, before, stored, missing, upper, reason), consumed)
    records = {item.offset: item for item in (*stored, *gaps)}
    kept_labels = sum(item.record.rows for item in stored if item.record.stream == LABELS)
    lost_labels = 0 if labels is None else labels - before.labels - kept_labels
    if labels is not None and lost_labels > 0:
        offset = _free_offsets(name, records, upper, 0)[0]
        runs = ((labels - lost_labels, lost_labels),)
        gap = gap_record(name.producer, runs, reason, watermark_ns=0, stream=LABELS)
        records[offset] = StoredRecord(name.producer, offset, gap)
    if ended and not any(item.record.kind is RecordKind.END for item in stored):
        offset = _free_offsets(name, records, upper, max(records, default=0))[0]
        watermark_ns = max((item.record.watermark_ns for item in stored), default=0)
        end = end_record(name.producer, acknowledged or 0, watermark_ns, clean=False)
        records[offset] = StoredRecord(name.producer, offset, end)
    build_segment(
        directory, name.replacement(), before, [records[offset] for offset in sorted(records)]
    )
    aside = set_aside(directory, name)
    logger.warning(
        "log segment %s is damaged: set aside as %s, %d records kept, %d rows lost",
        name,
        aside.name,
        len(stored),
        sum(count for _, count in missing),
    )


def _gaps_for(wreck: _Wreck, consumed: Consumed) -> list[StoredRecord]:
    """Gap records for the lost rows: what the consumer had read lies behind its position.

    Which of them it had read is not known, only how many: the ledger counts, so
    the first ones are taken.
    """
    name, stored, missing = wreck.name, wreck.stored, wreck.missing
    producer = name.producer
    position = consumed.position.get(producer, 0)
    behind = [item for item in stored if item.offset <= position]
    read_rows = 0
    if position >= name.first_offset:
        read_rows = max(0, consumed.rows(producer) - accounted(wreck.before, behind).total)
    unread = drop_first(missing, read_rows)
    read = Intervals(missing).minus(Intervals(unread))
    taken = {item.offset: item for item in stored}
    gaps: list[StoredRecord] = []
    for runs, after in ((read, 0), (unread, position)):
        if not runs:
            continue
        offset = _free_offsets(name, taken, wreck.upper, after)[-1 if after else 0]
        watermark_ns = max((s.record.watermark_ns for s in stored if s.offset < offset), default=0)
        record = gap_record(producer, runs, wreck.reason, watermark_ns=watermark_ns)
        gaps.append(StoredRecord(producer, offset, record))
        taken[offset] = gaps[-1]
    return gaps


def _free_offsets(
    name: SegmentName, taken: Mapping[int, StoredRecord], upper: int | None, after: int
) -> list[int]:
    """Offsets of the segment beyond `after` that no record has, ascending, at least one.

    In a last segment (`upper` None) there is always room behind.
    """
    beyond = max([*taken, name.first_offset - 1, after]) + 1
    stop = beyond + 1 if upper is None else upper
    free = [o for o in range(max(name.first_offset, after + 1), stop) if o not in taken]
    return free or [beyond]


def _what_follows(
    directory: Path, names: Sequence[SegmentName], index: int, acknowledged: int | None
) -> tuple[Intervals, int | None, int | None]:
    """What was accounted for when the segment ended, its offsets' bound, labels until then.

    If the next segment is damaged too, the question goes to the one after it,
    less what can be saved of those between.
    """
    between: list[Run] = []
    bound = names[index + 1].first_offset if index + 1 < len(names) else None
    for later in names[index + 1 :]:
        meta, stored = salvage(directory / str(later), later)
        if meta is not None:
            ended = Intervals(Intervals(meta.accounted).minus(Intervals(between)))
            return ended, bound, None if between else meta.labels
        between += [run for item in stored for run in _prediction_runs(item)]
    whole = Intervals([(0, acknowledged or 0)])
    return Intervals(whole.minus(Intervals(between))), bound, None


def _prediction_runs(item: StoredRecord) -> tuple[Run, ...]:
    return runs_of(item.record) if item.record.stream == PREDICTIONS else ()


def _meta_from_previous(directory: Path, names: Sequence[SegmentName], index: int) -> Meta | None:
    """What a segment's meta must have said, from the one before it."""
    name = names[index]
    if index == 0:
        return Meta(name.producer, 1, (), 0, 0) if name.first_offset == 1 else None
    try:
        meta, stored = read_all(directory, names[index - 1])
    except StorageError:
        return None
    labels = meta.labels + sum(s.record.rows for s in stored if s.record.stream == LABELS)
    runs = accounted(meta, stored).runs()
    return Meta(name.producer, name.first_offset, runs, labels, meta.opened_ns)
