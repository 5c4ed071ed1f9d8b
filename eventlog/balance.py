"""acknowledged = delivered + spooled + gaps, per incarnation."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from eventlog.core.record import GapReason
from eventlog.log import StorageError
from eventlog.positions import MONITOR_GROUP, Consumed, read_position
from eventlog.segment import connect_reader, damage, tally
from eventlog.segment_files import SegmentName, books_lock, list_segments, list_slabs
from eventlog.slab import SlabDamaged, SlabView

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One incarnation, in prediction rows.

    live:         its process runs.
    acknowledged: numbered before a reply was written.
    delivered:    in DATA records that the delivery group has read.
    spooled:      in DATA records that it has not.
    gaps:         reason label -> rows that will not appear, read or not.
    uncertain:    after a power loss: clients may know of more rows than these.
    """

    producer: str
    live: bool
    acknowledged: int
    delivered: int
    spooled: int
    gaps: Mapping[str, int] = field(default_factory=dict)
    uncertain: bool = False

    @property
    def unexplained(self) -> int:
        """0 when the books balance; rows on their way, while the producer is busy."""
        return self.acknowledged - self.delivered - self.spooled - sum(self.gaps.values())


def ledger(directory: Path, group: str = MONITOR_GROUP) -> list[LedgerLine]:
    """One line per incarnation, by name. Nothing is removed while it is added up.

    group:  whose reading counts as delivery.
    Raises: LogError if the group's published position is damaged, OSError.
    """
    if not directory.is_dir():
        return []
    with books_lock(directory, shared=True):
        consumed = read_position(directory, group) or Consumed()
        segments = list_segments(directory)
        producers = sorted({*list_slabs(directory), *segments})
        return [_line(directory, p, segments.get(p, []), consumed) for p in producers]


def _line(
    directory: Path, producer: str, names: Sequence[SegmentName], consumed: Consumed
) -> LedgerLine:
    gaps = {reason: n for (name, reason), n in consumed.gaps.items() if name == producer and n}
    spooled = 0
    position = consumed.position.get(producer, 0)
    for index, name in enumerate(names):
        if index + 1 < len(names) and names[index + 1].first_offset <= position + 1:
            continue
        path = directory / str(name)
        try:
            with damage(path), closing(connect_reader(path)) as connection:
                unread = tally(connection, position)
        except StorageError as error:
            logger.warning("log segment %s cannot be added up: %s", name, error)
            continue
        spooled += unread.data
        for number, rows in unread.gaps.items():
            if rows:
                label = GapReason(number).label
                gaps[label] = gaps.get(label, 0) + rows
    delivered = consumed.delivered.get(producer, 0)
    try:
        slab = SlabView(directory, producer)
    except (SlabDamaged, FileNotFoundError):  # until its books are closed
        total = delivered + spooled + sum(gaps.values())
        return LedgerLine(producer, False, total, delivered, spooled, gaps, uncertain=True)
    return LedgerLine(
        producer, slab.live, slab.acknowledged, delivered, spooled, gaps, slab.uncertain
    )
