"""The `Log` protocol, and what its implementations may raise."""

from collections.abc import Sequence
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

    def locate(self, producer: str, sequence: int) -> StoredRecord | None:
        """The DATA record of predictions that holds a row; None if there is none."""

    def close(self) -> None: ...
