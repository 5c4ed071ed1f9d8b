"""A gateway's own copy of the log it shares with others, durable and audited.

What was read is committed before anybody acts on it, in the order of the log. With
the shared log out of reach the gateway starts from here. A damaged copy is set
aside and read anew from the shared log; until then the last snapshot serves.
"""

import json
import os
import secrets
import socket
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from protos import control_pb2 as pb
from serving.core.audit_chain import AuditEntry
from serving.core.replica import Folded, Replica
from serving.core.rollout import decide
from serving.core.rollout_codec import (
    MalformedCommandError,
    command_from_proto,
    command_to_proto,
)
from serving.core.rollout_state import Accepted, Command, Deployment, Refused, Repeated, State
from serving.store.answers import (
    Applied,
    accepted_body,
    answer,
    answer_again,
    kept_answer,
    refused_body,
)
from serving.store.audit import ACCEPTED, AuditLog, reported
from serving.store.control_store import ControlStore
from serving.store.files import (
    DamagedError,
    StoreError,
    open_database,
    raise_if_passing,
    set_aside,
    transaction,
)
from serving.store.shared_log import SharedEntry, SharedSnapshot, entry_digest
from serving.store.snapshot import (
    Snapshot,
    read_snapshot,
    state_document,
    state_from,
    write_snapshot,
)

