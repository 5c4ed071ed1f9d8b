"""Small files and databases that must survive a kill at any moment.

A file is replaced whole or not at all; a database commits with
`synchronous=FULL`; a damaged one is renamed, never deleted and never written to.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DamagedError(Exception):
    """A file that cannot be trusted any more, in one sentence."""


class StoreError(Exception):
    """The disk, or whoever locked the file, did not let us; nothing has changed."""


# What SQLite says of the moment and not of the file: it is locked, may not be
# opened or written, or the disk or the memory is full.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)

# What sqlite3 raises of a damaged file: it cannot word an error that quotes a schema whose
# bytes are no text any more.
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)


def raise_if_passing(path: Path, error: Exception) -> None:
    """Keep a good file from being taken for a damaged one.

    Raises: StoreError if `error` tells nothing about what the file holds.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _PASSING:  # the rest of the code is detail
        raise StoreError(f"{path.name} cannot be used now: {error}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, readable by this user alone; durable on return."""
    scratch = path.with_name(path.name + ".new")
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """Open or create a database whose commits reach the disk before they return.

    Raises: DamagedError if it is not an intact database of this schema, StoreError
            if that cannot be told now.
    """
    fresh = not path.exists()
    if fresh:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if not fresh:
            _check(connection)
        connection.executescript(schema)
    except UNREADABLE as error:
        connection.close()
        raise_if_passing(path, error)
        raise DamagedError(str(error)) from error
    except DamagedError:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; alone among writers from its start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedError(str(verdict).splitlines()[0])


def set_aside(path: Path) -> Path:
    """Rename a damaged file, its WAL and its shared memory with it; returns the new name."""
    target = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("-wal", "-shm", ""):
        side = path.with_name(path.name + suffix)
        if side.exists():
            os.replace(side, target.with_name(target.name + suffix))
    return target
