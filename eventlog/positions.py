"""How far each consumer group has read, in one small file per group.

The monitor owns its position, in one transaction with its statistics; what is
published here is a copy for the ledger and for retention. The shipper's is here
alone. A consumer publishes once at its start, before it reads, and then as often
as it likes.

One group's reading counts as delivery: the monitor's where the log ends here, the
shipper's where it goes on to Kafka. What the other one has left behind when that
was changed holds nothing back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from eventlog.core.marks import parse_gap
from eventlog.core.record import (
    PREDICTIONS,
    LogError,
    RecordError,
    RecordKind,
    StoredRecord,
)
from eventlog.segment_files import list_segments, list_slabs, replace_file
from eventlog.settings import LogSettings

MONITOR_GROUP = "monitor"
SHIPPER_GROUP = "shipper"
DELIVERY_GROUPS = (MONITOR_GROUP, SHIPPER_GROUP)
_FOLDER = "positions"


@dataclass(frozen=True, slots=True)
class Consumed:
    """What a group has consumed, prediction rows only.

    position:  partition -> last offset.
    delivered: producer -> rows of DATA records.
    gaps:      (producer, reason label) -> rows of GAP records.
    """

    position: Mapping[str, int] = field(default_factory=dict)
    delivered: Mapping[str, int] = field(default_factory=dict)
    gaps: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def rows(self, producer: str) -> int:
        """Rows of `producer` that are behind the position, in DATA and GAP records."""
        gaps = sum(rows for (name, _), rows in self.gaps.items() if name == producer)
        return self.delivered.get(producer, 0) + gaps


class ConsumedTally:
    """Adds records up as a consumer takes them; `consumed()` is what to publish."""

    def __init__(self, start: Consumed | None = None) -> None:
        start = start or Consumed()
        self._position = dict(start.position)
        self._delivered = dict(start.delivered)
        self._gaps = dict(start.gaps)

    def add(self, stored: StoredRecord, repeated: int = 0) -> None:
        """repeated: how many of its rows were in records before it, or count elsewhere."""
        record, rows = stored.record, stored.record.rows - repeated
        self._position[stored.partition] = stored.offset
        if record.stream != PREDICTIONS:
            return
        if record.kind is RecordKind.DATA:
            self._delivered[record.producer] = self._delivered.get(record.producer, 0) + rows
        elif record.kind is RecordKind.GAP:
            key = (record.producer, _reason(stored))
            self._gaps[key] = self._gaps.get(key, 0) + rows

    def consumed(self) -> Consumed:
        return Consumed(dict(self._position), dict(self._delivered), dict(self._gaps))


def delivery_group(settings: LogSettings) -> str:
    """The group whose reading of the spool counts as delivery."""
    return SHIPPER_GROUP if settings.kafka else MONITOR_GROUP


def publish_position(
    directory: Path, group: str, consumed: Consumed, room: Path | None = None
) -> None:
    """Replace the position of `group` at once.

    room: a file to write it into, which then is the position's; for a full disk.
    Raises: ValueError for a group name that is no plain file name, OSError.
    """
    folder = directory / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    document = {
        "position": dict(consumed.position),
        "delivered": dict(consumed.delivered),
        "gaps": [[*key, rows] for key, rows in consumed.gaps.items()],
    }
    replace_file(folder / _file(group), json.dumps(document).encode(), room)


def read_position(directory: Path, group: str) -> Consumed | None:
    """What `group` published last; None if it never did.

    Raises: LogError if the file is damaged, OSError.
    """
    path = directory / _FOLDER / _file(group)
    try:
        document = json.loads(path.read_bytes())
        return Consumed(
            {str(name): int(offset) for name, offset in document["position"].items()},
            {str(name): int(rows) for name, rows in document["delivered"].items()},
            {(str(name), str(reason)): int(rows) for name, reason, rows in document["gaps"]},
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise LogError(f"{path.name}: the published position is damaged") from exc


def read_positions(directory: Path, delivery: str) -> dict[str, Consumed]:
    """The positions of all who read here: of group `delivery`, and of any others but its kind.

    A damaged file counts as a group that has read nothing.
    """
    positions: dict[str, Consumed] = {}
    for path in sorted((directory / _FOLDER).glob("*.json")):
        if path.stem in DELIVERY_GROUPS and path.stem != delivery:
            continue
        try:
            consumed = read_position(directory, path.stem)
        except LogError:
            consumed = Consumed()
        if consumed is not None:
            positions[path.stem] = consumed
    return positions


def of_spool(directory: Path, consumed: Consumed) -> Consumed:
    """What of it is about producers that have a partition of their own in this log.

    Without those that are forgotten, since a name may be given again, and without
    what was read elsewhere.
    """
    producers = {*list_segments(directory), *list_slabs(directory)} & set(consumed.position)
    return Consumed(
        {name: offset for name, offset in consumed.position.items() if name in producers},
        {name: rows for name, rows in consumed.delivered.items() if name in producers},
        {key: rows for key, rows in consumed.gaps.items() if key[0] in producers},
    )


def _file(group: str) -> str:
    if not group.isidentifier():
        raise ValueError(f"consumer group {group!r}: expected letters, digits and underscores")
    return f"{group}.json"


def _reason(stored: StoredRecord) -> str:
    try:
        return parse_gap(stored.record).reason.label
    except RecordError:
        return "unknown"
