"""What an operator may do at a gateway that has no shared log, and how that is merged.

A normal command is decided once, by its place in the log. An override has happened
before it has a place: when it gets one, other commands may stand before it. So it
says what it was for, and its merge holds exactly that.

Laws:
- where it was taken, an override does what the plain command would have done;
- wherever it is merged, it is accepted: the generation rises even if nothing changes;
- after it, `leaving` does not serve; if others saw to that already, what they chose
  stays. A rollback quarantines what it leaves, a hold is never shortened.
"""

from dataclasses import replace

from serving.core.rollout_state import (
    OPERATORS,
    Accepted,
    Command,
    Deployment,
    Phase,
    Refusal,
    Serving,
    Verb,
    content_of,
)
from serving.core.rollout_verbs import RefuseCommand, lift, quarantine, without_candidate

OVERRIDES = frozenset({Verb.ROLLBACK, Verb.ABORT, Verb.HOLD})


def may_override(command: Command) -> bool:
    """Whether this wish may be granted by one gateway alone."""
    return command.verb in OVERRIDES and command.origin in OPERATORS


def as_override(command: Command, outcome: Accepted) -> Command:
    """The override that does what `command` did here. outcome: of the plain command."""
    before, after = outcome.before, outcome.after
    left = before.candidate or before.stable
    changes = command.verb is not Verb.HOLD and left is not None
    return replace(
        command,
        local=True,
        leaving=left.build if changes and left is not None else "",
        version=after.stable if changes else None,
        expected_generation=None,  # it was met here, and nowhere else can it be
    )


def check_override(command: Command) -> None:
    """Raises: RefuseCommand for what no gateway of ours takes on its own."""
    if not command.id or not command.model or not may_override(command):
        raise RefuseCommand(
            Refusal.INVALID, "only an operator's rollback, abort or hold is a local override"
        )
    target = command.version
    if command.verb is not Verb.HOLD and (
        not command.leaving or target is None or target.build == command.leaving
    ):
        raise RefuseCommand(Refusal.INVALID, "a local override says what it left, and for what")


def override(deployment: Deployment, command: Command) -> Deployment:
    """Merge a checked override."""
    if command.verb is Verb.HOLD:
        until_ns = max(deployment.hold_until_ns, command.hold_until_ns)
        return replace(deployment, hold_until_ns=until_ns)
    candidate, stable = deployment.candidate, deployment.stable
    if candidate is not None and candidate.build == command.leaving:
        deployment = without_candidate(deployment)
    elif stable is not None and stable.build == command.leaving:
        deployment = _step_back(deployment, command)
    digest = content_of(command.leaving)
    serving = {version.digest for version in (deployment.stable, deployment.candidate) if version}
    if command.verb is Verb.ROLLBACK and digest not in serving:
        deployment = quarantine(deployment, digest)
    return deployment


def _step_back(deployment: Deployment, command: Command) -> Deployment:
    """To what its gateway serves, rather than to a previous version that others chose.

    A rollout on top ends with the version it was compared with.
    """
    target, previous = command.version, deployment.previous
    assert target is not None, "check_override comes first"
    if (
        target.digest in deployment.quarantined
        and previous is not None
        and previous.build != command.leaving
        and previous.digest not in deployment.quarantined
    ):
        target = previous
    deployment = lift(deployment, target.digest)
    serving = Serving(stable=target, previous=deployment.stable)
    return replace(deployment, phase=Phase.STABLE, serving=serving)
