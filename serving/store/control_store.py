"""The desired state of every deployment, durable and audited; the one place that applies.

A command is folded, appended to the control log (the moment it counts), written to
the audit log, and only then acted on by the caller. The state is also kept as a
snapshot file: if control.db is found damaged at start it is set aside, and the
state comes back from the snapshot and the audit log. One owner calls all of this.
"""

import hashlib
import json
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from protos import control_pb2 as pb
from serving.core.audit_chain import AuditEntry
from serving.core.rollout import decide, fold, undo_line
from serving.core.rollout_codec import (
    MalformedCommandError,
    command_from_proto,
    command_to_proto,
    deployment_from_json,
    deployment_to_json,
    deployment_to_proto,
)
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Outcome,
    Refusal,
    Refused,
    Repeated,
    Version,
)
from serving.store.audit import AuditLog
from serving.store.control_log import SqliteControlLog, replay
from serving.store.files import (
    DamagedError,
    StoreError,
    raise_if_passing,
    set_aside,
    write_atomically,
)

State = Mapping[str, Deployment]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a command, and the message that says so."""

    outcome: Outcome
    result: pb.CommandResult

    @property
    def refusal(self) -> Refusal | None:
        return self.outcome.refusal if isinstance(self.outcome, Refused) else None


class ControlStore:
    """Owns control.db, control.snapshot.json, audit.db and audit.head in `folder`."""

    def __init__(self, folder: Path, now_ns: int) -> None:
        """Raises: StoreError or OSError if the disk does not let us, now."""
        self.folder = folder
        self._path = folder / "control.db"
        self._snapshot_path = folder / "control.snapshot.json"
        self.audit = AuditLog(folder, now_ns)
        try:
            self._open()
        except (DamagedError, sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise_if_passing(self._path, error)
            self._restore(now_ns, error)
        self._catch_up(recovered=True)
        self._write_snapshot()

    def _open(self) -> None:
        if not self._path.exists() and self._snapshot_path.exists():
            raise DamagedError("it is missing")
        self._log = SqliteControlLog(self._path)
        base = _state_from(json.loads(self._log.base()[1]))
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

    def apply(self, command: Command, *, dry_run: bool = False) -> Applied:
        """Decide, and unless it is a dry run, make it durable.

        Raises: StoreError if the disk refuses; the command then has not happened.
        """
        first = self._log.find(command.id) if command.id else None
        if first is not None and not _is_repeat(first.command, command):
            return self._refuse_reuse(command, first.command)
        if first is not None:
            result = pb.CommandResult()
            result.CopyFrom(first.result)
            result.duplicate = True
            return Applied(Repeated(self.deployment(command.model)), result)
        outcome = decide(self.deployment(command.model), command)
        result = _result(command, outcome)
        result.dry_run = dry_run
        if dry_run:
            return Applied(outcome, result)
        if isinstance(outcome, Accepted):
            self._accept(command, outcome, result)
        elif isinstance(outcome, Refused):
            self.note(command.ts_ns, "refused", command.model, _refusal_body(command, outcome))
        return Applied(outcome, result)

    def _refuse_reuse(self, command: Command, first: pb.Command) -> Applied:
        """Its sender must not be told that what another command did was its own."""
        sentence = (
            f"the id {command.id[:64]!r} is that of another command, "
            f"{pb.Verb.Name(first.verb)} of {first.model}; each command needs its own"
        )
        outcome = Refused(self.deployment(command.model), Refusal.INVALID, sentence)
        return Applied(outcome, _result(command, outcome))

    def note(self, ts_ns: int, kind: str, model: str, body: Mapping[str, Any]) -> None:
        """Audit something that is not an accepted command; a full disk is only reported."""
        try:
            self._catch_up()
            self.audit.append(ts_ns, kind, model, body)
        except (StoreError, OSError) as error:
            print(
                f"audit: {kind} of {model or 'the gateway'} not written: {error}", file=sys.stderr
            )

    def entries(self, model: str, after: int, limit: int) -> list[AuditEntry]:
        return self.audit.entries(model, after, limit)

    def close(self) -> None:
        self._log.close()
        self.audit.close()

    def _accept(self, command: Command, outcome: Accepted, result: pb.CommandResult) -> None:
        kept = pb.CommandResult()
        kept.CopyFrom(result)
        for state in (kept.before, kept.after):
            state.ClearField("history")  # the log itself is the history
        self._sequence = self._log.append(command_to_proto(command), kept, self._sequence)
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
            body = {
                "sequence": entry.sequence,
                "command": _json(entry.command),
                "generation": entry.result.after.generation,
                "before": _brief(entry.result.before),
                "after": _brief(entry.result.after),
            }
            if recovered:
                body["recovered"] = True
            self.audit.append(entry.command.ts_ns, "accepted", entry.command.model, body)

    def _write_snapshot(self) -> None:
        deployments = [deployment_to_json(item) for item in self._state.values()]
        text = json.dumps({"sequence": self._sequence, "deployments": deployments})
        digest = hashlib.sha256(text.encode()).hexdigest()
        write_atomically(self._snapshot_path, f"{digest}\n{text}\n".encode())

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
        self._log.begin(sequence, json.dumps([deployment_to_json(item) for item in state.values()]))
        self._sequence, self._state = sequence, state
        body = {"set_aside": aside.name, "error": str(error), "source": source}
        self.note(now_ns, "control-restored", "", body)

    def _last_good(self) -> tuple[int, State, str]:
        try:
            digest, text, _ = self._snapshot_path.read_text().split("\n")
            if hashlib.sha256(text.encode()).hexdigest() != digest:
                raise ValueError("its checksum does not match")
            document = json.loads(text)
            return document["sequence"], _state_from(document["deployments"]), "the snapshot"
        except (OSError, ValueError, KeyError, TypeError):
            return 0, {}, "the audit log"

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


def _is_repeat(first: pb.Command, command: Command) -> bool:
    """Stamp and evidence may differ when a sender tries again; what it wants may not."""
    return (first.model, first.verb) == (command.model, command.verb.value)


def _state_from(documents: list[dict[str, Any]]) -> State:
    return {item["model"]: deployment_from_json(item) for item in documents}


def _result(command: Command, outcome: Outcome) -> pb.CommandResult:
    if isinstance(outcome, Refused):
        state = deployment_to_proto(outcome.state)
        return pb.CommandResult(error=outcome.sentence, before=state, after=state)
    if isinstance(outcome, Repeated):
        state = deployment_to_proto(outcome.state)
        return pb.CommandResult(accepted=True, duplicate=True, before=state, after=state)
    return pb.CommandResult(
        accepted=True,
        before=deployment_to_proto(outcome.before),
        after=deployment_to_proto(outcome.after),
        accepted_ns=command.ts_ns,
        undo=undo_line(command, outcome.before, outcome.after),
    )


def _refusal_body(command: Command, outcome: Refused) -> dict[str, Any]:
    return {
        "command": _json(command_to_proto(command)),
        "refusal": outcome.refusal.value,
        "sentence": outcome.sentence,
        "generation": outcome.state.generation,
    }


def _json(message: pb.Command) -> dict[str, Any]:
    document: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document


def _brief(deployment: pb.Deployment) -> dict[str, Any]:
    def version(message: pb.Version) -> str:
        return f"{message.version}@{message.digest[:12]}" if message.version else ""

    return {
        "stable": version(deployment.stable),
        "previous": version(deployment.previous),
        "candidate": version(deployment.candidate),
        "weight": deployment.weight,
    }


def version_named(deployment: Deployment, name: str) -> Version | None:
    """A version of this deployment by name, from what it serves or has served."""
    known = [deployment.serving, *(revision.serving for revision in reversed(deployment.history))]
    for serving in known:
        for version in (serving.stable, serving.candidate, serving.previous):
            if version is not None and version.version == name:
                return version
    return None
