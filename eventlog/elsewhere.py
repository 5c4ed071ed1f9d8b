"""Rows that went on to Kafka and are not here any more, in a log that ends here again.

While `log.kafka` is set, segments go once they are shipped. When it is unset, the
monitor reads on where it was, over what is left: the rows between were delivered, and
not by it. How many they were is the shipper's count without what is still here and
without what the monitor had read, and can only be told before the monitor has passed
the place. So it is written down as its reading begins.

Law: a row counts as gone on only where the shipper's position lies behind it; what else
is missing stays unexplained.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from eventlog.core.record import GapReason, LogError
from eventlog.log import StorageError
from eventlog.positions import MONITOR_GROUP, SHIPPER_GROUP, Consumed, read_position
from eventlog.segment import connect_reader, damage, tally
from eventlog.segment_files import (
    SegmentName,
    books_lock,
    list_segments,
    list_slabs,
    replace_file,
)

NAME = "elsewhere.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """Prediction rows of one producer: in DATA records, and in GAP records by reason."""

    data: int = 0
    gaps: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.data + sum(self.gaps.values())

    def plus(self, other: "Rows") -> "Rows":
        reasons = {**self.gaps, **other.gaps}
        return Rows(
            self.data + other.data,
            {r: self.gaps.get(r, 0) + other.gaps.get(r, 0) for r in reasons},
        )

    def minus(self, other: "Rows") -> "Rows":
        """Never less than none."""
        gaps = {reason: rows - other.gaps.get(reason, 0) for reason, rows in self.gaps.items()}
        return Rows(
            max(0, self.data - other.data),
            {reason: rows for reason, rows in gaps.items() if rows > 0},
        )


def rows_consumed(consumed: Consumed, producer: str) -> Rows:
    gaps = {reason: n for (name, reason), n in consumed.gaps.items() if name == producer and n}
    return Rows(consumed.delivered.get(producer, 0), gaps)


def rows_after(directory: Path, names: Sequence[SegmentName], position: int) -> Rows:
    """What `names`, the segments of one producer, hold behind `position`.

    A segment that cannot be read counts as empty, and is named in a warning.
    """
    found = Rows()
    for index, name in enumerate(names):
        if index + 1 < len(names) and names[index + 1].first_offset <= position + 1:
            continue
        path = directory / str(name)
        try:
            with damage(path), closing(connect_reader(path)) as connection:
                counted = tally(connection, position)
        except StorageError as error:
            logger.warning("log segment %s cannot be added up: %s", name, error)
            continue
        gaps = {GapReason(number).label: rows for number, rows in counted.gaps.items() if rows}
        found = found.plus(Rows(counted.data, gaps))
    return found


def went_elsewhere(directory: Path, monitor: Consumed) -> dict[str, Rows]:
    """By producer; while the books are locked, so that nothing is removed meanwhile.

    monitor: what it has read. What is damaged of the rest explains nothing.
    """
    recorded = _recorded(directory)
    try:
        shipper = read_position(directory, SHIPPER_GROUP) or Consumed()
    except LogError as error:
        logger.warning("what went to Kafka is not known: %s", error)
        shipper = Consumed()
    segments = list_segments(directory)
    slabs = {*list_slabs(directory), *segments}
    found = {producer: rows for producer, rows in recorded.items() if producer in slabs}
    for producer in slabs & set(shipper.position):
        names, position = segments.get(producer, []), monitor.position.get(producer, 0)
        shipped_to = shipper.position[producer]
        gone_to = names[0].first_offset - 1 if names else shipped_to
        if position >= gone_to or gone_to > shipped_to:
            continue
        left = rows_after(directory, names, 0).minus(rows_after(directory, names, shipped_to))
        shipped = rows_consumed(shipper, producer).minus(left)
        known = rows_consumed(monitor, producer).plus(recorded.get(producer, Rows()))
        rows = shipped.minus(known)
        if rows.total:
            found[producer] = recorded.get(producer, Rows()).plus(rows)
    return found


def record_elsewhere(directory: Path) -> None:
    """To be called before the monitor reads.

    Raises: LogError if the monitor's published position is damaged, OSError.
    """
    with books_lock(directory):
        monitor = read_position(directory, MONITOR_GROUP) or Consumed()
        found = went_elsewhere(directory, monitor)
        if found != _recorded(directory):
            document = {name: [rows.data, dict(rows.gaps)] for name, rows in found.items()}
            replace_file(directory / NAME, json.dumps(document).encode())


def _recorded(directory: Path) -> dict[str, Rows]:
    try:
        document = json.loads((directory / NAME).read_bytes())
        return {
            str(name): Rows(int(data), {str(reason): int(n) for reason, n in gaps.items()})
            for name, (data, gaps) in document.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as exc:
        logger.warning("%s is damaged, and is made anew: %s", NAME, exc)
        return {}
