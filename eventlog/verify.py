"""Reading the whole log to hold it against what was numbered.

Laws:
- the numbers are read first and the log after them, so rows that come meanwhile are
  no question; rows that were on their way are waited for, for a few seconds;
- a row counts as delivered because its record is there, not because a position says so.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

from eventlog.core.record import PREDICTIONS, Position, RecordError, StoredRecord
from eventlog.core.verification import RowCount, Verdict, judge
from eventlog.elsewhere import Rows, went_elsewhere
from eventlog.log import NOWHERE, Log, scan
from eventlog.positions import (
    MONITOR_GROUP,
    SHIPPER_GROUP,
    Consumed,
    of_spool,
    read_position,
)
from eventlog.segment import first_metas
from eventlog.segment_files import books_lock, list_slabs
from eventlog.settings import LogSettings
from eventlog.slab import SlabDamaged, SlabView
from eventlog.sqlite_log import SqliteLog

PATIENCE_S = 5.0
PAUSE_S = 0.2


class _Reading:
    """Records of predictions in one log, read on from where the last look ended."""

    def __init__(self, log: Log, after: Position, wanted: Callable[[str], bool]) -> None:
        """wanted: of a partition's name, whether it is read at all."""
        self.count = RowCount()
        self.first: dict[str, StoredRecord] = {}
        self._log, self._position, self._wanted = log, dict(after), wanted

    def on(self) -> None:
        end = {name: last for name, last in self._log.end().items() if self._wanted(name)}
        left_out = {name: NOWHERE for name in self._log.end() if not self._wanted(name)}
        for stored in scan(self._log, end, {**self._position, **left_out}):
            self._position[stored.partition] = stored.offset
            self.first.setdefault(stored.partition, stored)
            with suppress(RecordError):  # it names no rows: they are missing
                self.count.add(stored.record)

    def complete_since_ns(self, now_ns: int) -> int:
        """Rows of this time and later are all here, unless they never came."""
        beginnings = [
            stored.record.watermark_ns for stored in self.first.values() if stored.offset > 1
        ]
        emptied = any(
            last and name not in self.first
            for name, last in self._log.end().items()
            if self._wanted(name)
        )
        return max([*beginnings, now_ns if emptied else 0])


def verify_spool(
    directory: Path, settings: LogSettings, patience_s: float = PATIENCE_S
) -> list[Verdict]:
    """Every incarnation of a log that stays here. Raises: LogError, OSError."""
    slabs = _slabs(directory)
    with closing(SqliteLog(directory, settings=settings)) as log:
        reading = _Reading(log, {}, lambda _: True)

        def look() -> list[Verdict]:
            reading.on()
            left = first_metas(directory)  # after the reading: it may have gone meanwhile
            consumed = read_position(directory, MONITOR_GROUP) or Consumed()
            with books_lock(directory, shared=True):
                elsewhere = went_elsewhere(directory, consumed)
            delivered = {
                name: consumed.rows(name) + elsewhere.get(name, Rows()).total for name in slabs
            }
            return [
                judge(
                    name,
                    slab.acknowledged,
                    reading.count,
                    earlier=left[name].accounted if name in left else (),
                    earlier_rows=0 if name in left else delivered[name],
                )
                for name, slab in slabs.items()
            ]

        return _look_until(look, patience_s)


def verify_topic(
    directory: Path, settings: LogSettings, log: Log, patience_s: float = PATIENCE_S
) -> list[Verdict]:
    """Every incarnation of this spool against `log`, where it is shipped to.

    Raises: LogError, OSError.
    """
    slabs, now_ns = _slabs(directory), time.time_ns()
    shipped = read_position(directory, SHIPPER_GROUP) or Consumed()
    # What the monitor had read here before there was Kafka was not shipped.
    before = of_spool(directory, read_position(directory, MONITOR_GROUP) or Consumed())
    topic = _Reading(log, {}, lambda name: name.startswith(f"{PREDICTIONS}/"))
    with closing(SqliteLog(directory, settings=settings)) as spooled:
        spool = _Reading(spooled, shipped.position, lambda _: True)

        def look() -> list[Verdict]:
            topic.on()
            spool.on()
            complete_since_ns = topic.complete_since_ns(now_ns)
            return [
                judge(
                    name,
                    slab.acknowledged,
                    topic.count,
                    spooled=spool.count.of(name).accounted.runs(),
                    earlier_rows=before.rows(name),
                    may_have_expired=slab.created_ns < complete_since_ns,
                )
                for name, slab in slabs.items()
            ]

        return _look_until(look, patience_s)


def _look_until(look: Callable[[], list[Verdict]], patience_s: float) -> list[Verdict]:
    """Look again while rows are missing that may be on their way."""
    until = time.monotonic() + patience_s
    verdicts = look()
    while any(verdict.missing for verdict in verdicts) and time.monotonic() < until:
        time.sleep(PAUSE_S)
        verdicts = look()
    return verdicts


def _slabs(directory: Path) -> Mapping[str, SlabView]:
    slabs: dict[str, SlabView] = {}
    for producer in list_slabs(directory):
        with suppress(SlabDamaged, FileNotFoundError):  # until its books are closed
            slabs[producer] = SlabView(directory, producer)
    return slabs
