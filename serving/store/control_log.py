"""The control log: accepted commands in order, and the only source of desired state.

`ControlLog` is what the store needs of a log; here it is a SQLite table. An
append names the entry it follows, so two writers cannot both win.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from google.protobuf.message import DecodeError

from protos import control_pb2 as pb
from serving.core.rollout import fold
from serving.core.rollout_codec import MalformedCommandError, command_from_proto
from serving.core.rollout_state import Accepted, Command, Deployment
from serving.store.files import DamagedError, StoreError, open_database, transaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS base (sequence INTEGER PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS commands (
    sequence INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    command BLOB NOT NULL,
    result BLOB NOT NULL
);
"""


class ConflictError(Exception):
    """Another writer appended first."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An accepted command, and the answer that its sender got."""

    sequence: int
    command: pb.Command
    result: pb.CommandResult


class ControlLog(Protocol):
    """An ordered log of accepted commands with compare-and-set append."""

    def append(self, command: pb.Command, result: pb.CommandResult, after: int) -> int:
        """Durably append; returns the sequence of the entry.

        Raises: ConflictError if the last entry is not `after`, StoreError if the
                log cannot be written.
        """

    def read(self, after: int) -> list[LogEntry]:
        """Every entry with a sequence above `after`, in order."""

    def find(self, command_id: str) -> LogEntry | None:
        """The entry of a command id, if it was accepted."""

    def base(self) -> tuple[int, str]:
        """Where the log begins: (sequence, state as JSON) that the first entry follows."""

    def close(self) -> None: ...


class SqliteControlLog:
    """The control log of one machine, in one file."""

    def __init__(self, path: Path) -> None:
        """Raises: DamagedError if the file exists and cannot be trusted."""
        self._connection = open_database(path, _SCHEMA)

    def begin(self, sequence: int, state: str) -> None:
        """Make a new, empty log follow a state restored from elsewhere."""
        self._connection.execute("INSERT INTO base VALUES (?, ?)", (sequence, state))

    def base(self) -> tuple[int, str]:
        row = self._connection.execute("SELECT sequence, state FROM base").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, "[]")

    def append(self, command: pb.Command, result: pb.CommandResult, after: int) -> int:
        try:
            with transaction(self._connection):
                self._insert(command, result, after)
        except sqlite3.Error as error:
            raise StoreError(f"the control log cannot be written: {error}") from error
        return after + 1

    def _insert(self, command: pb.Command, result: pb.CommandResult, after: int) -> None:
        (last,) = self._connection.execute(
            "SELECT coalesce(max(sequence), (SELECT sequence FROM base), 0) FROM commands"
        ).fetchone()
        if last != after:
            raise ConflictError(f"the control log ends at {last}, not at {after}")
        self._connection.execute(
            "INSERT INTO commands VALUES (?, ?, ?, ?)",
            (after + 1, command.id, command.SerializeToString(), result.SerializeToString()),
        )

    def read(self, after: int) -> list[LogEntry]:
        rows = self._connection.execute(
            "SELECT sequence, command, result FROM commands WHERE sequence > ? ORDER BY sequence",
            (after,),
        )
        return [_entry(*row) for row in rows]

    def find(self, command_id: str) -> LogEntry | None:
        row = self._connection.execute(
            "SELECT sequence, command, result FROM commands WHERE id = ?", (command_id,)
        ).fetchone()
        return _entry(*row) if row else None

    def close(self) -> None:
        self._connection.close()


def _entry(sequence: int, command: bytes, result: bytes) -> LogEntry:
    try:
        return LogEntry(
            sequence, pb.Command.FromString(command), pb.CommandResult.FromString(result)
        )
    except DecodeError as error:
        raise DamagedError(f"entry {sequence} is not a command") from error


def replay(log: ControlLog, base: Mapping[str, Deployment]) -> tuple[int, Mapping[str, Deployment]]:
    """Fold a whole log onto its base; returns the last sequence and the state.

    Raises: DamagedError if the log has a hole or does not fold as it once did.
    """
    sequence, _ = log.base()
    state = base
    for entry in log.read(sequence):
        if entry.sequence != sequence + 1:
            raise DamagedError(f"entry {sequence + 1} is missing")
        command = _command(entry)
        state, outcome = fold(state, command)
        if (
            not isinstance(outcome, Accepted)
            or outcome.after.generation != entry.result.after.generation
        ):
            raise DamagedError(f"entry {entry.sequence} does not follow from those before it")
        sequence = entry.sequence
    return sequence, state


def _command(entry: LogEntry) -> Command:
    try:
        return command_from_proto(entry.command)
    except MalformedCommandError as error:
        raise DamagedError(f"entry {entry.sequence}: {error}") from error
