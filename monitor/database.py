"""Opening the monitor's SQLite files: checked, or refused as damaged and set aside.

Law: a file that cannot be read is set aside, never repaired in place.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"


class StoreDamaged(Exception):
    """The database cannot be used; the message says why."""


def open_database(
    path: Path, schema: str, meta: Mapping[str, str], *, synchronous: str
) -> sqlite3.Connection:
    """A connection in autocommit mode; `meta` is what the file must have been made with.

    synchronous: FULL if a power loss may cost nothing, NORMAL if the last commits.
    Raises: StoreDamaged when the file is no sound database of this kind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _damage(path):
        database = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        try:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA synchronous={synchronous}")
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StoreDamaged(f"integrity check: {verdict}")
            database.executescript(META + schema)
            found = dict(database.execute("SELECT key, value FROM meta"))
            if not found:
                database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            elif any(found.get(key) != value for key, value in meta.items()):
                raise StoreDamaged("made by another version or with other settings")
        except BaseException:
            database.close()
            raise
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def set_aside(path: Path) -> Path:
    """Rename a database and its companions; returns where it is now."""
    aside = path.with_name(f"{path.name}.{time.time_ns()}.corrupt")
    for suffix in ("", "-wal", "-shm"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.rename(source, aside.with_name(aside.name + suffix))
    return aside


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as exc:
        if "locked" in str(exc):
            raise
        raise StoreDamaged(f"{path.name}: {exc}") from exc
    # UnicodeDecodeError: sqlite3 cannot word an error that quotes a damaged schema.
    except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
        raise StoreDamaged(f"{path.name}: {exc}") from exc
