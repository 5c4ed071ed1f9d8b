"""What the supervisor needs of whoever knows which version of each model should serve.

Alone it is the control store of this gateway; with others, a replica of the log that
they share. Both fold the same commands by the same laws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from serving.core.audit_chain import AuditEntry
from serving.core.rollout_state import Command, Deployment, State
from serving.store.answers import Applied
from serving.store.files import StoreError


@dataclass(frozen=True, slots=True)
class Change:
    """An accepted command, and the deployment of its model as it is to be served here."""

    command: Command
    after: Deployment


class DesiredState(Protocol):
    """One owner calls all of it, on one event loop."""

    folder: Path
    changed: Callable[[Sequence[Change]], None]  # called after every change, whoever asked

    @property
    def deployments(self) -> State: ...

    def deployment(self, model: str) -> Deployment: ...

    def seen(self, command_id: str) -> bool:
        """Whether a command of this id is known to have been accepted."""

    async def submit(self, command: Command, *, dry_run: bool = False) -> Applied:
        """Decide, and unless it is a dry run, make it durable and then known to `changed`.

        Raises: StoreError if that cannot be done now. OutcomeUnknownError, one of
                them, if it may still be done: then the same id is not applied twice.
        """

    async def begun(self) -> None:
        """Returns once there is a state to serve from; bounded in time."""

    def note(self, ts_ns: int, kind: str, model: str, body: Mapping[str, Any]) -> None:
        """Audit something that is not an accepted command; a full disk is only reported."""

    def entries(self, model: str, after: int, limit: int) -> list[AuditEntry]:
        """Of the audit log, as `AuditLog.entries`."""

    def close(self) -> None: ...


class OutOfReachError(StoreError):
    """The shared log cannot be had now; the command has not happened."""


class OutcomeUnknownError(StoreError):
    """The shared log may have taken the command, and did not say so in time."""
