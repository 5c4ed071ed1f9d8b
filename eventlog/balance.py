"""acknowledged = delivered + elsewhere + spooled + gaps, per incarnation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eventlog.elsewhere import Rows, rows_after, rows_consumed, went_elsewhere
from eventlog.positions import MONITOR_GROUP, Consumed, read_position
from eventlog.segment_files import SegmentName, books_lock, list_segments, list_slabs
from eventlog.slab import SlabDamaged, SlabView


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One incarnation, in prediction rows.

    live:         its process runs.
    acknowledged: numbered before a reply was written.
    delivered:    in DATA records that the delivery group has read.
    elsewhere:    in DATA records that went to Kafka and are not here any more, where
                  the log ends here again and the monitor had not read them.
    spooled:      in DATA records that it has not.
    gaps:         reason label -> rows that will not appear, read or not.
    uncertain:    after a power loss: clients may know of more rows than these.
    """

    producer: str
    live: bool
    acknowledged: int
    delivered: int
    elsewhere: int
    spooled: int
    gaps: Mapping[str, int] = field(default_factory=dict)
    uncertain: bool = False

    @property
    def unexplained(self) -> int:
        """0 when the books balance; rows on their way, while the producer is busy."""
        explained = self.delivered + self.elsewhere + self.spooled + sum(self.gaps.values())
        return self.acknowledged - explained


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
        elsewhere = went_elsewhere(directory, consumed) if group == MONITOR_GROUP else {}
        return [
            _line(directory, p, segments.get(p, []), consumed, elsewhere.get(p, Rows()))
            for p in producers
        ]


def _line(
    directory: Path,
    producer: str,
    names: Sequence[SegmentName],
    consumed: Consumed,
    elsewhere: Rows,
) -> LedgerLine:
    position = consumed.position.get(producer, 0)
    read = rows_consumed(consumed, producer)
    unread = rows_after(directory, names, position)
    gaps = read.plus(unread).plus(elsewhere).gaps
    told = (read.data, elsewhere.data, unread.data, gaps)
    try:
        slab = SlabView(directory, producer)
    except (SlabDamaged, FileNotFoundError):  # until its books are closed
        total = sum(told[:3]) + sum(gaps.values())
        return LedgerLine(producer, False, total, *told, uncertain=True)
    return LedgerLine(producer, slab.live, slab.acknowledged, *told, slab.uncertain)
