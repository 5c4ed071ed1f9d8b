"""The reading end: every producer's segments as partitions.

Laws:
- no transaction outlives a call, so writers can checkpoint;
- connections are kept per segment, a bounded number of them, and dropped when
  the segment is gone or replaced;
- the directory is listed again only when it changed.
"""

import logging
import sqlite3
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from eventlog.core.fairness import shares
from eventlog.core.intervals import Intervals
from eventlog.core.record import Position, StoredRecord, holds_row
from eventlog.log import LogClosed, StorageError
from eventlog.segment import (
    UNBOUNDED,
    Glance,
    LoneReader,
    SegmentDamaged,
    connect_reader,
    damage,
    glance_back,
    last_offset,
    locate_record,
    read_meta,
    read_records,
    record_bytes,
)
from eventlog.segment_files import SegmentName, list_segments

CONNECTIONS_MAX = 32
# Labels come in the order of their predictions, roughly: a few records serve
# thousands of them. At most 12 MiB.
LOCATED_MAX = 16
# A directory's time stamp has the kernel's tick (up to 10 ms): a listing younger
# than that may have missed a file of the same tick.
LISTING_SETTLED_NS = 50_000_000
GLANCES = 256  # at a time

logger = logging.getLogger(__name__)

Repair = Callable[[Path, SegmentName], bool]


