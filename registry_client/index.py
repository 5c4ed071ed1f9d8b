"""The SQLite index of a registry: which versions exist, which alias points where.

Tables: versions (with their manifests), aliases, and the history of every
alias. Laws: a version never changes; an alias moves by compare-and-set, and
each move gets the next serial of that alias, which never falls. A connection
lives for one operation, so threads and forked processes share nothing.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry_client.core.errors import Corrupt, Unavailable

BUSY_S = 30.0  # a push holds the lock for a few fsyncs only
SCHEMA = 1

_TABLES = """
CREATE TABLE IF NOT EXISTS versions (
  model TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL,
  manifest BLOB NOT NULL, PRIMARY KEY (model, version)
) STRICT;
CREATE TABLE IF NOT EXISTS alias_history (
  model TEXT NOT NULL, alias TEXT NOT NULL, serial INTEGER NOT NULL,
  version INTEGER NOT NULL, previous INTEGER, reason TEXT NOT NULL, at_ns INTEGER NOT NULL,
  PRIMARY KEY (model, alias, serial)
) STRICT;
CREATE TABLE IF NOT EXISTS aliases (
  model TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
  serial INTEGER NOT NULL, PRIMARY KEY (model, alias)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One move of an alias. previous: None for the first; at_ns: Unix time."""

    serial: int
    version: str
    previous: str | None
    reason: str
    at_ns: int


class Index:
    """One index.db. Foreign errors come out as Corrupt or Unavailable."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> bool:
        """Create the tables, or check those that are there. Returns: whether it was empty.

        Raises: Corrupt for a damaged file, Unavailable for one of a newer program.
        """
        with self._connection() as connection:
            _set_wal(connection)
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, SCHEMA):
                raise Unavailable(f"registry index has schema {found}, this program knows {SCHEMA}")
            problems = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problems != "ok":
                raise Corrupt(f"registry index is damaged: {str(problems).splitlines()[0]}")
            if found == SCHEMA:
                return False
            with _transaction(connection):
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            return True

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for SELECTs; do not keep it."""
        with self._connection() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection inside BEGIN IMMEDIATE; commits at the end, rolls back on an error."""
        with self._connection() as connection, _transaction(connection):
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = FULL")
                yield connection
            finally:
                connection.close()
        except sqlite3.OperationalError as exc:
            raise Unavailable(f"registry index {self.path.name} cannot be used: {exc}") from exc
        # UnicodeDecodeError: sqlite3 cannot word an error that quotes a damaged schema.
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
            raise Corrupt(f"registry index {self.path.name} is damaged: {exc}") from exc


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _set_wal(connection: sqlite3.Connection) -> None:
    """Readers that poll must not wait for a push; the switch itself ignores the busy timeout."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def latest_version(connection: sqlite3.Connection, model: str) -> int:
    """The highest version number of a model; 0 for none."""
    row = connection.execute("SELECT max(version) FROM versions WHERE model = ?", (model,))
    return row.fetchone()[0] or 0


def has_version(connection: sqlite3.Connection, model: str, version: str) -> bool:
    """Whether the version is there."""
    query = "SELECT 1 FROM versions WHERE model = ? AND version = ?"
    return connection.execute(query, (model, int(version))).fetchone() is not None


def current_alias(connection: sqlite3.Connection, model: str, alias: str) -> tuple[str | None, int]:
    """(version, serial) that an alias has; (None, 0) for none."""
    query = "SELECT version, serial FROM aliases WHERE model = ? AND alias = ?"
    row = connection.execute(query, (model, alias)).fetchone()
    return (str(row[0]), row[1]) if row else (None, 0)


def move_alias(connection: sqlite3.Connection, model: str, alias: str, change: AliasChange) -> None:
    """Record a move and make it current."""
    previous = None if change.previous is None else int(change.previous)
    connection.execute(
        "INSERT INTO alias_history VALUES (?, ?, ?, ?, ?, ?, ?)",
        (model, alias, change.serial, int(change.version), previous, change.reason, change.at_ns),
    )
    connection.execute(
        "INSERT INTO aliases VALUES (?, ?, ?, ?) ON CONFLICT (model, alias) "
        "DO UPDATE SET version = excluded.version, serial = excluded.serial",
        (model, alias, int(change.version), change.serial),
    )


def history(connection: sqlite3.Connection, model: str, alias: str) -> list[AliasChange]:
    """Every move of an alias, oldest first."""
    rows = connection.execute(
        "SELECT serial, version, previous, reason, at_ns FROM alias_history "
        "WHERE model = ? AND alias = ? ORDER BY serial",
        (model, alias),
    )
    return [
        AliasChange(serial, str(version), None if before is None else str(before), reason, at_ns)
        for serial, version, before, reason, at_ns in rows
    ]
