"""The desired state of every deployment, durable and audited; the one place that applies.

A command is folded, appended to the control log (the moment it counts), written to
the audit log, and only then acted on by the caller. The state is also kept as a
snapshot file: if control.db is found damaged at start it is set aside, and the
state comes back from the snapshot and the audit log. One owner calls all of this.
"""

import json
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from protos import control_pb2 as pb
from serving.core.audit_chain import AuditEntry
from serving.core.rollout import decide, fold
from serving.core.rollout_codec import (
    MalformedCommandError,
    command_from_proto,
    command_to_proto,
)
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Refused,
    State,
    Version,
)
from serving.store.answers import (
    Applied,
    accepted_body,
    answer,
    answer_again,
    kept_answer,
    refused_body,
)
from serving.store.audit import ACCEPTED, AuditLog, reported
from serving.store.control_log import SqliteControlLog, replay
from serving.store.desired_state import Change
from serving.store.files import DamagedError, StoreError, raise_if_passing, set_aside
from serving.store.snapshot import (
    FILE_NAME,
    Snapshot,
    read_snapshot,
    state_document,
    state_from,
    write_snapshot,
)


class ControlStore:
    """Owns control.db, control.snapshot.json, audit.db and audit.head in `folder`."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        """Raises: StoreError or OSError if the disk does not let us, now."""
        self.folder = folder
        self._path = folder / "control.db"
        self.changed: Callable[[Sequence[Change]], None] = lambda _: None
        self.audit = AuditLog(folder, now_ns)
        try:
            self._open()
        except (DamagedError, sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise_if_passing(self._path, error)
            self._restore(now_ns, error)
        self._catch_up(recovered=True)
        self._write_snapshot()

    def _open(self) -> None:
        if not self._path.exists() and (self.folder / FILE_NAME).exists():
            raise DamagedError("it is missing")
        self._log = SqliteControlLog(self._path)
        base = state_from(json.loads(self._log.base()[1]))
        self._sequence, self._state = replay(self._log, base)
        audited = self.audit.last_command_sequence()
        if audited > self._sequence:
            raise DamagedError(f"it ends at entry {self._sequence} of {audited}")

    @property
    def deployments(self) -> State:
        return self._state

    def deployment(self, model: str) -> Deployment:
        return self._state.get(model, Deployment(model))

    def seen(self, command_id: str) -> bool:
        """Whether a command of this id was ever accepted."""
        return self._log.find(command_id) is not None

    async def begun(self) -> None:
        """At once: the state is here."""

    async def submit(self, command: Command, *, dry_run: bool = False) -> Applied:
        """`apply`, and tell what changed; there is nobody to wait for."""
        applied = self.apply(command, dry_run=dry_run)
        if isinstance(applied.outcome, Accepted) and not dry_run:
            self.changed([Change(command, applied.outcome.after)])
        return applied

    def apply(self, command: Command, *, dry_run: bool = False) -> Applied:
        """Decide, and unless it is a dry run, make it durable.

        Raises: StoreError if the disk refuses; the command then has not happened.
        """
        first = self._log.find(command.id) if command.id else None
        if first is not None:
            now = self.deployment(command.model)
            return answer_again(command, first.command, first.result, now)
        outcome = decide(self.deployment(command.model), command)
        applied = answer(command, outcome)
        applied.result.dry_run = dry_run
        if dry_run:
            return applied
        if isinstance(outcome, Accepted):
            self._accept(command, outcome, applied.result)
        elif isinstance(outcome, Refused):
            self.note(command.ts_ns, "refused", command.model, refused_body(command, outcome))
        return applied

    def note(self, ts_ns: int, kind: str, model: str, body: Mapping[str, Any]) -> None:
        """Audit something that is not an accepted command; a full disk is only reported."""
        with reported(kind, model):
            self._catch_up()
            self.audit.append(ts_ns, kind, model, body)

    def entries(self, model: str, after: int, limit: int) -> list[AuditEntry]:
        return self.audit.entries(model, after, limit)

    def close(self) -> None:
        self._log.close()
        self.audit.close()

    def _accept(self, command: Command, outcome: Accepted, result: pb.CommandResult) -> None:
        self._sequence = self._log.append(
            command_to_proto(command), kept_answer(result), self._sequence
        )
        self._state = {**self._state, command.model: outcome.after}
        try:
            self._catch_up()
            self._write_snapshot()
        except (StoreError, OSError) as error:
            # The command stands: the log has it. The next entry brings the audit up to date.
            print(f"audit: entry {self._sequence} is late: {error}", file=sys.stderr)

    def _catch_up(self, *, recovered: bool = False) -> None:
        """Audit every accepted command that the audit log does not have yet."""
        for entry in self._log.read(self.audit.last_command_sequence()):
            body = accepted_body(entry.command, entry.result, sequence=entry.sequence)
            if recovered:
                body["recovered"] = True
            self.audit.append(entry.command.ts_ns, ACCEPTED, entry.command.model, body)

    def _write_snapshot(self) -> None:
        write_snapshot(self.folder, Snapshot(self._sequence, self._state))

    def _restore(self, now_ns: int, error: Exception) -> None:
        """Set the damaged log aside and begin a new one from the last good state."""
        aside = set_aside(self._path)
        sequence, state, source = self._last_good()
        sequence, state = self._fold_audited(sequence, state)
        sequence = max(sequence, self.audit.last_command_sequence())  # numbers are never reused
        print(
            f"control.db is damaged ({error}); set aside as {aside.name}, "
            f"{len(state)} deployments restored from {source}",
            file=sys.stderr,
        )
        self._log = SqliteControlLog(self._path)
        self._log.begin(sequence, json.dumps(state_document(state)))
        self._sequence, self._state = sequence, state
        body = {"set_aside": aside.name, "error": str(error), "source": source}
        self.note(now_ns, "control-restored", "", body)

    def _last_good(self) -> tuple[int, State, str]:
        last = read_snapshot(self.folder)
        if last is None:
            return 0, {}, "the audit log"
        return last.sequence, last.state, "the snapshot"

    def _fold_audited(self, sequence: int, state: State) -> tuple[int, State]:
        """Go on from a snapshot with what the audit log has beyond it."""
        for number, document in self.audit.accepted():
            if number <= sequence:
                continue
            try:
                message = json_format.ParseDict(dict(document), pb.Command())
                state, _ = fold(state, command_from_proto(message))
            except (json_format.ParseError, MalformedCommandError):
                break
            sequence = number
        return sequence, state


def version_named(deployment: Deployment, name: str) -> Version | None:
    """A version of this deployment by name, from what it serves or has served."""
    known = [deployment.serving, *(revision.serving for revision in reversed(deployment.history))]
    for serving in known:
        for version in (serving.stable, serving.candidate, serving.previous):
            if version is not None and version.version == name:
                return version
    return None