class SpoolReader:
    """Reads what all producers of a directory wrote; safe for use by several threads."""

    def __init__(self, directory: Path, *, repair: Repair) -> None:
        """repair: called for a damaged segment; True if a replacement is in place."""
        self._directory, self._repair = directory, repair
        self._lock = threading.Lock()
        self._connections: OrderedDict[SegmentName, sqlite3.Connection] = OrderedDict()
        self._segments: dict[str, list[SegmentName]] = {}
        self._listed_ns = 0
        self._changed_ns = -1
        self._before: dict[SegmentName, Intervals] = {}
        self._reported: set[SegmentName] = set()
        self._located: deque[StoredRecord] = deque(maxlen=LOCATED_MAX)
        self._closed = False

    def read(self, after: Position, limit: int, bytes_max: int = UNBOUNDED) -> list[StoredRecord]:
        """As `Log.read`; beyond `bytes_max` by one record per producer at most."""
        with self._lock:
            self._refresh()
            waiting = {p: self._waiting(p, after.get(p, 0)) for p in self._segments}
            found: list[StoredRecord] = []
            counts = shares({p: n for p, n in waiting.items() if n}, limit)
            share = max(1, bytes_max // max(1, len(counts)))
            for producer, count in counts.items():
                if count:
                    found += self._read_partition(producer, after.get(producer, 0), count, share)
            return found

    def locate(self, producer: str, sequence: int) -> StoredRecord | None:
        """As `Log.locate`; a row is found by its number alone."""
        with self._lock:
            for stored in reversed(self._located):
                if stored.partition == producer and holds_row(stored.record, sequence):
                    return stored
            self._refresh()
            found = self._locate(producer, sequence)
            if found is not None:
                self._located.append(found)
            return found

    def backward(self, producer: str, end: int) -> Iterator[Glance]:
        """DATA and GAP records of prediction rows up to offset `end`, the last first.

        A segment that cannot be read, or is gone meanwhile, is passed over.
        """
        with self._lock:
            self._refresh()
            names = list(self._segments.get(producer, ()))
        for name in reversed(names):
            before = end + 1
            while glances := self._glances(name, before):
                yield from glances
                before = glances[-1].offset

    def fetch(self, producer: str, offset: int) -> StoredRecord | None:
        """One record; None if it is gone or cannot be read."""
        with self._lock:
            self._refresh()
            found = self._read_partition(producer, offset - 1, 1)
            return found[0] if found and found[0].offset == offset else None

    def end(self) -> dict[str, int]:
        """The last offset of every partition."""
        with self._lock:
            self._refresh()
            return {producer: self._last(producer) or 0 for producer in self._segments}

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._located.clear()
            while self._connections:
                self._connections.popitem()[1].close()

    def _refresh(self) -> None:
        if self._closed:
            raise LogClosed("the log is closed")
        changed_ns = self._directory.stat().st_mtime_ns
        if changed_ns == self._changed_ns and self._listed_ns - changed_ns > LISTING_SETTLED_NS:
            return
        self._listed_ns, self._changed_ns = time.time_ns(), changed_ns
        self._segments = list_segments(self._directory)
        current = {name for names in self._segments.values() for name in names}
        for name in [name for name in self._connections if name not in current]:
            self._connections.pop(name).close()
        for name in [name for name in self._before if name not in current]:
            del self._before[name]

    def _waiting(self, producer: str, after: int) -> int:
        """How many records a partition has beyond `after`, roughly; 0: surely none.

        Raises: StorageError for a partition that was never read and cannot be
                looked into now: to pass over it would hide a producer.
        """
        last = self._last(producer, strict=after == 0)
        if last is None:
            return 1  # reading says what is wrong with it, or repairs it
        return max(0, last - after)

    def _last(self, producer: str, *, strict: bool = False) -> int | None:
        """The last offset of a partition, without its whole backlog being read.

        None if a damaged segment hides it. strict: a segment that is sound and
        cannot be read for another reason raises StorageError.
        """
        for name in reversed(self._segments[producer]):
            try:
                with self._open(name) as connection:
                    last = last_offset(connection)
            except SegmentDamaged:
                self._drop(name)
                return None
            except StorageError:
                if strict and (self._directory / str(name)).exists():
                    raise
                continue
            if last:
                return last
            if name.first_offset > 1:
                return name.first_offset - 1
        return 0

    def _read_partition(
        self, producer: str, after: int, limit: int, bytes_max: int = UNBOUNDED
    ) -> list[StoredRecord]:
        names = self._segments.get(producer, [])
        found: list[StoredRecord] = []
        for name, follower in zip_longest(names, names[1:]):
            if follower is not None and follower.first_offset <= after + 1:
                continue
            if len(found) >= limit or bytes_max <= 0:
                break
            last = name.sealed_at(follower)
            try:
                batch = self._read_segment(name, after, limit - len(found), bytes_max, last)
            except StorageError as error:
                self._report(name, error)
                self._changed_ns = -1  # it may have been replaced or removed under us
                break  # what follows must wait: offsets rise
            found += batch
            bytes_max -= sum(record_bytes(item.record) for item in batch)
            if batch:
                after = batch[-1].offset
            if last is not None and after < last:
                break  # the next call starts with its rest, or with damage there
        return found

    def _read_segment(
        self, name: SegmentName, after: int, limit: int, bytes_max: int, last: int | None
    ) -> list[StoredRecord]:
        """last: as of `sealed_at`; then nothing beyond `after` is damage too."""
        try:
            with self._open(name) as connection:
                batch = read_records(connection, name, after, limit, bytes_max)
            if not batch and last is not None and after < last:
                raise SegmentDamaged(f"{name}: records {after + 1} to {last} are missing")
        except SegmentDamaged:
            self._drop(name)
            if not self._repair(self._directory, name):
                raise
            self._changed_ns = -1
            replacement = name.replacement()
            with self._open(replacement) as connection:
                return read_records(connection, replacement, after, limit, bytes_max)
        return batch

    def _glances(self, name: SegmentName, before: int) -> list[Glance]:
        with self._lock:
            try:
                with self._open(name) as connection:
                    return glance_back(connection, before, GLANCES)
            except StorageError as error:
                self._report(name, error)
                return []

    def _locate(self, producer: str, sequence: int) -> StoredRecord | None:
        names = self._segments.get(producer, [])
        low, high = 0, len(names)
        while high - low > 1:  # the last segment opened before `sequence` was accounted for
            middle = (low + high) // 2
            if self._accounted_before(names[middle]).end <= sequence:
                low = middle
            else:
                high = middle
        # Rows of a slow batch may come later than their neighbours: look on
        # until a segment says that the row was accounted for before it.
        for name in names[low:]:
            if sequence in self._accounted_before(name):
                return None
            try:
                with self._open(name) as connection:
                    stored = locate_record(connection, producer, sequence)
            except StorageError as error:
                self._report(name, error)
                continue
            if stored is not None:
                return stored
        return None

    def _accounted_before(self, name: SegmentName) -> Intervals:
        if name not in self._before:
            try:
                with self._open(name) as connection:
                    self._before[name] = Intervals(read_meta(connection).accounted)
            except StorageError:
                return Intervals()
        return self._before[name]

    @contextmanager
    def _open(self, name: SegmentName) -> Iterator[sqlite3.Connection]:
        path = self._directory / str(name)
        with damage(path):
            connection = self._connections.get(name)
            if connection is None:
                connection = connect_reader(path)
                self._connections[name] = connection
                if len(self._connections) > CONNECTIONS_MAX:
                    self._connections.popitem(last=False)[1].close()
            else:
                self._connections.move_to_end(name)
            try:
                yield connection
            finally:
                if isinstance(connection, LoneReader):
                    self._drop(name)

    def _drop(self, name: SegmentName) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            connection.close()

    def _report(self, name: SegmentName, error: StorageError) -> None:
        if name not in self._reported and (self._directory / str(name)).exists():
            self._reported.add(name)
            logger.warning("log segment %s cannot be read: %s", name, error)
