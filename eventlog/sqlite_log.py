"""The embedded Log: one directory, a row of segments per producer."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from eventlog.core.prediction_id import check_producer
from eventlog.core.record import PREDICTIONS, Position, Record, StoredRecord, runs_of
from eventlog.log import LogClosed
from eventlog.positions import delivery_group
from eventlog.reader import SpoolReader
from eventlog.repair import repair_segment
from eventlog.segment import UNBOUNDED, Glance
from eventlog.segment_files import slab_path
from eventlog.settings import LogSettings
from eventlog.slab import Slab, create_slab
from eventlog.spool import Spool


def open_slab(directory: Path, producer: str) -> Slab:
    """Take a reserved incarnation into use, or a free name.

    Raises: SlabInUse, SlabDamaged, LogError if it was used before, OSError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not slab_path(directory, check_producer(producer)).exists():
        create_slab(directory, producer, time.time_ns())
    slab = Slab(directory, producer)
    try:
        slab.open()
    except BaseException:
        slab.release()
        raise
    return slab


class SqliteLog:
    """Partition = producer incarnation. With `producer`, also its writing end.

    A producer name serves one instance, once; what it wrote outlives it.
    Prediction rows count as acknowledged when they are appended.
    """

    def __init__(
        self, directory: Path, *, producer: str | None = None, settings: LogSettings | None = None
    ) -> None:
        """settings: how it is written, and whose reading of it counts as delivery.

        Raises: FileNotFoundError if there is nothing to read; as `open_slab`.
        """
        settings = settings or LogSettings()
        self._slab: Slab | None = None
        self._spool: Spool | None = None
        if producer is not None:
            self._slab = open_slab(directory, producer)
            self._spool = Spool(directory, producer, settings)
        elif not directory.is_dir():
            raise FileNotFoundError(f"{directory} is no log directory")
        self._reader = SpoolReader(
            directory, repair=partial(repair_segment, group=delivery_group(settings))
        )

    def append(self, records: Sequence[Record]) -> None:
        """As `Log.append`; every record must be of this log's producer."""
        if self._spool is None or self._slab is None:
            raise LogClosed("the log was opened for reading only, or is closed")
        if any(record.producer != self._spool.producer for record in records):
            raise ValueError(f"a record is not of producer {self._spool.producer}")
        stop = max(
            (sum(run) for r in records if r.stream == PREDICTIONS for run in runs_of(r)), default=0
        )
        self._slab.acknowledged = max(self._slab.acknowledged, stop)
        doubted = self._spool.in_doubt
        if doubted and self._spool.settle() and doubted == tuple(records):
            return  # repeated by a caller that was told of a failure, and there all the same
        self._spool.append(records)

    def read(self, after: Position, limit: int, bytes_max: int = UNBOUNDED) -> list[StoredRecord]:
        """As `SpoolReader.read`."""
        return self._reader.read(after, limit, bytes_max)

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:  # noqa: ARG002
        return self._reader.locate(producer, sequence)

    def backward(self, producer: str, end: int) -> Iterator[Glance]:
        """As `SpoolReader.backward`."""
        return self._reader.backward(producer, end)

    def fetch(self, producer: str, offset: int) -> StoredRecord | None:
        """As `SpoolReader.fetch`."""
        return self._reader.fetch(producer, offset)

    def end(self) -> dict[str, int]:
        """As `Log.end`."""
        return self._reader.end()

    def close(self) -> None:
        self._reader.close()
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        if self._slab is not None:
            self._slab.release()
            self._slab = None
