"""The `Log` protocol, what its implementations may raise, and reading it through."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from eventlog.core.record import LogError, Position, Record, StoredRecord


class StorageError(LogError):
    """The disk refused: full, read-only, I/O error, damaged file."""


class LogClosed(LogError):
    """The log was closed, or this side of it was never opened for writing."""


class Log(Protocol):
    """Records in partitions; offsets of a partition rise by one, from 1.

    The tests in tests/integration/eventlog/test_log_contract.py hold for every
    implementation.
    """

    def append(self, records: Sequence[Record]) -> None:
        """Store `records` in order, all or none.

        Raises: StorageError if that failed, LogClosed.
        """

    def read(self, after: Position, limit: int) -> list[StoredRecord]:
        """Up to `limit` records beyond `after`, each partition in offset order.

        A partition with a long backlog leaves room for the others. An empty list
        means that nothing more is there now.
        """

    def end(self) -> dict[str, int]:
        """The last offset of every partition: from here on, what comes is new."""

    def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:
        """The DATA record of predictions that holds a row; None if there is none.

        ts_ms: when the row's request arrived, Unix ms, as its prediction id says. Only
               where to look: a log that finds rows by their number needs none.
        """

    def close(self) -> None: ...


SCAN_RECORDS = 32  # at a time: 24 MiB at most
NOWHERE = 1 << 62  # an offset beyond every record: "read nothing of this partition"


def scan(
    log: Log, end: Mapping[str, int], after: Position = MappingProxyType({})
) -> Iterator[StoredRecord]:
    """Every record beyond `after` up to `end`, whatever is written meanwhile."""
    position = {**after}
    position |= {name: NOWHERE for name, last in end.items() if last <= after.get(name, 0)}
    while batch := log.read(position, SCAN_RECORDS):
        for stored in batch:
            last = end.get(stored.partition, 0)
            position[stored.partition] = stored.offset if stored.offset < last else NOWHERE
            if stored.offset <= last:
                yield stored
