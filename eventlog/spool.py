"""The writing end of one producer: its row of segments.

Laws:
- one owner, one open segment; sealed ones are never written again;
- after a failed append the file decides whether the records are in it: `settle`
  reads it again before anything else is written, so that no row is both in the
  log and in a gap record;
- a segment is sealed by bytes, or by age once it holds data: an idle producer
  does not litter the directory with heartbeats.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eventlog.core.intervals import Intervals
from eventlog.core.record import (
    LABELS,
    PREDICTIONS,
    Record,
    RecordKind,
    runs_of,
)
from eventlog.log import LogClosed, StorageError
from eventlog.segment import (
    Connect,
    Meta,
    Row,
    SegmentDamaged,
    append_rows,
    build_segment,
    connect,
    damage,
    last_offset,
    make_durable,
    open_for_append,
    to_row,
)
from eventlog.segment_files import SegmentName
from eventlog.settings import LogSettings

# A row's columns besides its body, roughly: what a heartbeat costs.
ROW_OVERHEAD_BYTES = 400


class Spool:
    """Appends records of `producer`, a name that was never used before."""

    def __init__(
        self,
        directory: Path,
        producer: str,
        settings: LogSettings,
        *,
        connect: Connect = connect,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.producer = producer
        self.accounted = Intervals()  # prediction rows in records so far, gaps too
        self.next_label = 0
        self._directory, self._settings = directory, settings
        self._connect, self._clock = connect, clock
        self._next_offset = 1
        self._connection: sqlite3.Connection | None = None
        self._name: SegmentName | None = None
        self._segment_bytes = 0
        self._durable = False  # the open segment's file and name are on disk
        self._data_since_ns = 0
        self._in_doubt: list[Record] = []
        self._closed = False

    @property
    def in_doubt(self) -> tuple[Record, ...]:
        """The records of a failed append, until `settle` has said what became of them."""
        return tuple(self._in_doubt)

    def append(self, records: Sequence[Record], *, durable: bool = False) -> None:
        """Store `records` in one transaction; `durable` survives a power loss.

        Raises: StorageError: whether they are in the log is then for `settle` to
                say; LogClosed.
        """
        if self._closed:
            raise LogClosed("the spool is closed")
        if self._in_doubt:
            raise StorageError("an earlier append is not settled")
        if not records:
            return
        rows = [to_row(self._next_offset + i, record) for i, record in enumerate(records)]
        self._write(records, rows, durable)
        self._committed(records, rows)
        self._seal_if_due()

    def settle(self) -> bool:
        """Whether the last failed append is in the log after all.

        Raises: StorageError while the segment cannot be read; ask again later.
        """
        records, name = self._in_doubt, self._name
        if not records or name is None:
            self._in_doubt = []
            return False
        path = self._directory / str(name)
        try:
            with damage(path):
                self._connection = open_for_append(path, self._connect)
                stored = last_offset(self._connection) >= self._next_offset
        except SegmentDamaged:
            self._abandon()
            self._name = None  # the next append opens a new one
            stored = False
        except StorageError:
            self._abandon()
            raise
        self._in_doubt = []
        if stored:
            self._committed(
                records, [to_row(self._next_offset + i, r) for i, r in enumerate(records)]
            )
        return stored

    def close(self) -> None:
        """Seal the open segment; what was appended is in the log."""
        if not self._closed:
            self._closed = True
            self._seal()

    def _write(self, records: Sequence[Record], rows: Sequence[Row], durable: bool) -> None:
        try:
            connection = self._open()
        except sqlite3.Error as exc:
            self._abandon()
            raise StorageError(f"cannot open a segment of {self.producer}: {exc}") from exc
        try:
            append_rows(connection, rows, durable=durable)
            if durable and not self._durable:
                self._durable = make_durable(connection, self._directory)
        except (sqlite3.Error, OSError) as exc:
            self._in_doubt = list(records)
            self._abandon()
            raise StorageError(f"cannot append to {self._name}: {exc}") from exc

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        if self._name is None:
            name = SegmentName(self.producer, self._next_offset)
            meta = Meta(
                self.producer,
                self._next_offset,
                self.accounted.runs(),
                self.next_label,
                self._clock(),
            )
            # No wait for the disk unless somebody asks for it: see `_write`.
            build_segment(self._directory, name, meta, durable=False)
            self._durable = False
            self._name, self._segment_bytes, self._data_since_ns = name, 0, 0
        self._connection = open_for_append(self._directory / str(self._name), self._connect)
        return self._connection

    def _committed(self, records: Sequence[Record], rows: Sequence[Row]) -> None:
        self._next_offset += len(rows)
        self._segment_bytes += sum(len(row[-1]) + ROW_OVERHEAD_BYTES for row in rows)
        for record in records:
            if record.stream == PREDICTIONS:
                self.accounted.update(runs_of(record))
            elif record.stream == LABELS:
                self.next_label += record.rows
        if not self._data_since_ns and any(r.kind is RecordKind.DATA for r in records):
            self._data_since_ns = self._clock()

    def _seal_if_due(self) -> None:
        age_ns = self._clock() - self._data_since_ns if self._data_since_ns else 0
        if (
            self._segment_bytes >= self._settings.segment_bytes
            or age_ns >= self._settings.segment_s * 1e9
        ):
            self._seal()

    def _seal(self) -> None:
        """Move the write-ahead log into the file, so that a sealed segment is one file.

        Readers and a full disk may prevent it; whoever closes the file last then
        does it. Nothing depends on it but tidiness.
        """
        if self._connection is not None:
            try:
                self._connection.execute("PRAGMA busy_timeout = 100")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.Error:
                pass
            self._abandon()
        self._name = None

    def _abandon(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error:
                return
