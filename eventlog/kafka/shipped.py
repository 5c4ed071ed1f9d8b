"""How far the shipper has come: its position, and what may go from the spool behind it."""

import contextlib
import logging
import os
import threading
from pathlib import Path

from eventlog.core.record import LogError, StoredRecord
from eventlog.positions import (
    MONITOR_GROUP,
    SHIPPER_GROUP,
    Consumed,
    ConsumedTally,
    of_spool,
    publish_position,
    read_position,
)
from eventlog.retention import remove_delivered
from eventlog.segment import first_metas
from eventlog.segment_files import list_segments, list_slabs, segment_bytes
from eventlog.slab import rows_numbered

# Room for a position on a disk that is full of what could go once it is written. What is
# written there takes its place: freed, the room would be the workers' in a moment.
RESERVE_BYTES = 256 * 1024

logger = logging.getLogger(__name__)


class Shipped:
    """Position of group `shipper` in one log directory, which it alone moves."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reserve = directory / "shipper.reserve"
        self._tally = ConsumedTally(starting_point(directory))
        self._published: Consumed | None = None
        self._one_at_a_time = threading.Lock()  # a last call may meet one that is being waited for

    @property
    def consumed(self) -> Consumed:
        """A copy, as of now."""
        return self._tally.consumed()

    def add(self, stored: StoredRecord) -> None:
        """`stored`, as it was shipped, is acknowledged everywhere."""
        self._tally.add(stored)

    def publish(self, consumed: Consumed) -> bool:
        """Returns: whether that took the reserve, and `remove` is to follow at once.

        Raises: OSError; what is published then still stands.
        """
        with self._one_at_a_time:
            if consumed == self._published:
                return False
            spent = False
            try:
                publish_position(self._directory, SHIPPER_GROUP, consumed)
            except OSError:
                # There is one reserve: it is not given for a position that frees nothing.
                if not self._reserve.exists() or not self._frees(consumed):
                    raise
                publish_position(self._directory, SHIPPER_GROUP, consumed, self._reserve)
                spent = True
            self._published = consumed
            return spent

    def _frees(self, consumed: Consumed) -> bool:
        """Whether a segment lies whole behind it that may go though its producer lives."""
        return any(
            names[1].first_offset - 1 <= consumed.position.get(producer, 0)
            for producer, names in list_segments(self._directory).items()
            if len(names) > 2
        )

    def remove(self) -> None:
        """Unlink what lies whole behind the published position. Raises: OSError."""
        remove_delivered(self._directory, SHIPPER_GROUP)
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        if not self._reserve.exists():
            with contextlib.suppress(OSError), self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def lag(directory: Path, consumed: Consumed) -> tuple[int, int]:
    """Rows that were numbered and not shipped, and the bytes of segments not wholly shipped."""
    rows = {
        producer: max(0, rows_numbered(directory, producer) - consumed.rows(producer))
        for producer in list_slabs(directory)
    }
    size = 0
    for producer, names in list_segments(directory).items():
        position = consumed.position.get(producer, 0)
        followers = [name.first_offset - 1 for name in names[1:]]
        for name, last in zip(names, [*followers, None], strict=True):
            if position < last if last is not None else rows.get(producer, 0):
                size += segment_bytes(directory, name)
    return sum(rows.values()), size


def starting_point(directory: Path) -> Consumed:
    """Where the last shipper was; where none was, where the monitor was that has read here."""
    try:
        shipped = read_position(directory, SHIPPER_GROUP) or Consumed()
    except LogError as error:
        logger.warning("%s; what is left in the spool is shipped again", error)
        return _rebuilt(directory)
    read = Consumed()
    with contextlib.suppress(LogError):
        read = read_position(directory, MONITOR_GROUP) or read
    # Producers of a time in which the log ended here are known to the monitor alone.
    others = set(read.position) - set(shipped.position)
    both = Consumed(
        {**{name: read.position[name] for name in others}, **shipped.position},
        {**{n: rows for n, rows in read.delivered.items() if n in others}, **shipped.delivered},
        {**{key: rows for key, rows in read.gaps.items() if key[0] in others}, **shipped.gaps},
    )
    return of_spool(directory, both)


def _rebuilt(directory: Path) -> Consumed:
    """What is gone from the spool was delivered; gaps among it cannot be told from the rest."""
    segments = list_segments(directory)
    position: dict[str, int] = {}
    delivered: dict[str, int] = {}
    for producer in list_slabs(directory):
        if producer not in segments:
            position[producer] = 0
            delivered[producer] = rows_numbered(directory, producer)
    for producer, meta in first_metas(directory).items():
        position[producer] = meta.first_offset - 1
        delivered[producer] = sum(rows for _, rows in meta.accounted)
    return Consumed(position, delivered)
