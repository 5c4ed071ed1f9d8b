"""What one gateway makes of a log that it shares with others, and of what it did alone.

Laws:
- `shared` is the fold of the log's entries below `position`, in order, and of
  nothing else: at one position it is the same at every gateway;
- `deployments`, what this gateway serves, is `shared` with its own overrides folded
  on top; an override leaves the top when its id is met in the log;
- so of every model the generation served here never falls, and when all overrides
  have been met every gateway serves the same, at the same generation;
- a gateway that has a past and has not joined yet serves that, whatever it has read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from serving.core.local_override import as_override
from serving.core.rollout import decide, fold
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Outcome,
    Refused,
    State,
)


@dataclass(frozen=True, slots=True)
class Folded:
    """What an entry did. outcome: in the log, alike everywhere; after: what serves here now.

    known: it was done here before, as an override.
    """

    command: Command
    outcome: Outcome
    after: Deployment
    known: bool = False


@dataclass(frozen=True, slots=True)
class Replica:
    """position: offset of the next entry to read. overrides: not met in the log yet, in order."""

    position: int = 0
    shared: State = field(default_factory=dict)
    overrides: tuple[Command, ...] = ()
    joined: bool = True
    deployments: State = field(default_factory=dict)

    def fold(self, offset: int, command: Command) -> tuple["Replica", Folded]:
        """The entry at `offset`, which must not be below `position`."""
        assert offset >= self.position, f"entry {offset} after {self.position}"
        shared, outcome = fold(self.shared, command)
        known = any(item.id == command.id for item in self.overrides)
        overrides = self.overrides
        if known and not isinstance(outcome, Refused):
            overrides = tuple(item for item in overrides if item.id != command.id)
        read = replace(self, position=offset + 1, shared=shared, overrides=overrides)
        if self.joined and isinstance(outcome, Accepted):
            after = read.layered(command.model)
            read = replace(read, deployments={**self.deployments, command.model: after})
        return read, Folded(command, outcome, read.deployment(command.model), known)

    def skip(self, offset: int) -> "Replica":
        """An entry that says nothing to anybody."""
        return replace(self, position=offset + 1)

    def deployment(self, model: str) -> Deployment:
        """What serves here."""
        return self.deployments.get(model, Deployment(model))

    def layered(self, model: str) -> Deployment:
        """What the log says, with our overrides on top."""
        state = self.shared
        for command in self.overrides:
            if command.model == model:
                state, _ = fold(state, command)
        return state.get(model, Deployment(model))

    def override(self, command: Command) -> tuple["Replica", Outcome]:
        """Do an operator's rollback, abort or hold here alone, unless it is refused here."""
        before = self.deployment(command.model)
        outcome = decide(before, command)
        if not isinstance(outcome, Accepted):
            return self, outcome
        local = as_override(command, outcome)
        done = decide(before, local)
        assert isinstance(done, Accepted), "an override is never refused"
        deployments = {**self.deployments, command.model: done.after}
        overrides = (*self.overrides, local)
        return replace(self, overrides=overrides, deployments=deployments), done

    def imports(self) -> tuple[Deployment, ...]:
        """What the log must hear before this gateway can join it and lose nothing."""
        if self.joined:
            return ()
        return tuple(
            deployment
            for model, deployment in self.deployments.items()
            if self.layered(model).generation < deployment.generation
        )

    def join(self) -> "Replica":
        """From now on serve what the log says."""
        models = {*self.shared, *(command.model for command in self.overrides)}
        return replace(
            self, joined=True, deployments={model: self.layered(model) for model in models}
        )

    @property
    def diverged(self) -> tuple[str, ...]:
        """Models of which this gateway serves what the log has not heard of, sorted."""
        return tuple(sorted({command.model for command in self.overrides}))

    def begin_from(self, position: int, shared: Mapping[str, Deployment]) -> "Replica":
        """Start from what somebody folded up to `position`; nothing was read before."""
        assert self.position == 0, "a snapshot is for a replica that has read nothing"
        begun = replace(self, position=position, shared=dict(shared))
        return begun.join() if self.joined else begun
