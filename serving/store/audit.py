"""The audit log: who did what, why, and what came of it; hash-chained.

Entries lie in `audit.db`, the head in `audit.head` beside it. The head is written
after the entry, so after a crash it may lag by one; it never names an entry that
is not there.
"""

import contextlib
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from serving.core.audit_chain import GENESIS, AuditEntry, Head, entry_after, verify
from serving.store.files import (
    UNREADABLE,
    DamagedError,
    StoreError,
    open_database,
    raise_if_passing,
    set_aside,
    transaction,
    write_atomically,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    sequence INTEGER PRIMARY KEY,
    ts_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_model ON entries (model, sequence);
"""
_COLUMNS = "sequence, ts_ns, kind, model, body, previous, digest"
PAGE_MAX = 1000
ACCEPTED = "accepted"  # the kind of an entry of a command that was


class AuditLog:
    """Append, page through and verify; one writer."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        """Opens `folder`/audit.db; a damaged one is set aside and a new chain begun.

        A chain that no longer reaches its head is damaged: going on from where it ends
        would write over what was cut off, and move the head that tells of it.
        """
        self._path = folder / "audit.db"
        self._head_path = folder / "audit.head"
        try:
            self._connection = open_database(self._path, _SCHEMA)
            self._head = self._last()
            self._check_head()
            self._sequence = self._last_sequence()
        except (DamagedError, *UNREADABLE) as error:
            raise_if_passing(self._path, error)
            self._begin_again(now_ns, error)

    def _begin_again(self, now_ns: int, error: Exception) -> None:
        kept = _kept_head(self._head_path)
        aside = set_aside(self._path)
        if self._head_path.exists():
            set_aside(self._head_path)
        print(f"audit.db is damaged ({error}); set aside as {aside.name}", file=sys.stderr)
        self._connection = open_database(self._path, _SCHEMA)
        self._head, self._sequence = GENESIS, 0
        body = {"set_aside": aside.name, "error": str(error), "entries_before": kept.count}
        self.append(now_ns, "chain-restarted", "", body)

    def _check_head(self) -> None:
        """Raises: DamagedError unless the entry that the kept head names is there."""
        kept, count = _kept_head(self._head_path), self._head.count
        if problem := _lost_head(self._head_path, count):
            raise DamagedError(problem)
        if kept == GENESIS:
            return
        row = self._connection.execute(
            "SELECT digest FROM entries WHERE sequence = ?", (kept.count,)
        ).fetchone()
        if row is None:
            raise DamagedError(f"it ends at entry {count}; audit.head names entry {kept.count}")
        if row[0] != kept.digest:
            raise DamagedError(f"entry {kept.count} is not the one that audit.head names")

    def append(self, ts_ns: int, kind: str, model: str, body: Mapping[str, Any]) -> None:
        """Durably add an entry.

        Raises: StoreError if the disk refuses.
        """
        self.extend([(ts_ns, kind, model, body)])

    def extend(self, items: Iterable[tuple[int, str, str, Mapping[str, Any]]]) -> None:
        """Durably add (ts_ns, kind, model, body), all or none.

        Raises: StoreError if the disk refuses.
        """
        head, added, sequence = self._head, [], self._sequence
        for ts_ns, kind, model, body in items:
            if kind == ACCEPTED:
                sequence = max(sequence, int(body.get("sequence", 0)))
            text = json.dumps(body, separators=(",", ":"), sort_keys=True)
            entry = entry_after(head, ts_ns, kind, model, text)
            head = entry.head
            added.append(
                (
                    *(entry.sequence, entry.ts_ns, entry.kind, entry.model, entry.body),
                    *(entry.previous, entry.digest),
                )
            )
        if not added:
            return
        try:
            with transaction(self._connection):
                self._connection.executemany(
                    f"INSERT INTO entries ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    added,
                )
        except sqlite3.Error as error:
            raise StoreError(f"the audit log cannot be written: {error}") from error
        self._head, self._sequence = head, sequence
        document = {"count": head.count, "digest": head.digest}
        write_atomically(self._head_path, json.dumps(document).encode())

    def entries(self, model: str = "", after: int = 0, limit: int = PAGE_MAX) -> list[AuditEntry]:
        """Entries above sequence `after`, oldest first; all models if `model` is empty."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM entries WHERE sequence > ? AND (? = '' OR model = ?) "  # noqa: S608
            "ORDER BY sequence LIMIT ?",
            (after, model, model, min(max(limit, 0), PAGE_MAX)),
        )
        return [AuditEntry(*row) for row in rows]

    def last_command_sequence(self) -> int:
        """The control-log sequence of the last accepted command that was audited."""
        return self._sequence

    def _last_sequence(self) -> int:
        row = self._connection.execute(
            "SELECT max(json_extract(body, '$.sequence')) FROM entries WHERE kind = ?", (ACCEPTED,)
        ).fetchone()
        return int(row[0] or 0)

    def last_offset(self, replica: str) -> int:
        """Of the last entry of a shared log that `replica` has audited; -1 if none."""
        row = self._connection.execute(
            "SELECT max(json_extract(body, '$.offset')) FROM entries "
            "WHERE kind = ? AND json_extract(body, '$.replica') = ?",
            (ACCEPTED, replica),
        ).fetchone()
        return -1 if row[0] is None else int(row[0])

    def accepted(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(control-log sequence, command as protobuf JSON) of what this gateway alone accepted."""
        for entry in self._all():
            body = json.loads(entry.body)
            if entry.kind == ACCEPTED and "sequence" in body:
                yield int(body["sequence"]), body["command"]

    def _all(self) -> Iterator[AuditEntry]:
        after = 0
        while page := self.entries(after=after):
            yield from page
            after = page[-1].sequence

    def _last(self) -> Head:
        row = self._connection.execute(
            "SELECT sequence, digest FROM entries ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        return Head(int(row[0]), str(row[1])) if row else GENESIS

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def reported(kind: str, model: str) -> Iterator[None]:
    """For what may be missing from the audit: a disk that refuses it is only reported."""
    try:
        yield
    except (StoreError, OSError) as error:
        print(f"audit: {kind} of {model or 'the gateway'} not written: {error}", file=sys.stderr)


def verify_audit(folder: Path) -> tuple[int, list[str]]:
    """How many entries the audit log in `folder` has, and what is wrong with the chain.

    Reads beside a running writer, or without one; blocking.
    Raises: OSError if there is no audit log.
    """
    path = folder / "audit.db"
    if not path.exists():
        raise FileNotFoundError(f"there is no audit log in {folder}")
    kept = _kept_head(folder / "audit.head")  # first: the entries may only be further
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        with contextlib.closing(connection):
            rows = connection.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY sequence")  # noqa: S608
            entries = [AuditEntry(*row) for row in rows]
    except UNREADABLE as error:
        return 0, [f"audit.db cannot be read: {error}"]
    lost = _lost_head(folder / "audit.head", len(entries))
    return len(entries), [*verify(entries, kept), *([lost] if lost else [])]


def _lost_head(path: Path, entries: int) -> str:
    """What is wrong if the head is gone: after a crash only a first entry can be without."""
    if entries < 2 or path.exists():
        return ""
    return f"audit.head is missing: nothing tells whether entry {entries} is the last"


def _kept_head(path: Path) -> Head:
    try:
        document = json.loads(path.read_bytes())
        return Head(int(document["count"]), str(document["digest"]))
    except FileNotFoundError:
        return GENESIS
    except (ValueError, KeyError, TypeError):
        return Head(-1, "")  # no entry has this number, so verify says so