# begin: what was folded up to `position` when this copy was begun, as JSON. own: what
# serves until this gateway has joined the log; empty once it has.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS replica (
    gateway TEXT NOT NULL,
    position INTEGER NOT NULL,
    begin TEXT NOT NULL,
    own TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS entries (
    offset INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    value BLOB NOT NULL,
    result BLOB
);
CREATE INDEX IF NOT EXISTS entries_id ON entries (id) WHERE result IS NOT NULL;
CREATE TABLE IF NOT EXISTS overrides (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    command BLOB NOT NULL
);
"""
_DAMAGE = (DamagedError, sqlite3.DatabaseError, DecodeError, ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class FoldedEntry:
    """What became of one entry. proposal: the attempt it came from; empty if unreadable."""

    offset: int
    gateway: str
    proposal: str
    folded: Folded | None = None
    applied: Applied | None = None


class SharedStore:
    """Owns control.shared.db, control.snapshot.json and the audit log in `folder`."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        """Raises: StoreError or OSError if the disk does not let us, now."""
        self.folder = folder
        self._path = folder / "control.shared.db"
        if not self._path.exists() and (folder / "control.db").exists():
            ControlStore(folder, now_ns).close()  # its snapshot is as far as its log
        self.audit = AuditLog(folder, now_ns)
        self._late = False  # some accepted entries are not in the audit log yet
        try:
            self._open()
        except _DAMAGE as error:
            raise_if_passing(self._path, error)
            self._begin_again(now_ns, error)
        self._audit_late()
        self._write_snapshot()

    def _open(self) -> None:
        fresh = not self._path.exists()
        self._connection = open_database(self._path, _SCHEMA)
        row = self._connection.execute(
            "SELECT gateway, position, begin, own FROM replica"
        ).fetchone()
        if row is None:
            if not fresh and self._connection.execute("SELECT 1 FROM entries").fetchone():
                raise DamagedError("its first line is missing")
            row = self._begin()
        self.gateway, position, begin, own = row
        replica = Replica(position, state_from(json.loads(begin)), joined=False)
        for offset, value, result in self._rows(position):
            replica = _fold_again(replica, offset, value, result)
        overrides = tuple(self._overrides())
        if own:
            own_state = state_from(json.loads(own))
            self._replica = replace(replica, overrides=overrides, deployments=own_state)
        else:
            self._replica = replace(replica, overrides=overrides).join()

    def _begin(self) -> tuple[str, int, str, str]:
        """A new copy; what this gateway served before goes on until it has joined."""
        last = read_snapshot(self.folder) or Snapshot()
        own = json.dumps(state_document(last.state)) if last.state else ""
        name = f"{socket.gethostname()[:64]}-{secrets.token_hex(4)}"
        row = (name, 0, "[]", own)
        with transaction(self._connection):
            self._connection.execute("INSERT INTO replica VALUES (?, ?, ?, ?)", row)
            for command in last.overrides:
                self._insert_override(command)
        return row

    def _begin_again(self, now_ns: int, error: Exception) -> None:
        aside = set_aside(self._path)
        self._open()
        print(
            f"control.shared.db is damaged ({error}); set aside as {aside.name}, "
            f"{len(self.deployments)} deployments from the last snapshot serve "
            "until the shared log has been read",
            file=sys.stderr,
        )
        self.note(now_ns, "control-restored", "", {"set_aside": aside.name, "error": str(error)})

    def _rows(self, position: int) -> Iterator[tuple[int, bytes, bytes | None]]:
        yield from self._connection.execute(
            "SELECT offset, value, result FROM entries WHERE offset >= ? ORDER BY offset",
            (position,),
        )

    def _overrides(self) -> Iterator[Command]:
        for (message,) in self._connection.execute("SELECT command FROM overrides ORDER BY number"):
            yield command_from_proto(pb.Command.FromString(message))

    @property
    def position(self) -> int:
        """The offset of the next entry to read."""
        return self._replica.position

    @property
    def deployments(self) -> State:
        return self._replica.deployments

    @property
    def overrides(self) -> tuple[Command, ...]:
        return self._replica.overrides

    @property
    def diverged(self) -> tuple[str, ...]:
        return self._replica.diverged

    @property
    def joined(self) -> bool:
        return self._replica.joined

    @property
    def snapshot(self) -> SharedSnapshot:
        last = self.last_entry()
        assert last is not None, "nothing was read, so there is nothing to keep"
        digest = entry_digest(last.value)
        return SharedSnapshot(self._replica.position, self._replica.shared, digest)

    def deployment(self, model: str) -> Deployment:
        return self._replica.deployment(model)

    def imports(self) -> tuple[Deployment, ...]:
        return self._replica.imports()

    def last_entry(self) -> SharedEntry | None:
        """The last that was read, if this copy has it."""
        row = self._connection.execute(
            "SELECT offset, value FROM entries ORDER BY offset DESC LIMIT 1"
        ).fetchone()
        return SharedEntry(*row) if row else None

    def seen(self, command_id: str) -> bool:
        return self._first(command_id) is not None

    def repeated(self, command: Command) -> Applied | None:
        """The answer to a command whose id was accepted before, as far as this copy goes back."""
        first = self._first(command.id)
        return first and answer_again(command, *first, self.deployment(command.model))

    def _first(self, command_id: str) -> tuple[pb.Command, pb.CommandResult] | None:
        row = self._connection.execute(
            "SELECT value, result FROM entries WHERE id = ? AND result IS NOT NULL "
            "ORDER BY offset LIMIT 1",
            (command_id,),
        ).fetchone()
        if row is None:
            return None
        return pb.Proposal.FromString(row[0]).command, pb.CommandResult.FromString(row[1])

    def preview(self, command: Command) -> Applied:
        """What would become of a command if it came next."""
        applied = answer(command, decide(self.deployment(command.model), command))
        applied.result.dry_run = True
        return applied

    def begin_from(self, snapshot: SharedSnapshot) -> None:
        """Skip what is folded in `snapshot`; for a copy that is empty. Raises: StoreError."""
        replica = self._replica.begin_from(snapshot.position, snapshot.state)
        begin = json.dumps(state_document(snapshot.state))
        with self._writing():
            self._connection.execute(
                "UPDATE replica SET position = ?, begin = ?", (snapshot.position, begin)
            )
        self._replica = replica

    def fold(self, entries: Sequence[SharedEntry]) -> list[FoldedEntry]:
        """Take over what comes next in the log.

        Raises: StoreError if the disk refuses; then nothing was taken over.
        """
        replica = self._replica
        found: list[FoldedEntry] = []
        rows: list[tuple[int, str, bytes, bytes | None]] = []
        for entry in entries:
            read = _read(entry.value)
            if read is None:
                replica = replica.skip(entry.offset)
                rows.append((entry.offset, "", entry.value, None))
                found.append(FoldedEntry(entry.offset, "", ""))
                continue
            proposal, command = read
            replica, folded = replica.fold(entry.offset, command)
            applied = answer(command, folded.outcome)
            kept = None
            if isinstance(folded.outcome, Accepted):
                kept = kept_answer(applied.result).SerializeToString()
            rows.append((entry.offset, command.id, entry.value, kept))
            found.append(FoldedEntry(entry.offset, proposal.gateway, proposal.id, folded, applied))
        met = {item.id for item in self.overrides} - {item.id for item in replica.overrides}
        with self._writing():
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", rows)
            for command_id in met:
                self._connection.execute("DELETE FROM overrides WHERE id = ?", (command_id,))
        self._replica = replica
        self._audit_folded(found)
        return [self._with_first_answer(item) for item in found]

    def _with_first_answer(self, item: FoldedEntry) -> FoldedEntry:
        """To a repeated command the answer is that of the first, if it is known here."""
        if item.folded is None or not isinstance(item.folded.outcome, Repeated):
            return item
        return replace(item, applied=self.repeated(item.folded.command) or item.applied)

    def override(self, command: Command) -> Applied:
        """Do a command here alone, until the log has heard of it.

        Raises: StoreError if the disk refuses; then it has not happened.
        """
        replica, outcome = self._replica.override(command)
        applied = answer(command, outcome)
        if isinstance(outcome, Accepted):
            with self._writing():
                self._insert_override(replica.overrides[-1])
                if not replica.joined:
                    own = json.dumps(state_document(replica.deployments))
                    self._connection.execute("UPDATE replica SET own = ?", (own,))
            self._replica = replica
            applied.result.diverged = True
            message = command_to_proto(replica.overrides[-1])
            body = accepted_body(message, applied.result, override=True)
            self.note(command.ts_ns, ACCEPTED, command.model, body)
            self._write_snapshot_if_possible()
        elif isinstance(outcome, Refused):
            self.note(command.ts_ns, "refused", command.model, refused_body(command, outcome))
        return applied

    def _insert_override(self, command: Command) -> None:
        self._connection.execute(
            "INSERT INTO overrides (id, command) VALUES (?, ?)",
            (command.id, command_to_proto(command).SerializeToString()),
        )

    def join(self) -> list[Deployment]:
        """From now on serve what the log says; returns what that changed. Raises: StoreError."""
        before, replica = self._replica.deployments, self._replica.join()
        with self._writing():
            self._connection.execute("UPDATE replica SET own = ''")
        self._replica = replica
        self._write_snapshot_if_possible()
        alone = self.folder / "control.db"
        if alone.exists():  # were it left there, a gateway without the log would start from it
            for suffix in ("-wal", "-shm", ""):
                side = alone.with_name(alone.name + suffix)
                if side.exists():
                    os.replace(side, side.with_name(f"control.before-shared.db{suffix}"))
        return [item for model, item in replica.deployments.items() if before.get(model) != item]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with transaction(self._connection):
                yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path.name} cannot be written: {error}") from error

    def note(self, ts_ns: int, kind: str, model: str, body: Mapping[str, Any]) -> None:
        with reported(kind, model):
            self.audit.append(ts_ns, kind, model, body)

    def entries(self, model: str, after: int, limit: int) -> list[AuditEntry]:
        return self.audit.entries(model, after, limit)

    def _audit_folded(self, found: Sequence[FoldedEntry]) -> None:
        """What was accepted anywhere, and what was refused to somebody who asked here."""
        try:
            if self._late:
                self._audit_late()
            else:
                self.audit.extend(item for entry in found for item in self._bodies(entry))
            self._write_snapshot()
        except (StoreError, OSError) as error:
            # The entries stand; the next ones bring the audit up to date.
            self._late = True
            print(f"audit: entry {self.position - 1} is late: {error}", file=sys.stderr)

    def _bodies(self, entry: FoldedEntry) -> Iterator[tuple[int, str, str, dict[str, Any]]]:
        if entry.folded is None or entry.applied is None:
            return
        where = {"offset": entry.offset, "gateway": entry.gateway, "replica": self.gateway}
        command, outcome = entry.folded.command, entry.folded.outcome
        if isinstance(outcome, Accepted):
            body = accepted_body(command_to_proto(command), entry.applied.result, **where)
            yield command.ts_ns, ACCEPTED, command.model, body
        elif isinstance(outcome, Refused) and entry.gateway == self.gateway:
            body = {**where, **refused_body(command, outcome)}
            yield command.ts_ns, "refused", command.model, body

    def _audit_late(self) -> None:
        """What a crash or a full disk kept from being audited."""
        after = self.audit.last_offset(self.gateway)
        self.audit.extend(
            (
                message.command.ts_ns,
                ACCEPTED,
                message.command.model,
                accepted_body(
                    message.command,
                    pb.CommandResult.FromString(result),
                    offset=offset,
                    gateway=message.gateway,
                    replica=self.gateway,
                    recovered=True,
                ),
            )
            for offset, value, result in list(self._rows(after + 1))
            if result is not None
            for message in [pb.Proposal.FromString(value)]
        )
        self._late = False

    def _write_snapshot(self) -> None:
        sequence = self.audit.last_command_sequence()
        write_snapshot(self.folder, Snapshot(sequence, self.deployments, self.overrides))

    def _write_snapshot_if_possible(self) -> None:
        try:
            self._write_snapshot()
        except OSError as error:
            print(f"control.snapshot.json is late: {error}", file=sys.stderr)

    def close(self) -> None:
        self._connection.close()
        self.audit.close()


def _read(value: bytes) -> tuple[pb.Proposal, Command] | None:
    """None for what is no proposal, or one of a later version's."""
    try:
        proposal = pb.Proposal.FromString(value)
        return proposal, command_from_proto(proposal.command)
    except (DecodeError, MalformedCommandError):
        return None


def _fold_again(replica: Replica, offset: int, value: bytes, result: bytes | None) -> Replica:
    """Raises: DamagedError unless it comes out as it once did."""
    read = _read(value)
    if read is None:
        return replica.skip(offset)
    replica, folded = replica.fold(offset, read[1])
    accepted = isinstance(folded.outcome, Accepted)
    if accepted != (result is not None):
        raise DamagedError(f"entry {offset} does not follow from those before it")
    if isinstance(folded.outcome, Accepted) and result is not None:
        kept = pb.CommandResult.FromString(result)
        if kept.after.generation != folded.outcome.after.generation:
            raise DamagedError(f"entry {offset} does not follow from those before it")
    return replica
