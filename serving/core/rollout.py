"""Which version of a model should serve: a pure fold of commands into deployments.

Laws:
- the state is the fold of the accepted commands, in order, and of nothing else;
  time is the command's own stamp;
- an accepted command other than NOTE raises the generation by exactly one (IMPORT, to
  one beyond both counts), a refused one changes nothing, and one that was already
  applied changes nothing;
- a command that names an `expected_generation` other than the current one is refused;
- neither `stable` nor `candidate` is ever quarantined, and they differ;
- an operator's ROLLBACK, ABORT, PAUSE, SET_WEIGHT or PROMOTE starts a hold, in
  which the monitor may only NOTE; an operator's START or RESUME ends it;
- of a monitor's commands that carry a fence, one with a lower fence than an accepted
  one had is refused;
- a local override is never refused: whatever came before it in the log, it raises the
  generation and what it was to leave does not serve (serving.core.local_override);
- every container is bounded: `HISTORY_MAX`, `REMEMBERED_MAX`, `QUARANTINE_MAX`.
"""

from collections.abc import Mapping
from dataclasses import replace

from serving.core.local_override import check_override, override
from serving.core.rollout_state import (
    HISTORY_MAX,
    OPERATORS,
    REMEMBERED_MAX,
    Accepted,
    Command,
    Deployment,
    Origin,
    Outcome,
    Refusal,
    Refused,
    Repeated,
    Revision,
    State,
    Verb,
    Version,
)
from serving.core.rollout_verbs import VERBS, RefuseCommand, verb_name

HOLD_NS = 60 * 60 * 1_000_000_000  # an operator's hand on the wheel lasts an hour

_ALLOWED: Mapping[Origin, frozenset[Verb]] = {
    Origin.CLI: frozenset(Verb) - {Verb.IMPORT},
    Origin.HTTP: frozenset(Verb) - {Verb.IMPORT},
    Origin.MONITOR: frozenset(
        {
            *(Verb.START, Verb.ADVANCE, Verb.PAUSE, Verb.ABORT, Verb.ROLLBACK, Verb.UNDO),
            *(Verb.FREEZE, Verb.NOTE),
        }
    ),
    Origin.ALIAS: frozenset({Verb.ADOPT, Verb.START, Verb.ABORT, Verb.NOTE}),
    Origin.SUPERVISOR: frozenset({Verb.ADOPT, Verb.ABORT, Verb.ROLLBACK, Verb.NOTE, Verb.IMPORT}),
}
# By hand these take a decision away from the monitor, so it waits for a while.
_HOLDING = frozenset({Verb.ROLLBACK, Verb.ABORT, Verb.PAUSE, Verb.SET_WEIGHT, Verb.PROMOTE})
# The monitor speaks about the rollout it watched; a late verdict must not hit the next one.
_JUDGING = frozenset({Verb.ADVANCE, Verb.PAUSE, Verb.ABORT, Verb.ROLLBACK})


def fold(state: State, command: Command) -> tuple[State, Outcome]:
    """The state after `command`, and what became of it."""
    outcome = decide(state.get(command.model, Deployment(command.model)), command)
    if isinstance(outcome, Accepted):
        return {**state, command.model: outcome.after}, outcome
    return state, outcome


def decide(deployment: Deployment, command: Command) -> Outcome:
    """What `command` does to the deployment of its model."""
    followed = command.origin is Origin.ALIAS and command.id == deployment.followed
    if followed or command.id in deployment.remembered:
        return Repeated(deployment)
    try:
        if command.local:
            check_override(command)
            changed = override(deployment, command)
        else:
            _check(deployment, command)
            changed = VERBS[command.verb](deployment, command)
    except RefuseCommand as refuse:
        return Refused(deployment, refuse.refusal, refuse.sentence)
    changed = _heard(changed, command)
    if command.verb is Verb.NOTE:
        return Accepted(deployment, changed)
    return Accepted(deployment, _stamp(deployment, changed, command))


def _check(deployment: Deployment, command: Command) -> None:
    """Everything that is refused whatever the verb would do."""
    if not command.id or not command.model:
        raise RefuseCommand(Refusal.INVALID, "a command needs an id and a model")
    expected = command.expected_generation
    if expected is not None and expected != deployment.generation:
        raise RefuseCommand(
            Refusal.STALE,
            f"{command.model} is at generation {deployment.generation}, not {expected}; "
            "look at its status and decide again",
        )
    if command.verb not in _ALLOWED[command.origin]:
        raise RefuseCommand(
            Refusal.FORBIDDEN, f"{command.origin.value} may not {verb_name(command.verb)}"
        )
    if command.origin is Origin.MONITOR and command.verb is not Verb.NOTE:
        _check_automation(deployment, command)


def _check_automation(deployment: Deployment, command: Command) -> None:
    if 0 < command.fence < deployment.fence:
        raise RefuseCommand(
            Refusal.FENCED,
            f"a newer monitor owns {command.model}: its fence is {deployment.fence}, "
            f"not {command.fence}",
        )
    if deployment.frozen:
        raise RefuseCommand(
            Refusal.FROZEN,
            f"automation of {command.model} is frozen until an operator unfreezes it",
        )
    if deployment.hold_until_ns > command.ts_ns:
        left_s = (deployment.hold_until_ns - command.ts_ns) / 1e9
        raise RefuseCommand(
            Refusal.HELD, f"{command.model} is held by an operator for another {left_s:.0f} s"
        )
    if command.verb is Verb.UNDO and not _is_own_rollback(deployment, command):
        raise RefuseCommand(
            Refusal.INAPPLICABLE,
            f"the last change of {command.model} is not the monitor's rollback of "
            f"{command.rollout or 'a rollout that is named'}",
        )
    if command.verb in _JUDGING and command.rollout != deployment.serving.rollout:
        raise RefuseCommand(
            Refusal.INAPPLICABLE, f"the rollout that was judged ({command.rollout}) is over"
        )


def _is_own_rollback(deployment: Deployment, command: Command) -> bool:
    """Whether the monitor, as this command's actor, took away the rollout that it names."""
    if len(deployment.history) < 2 or not command.rollout:
        return False
    before, last = deployment.history[-2:]
    is_own = (last.verb, last.actor) == (Verb.ROLLBACK, command.actor)
    return is_own and before.serving.rollout == command.rollout


def _heard(deployment: Deployment, command: Command) -> Deployment:
    """Who speaks, for as long as it matters; of every accepted command, NOTE too."""
    if command.origin is Origin.ALIAS:
        return replace(deployment, followed=command.id)
    if command.origin is Origin.MONITOR and command.fence > deployment.fence:
        return replace(deployment, fence=command.fence)
    return deployment


def _stamp(before: Deployment, changed: Deployment, command: Command) -> Deployment:
    """Generation, history, hold and memory: what every accepted command does alike."""
    generation = max(before.generation, changed.generation) + 1
    history = changed.history
    if _what_serves(changed) != _what_serves(before):
        revision = Revision(
            generation,
            command.ts_ns,
            command.verb,
            command.actor,
            command.reason,
            command.id,
            changed.serving,
        )
        history = (*history, revision)[-HISTORY_MAX:]
    hold = changed.hold_until_ns
    if command.origin in OPERATORS and command.verb in _HOLDING:
        hold = max(hold, command.ts_ns + HOLD_NS)
    return replace(
        changed,
        generation=generation,
        history=history,
        hold_until_ns=hold,
        changed_ns=command.ts_ns,
        remembered=(*changed.remembered, command.id)[-REMEMBERED_MAX:],
    )


def _what_serves(deployment: Deployment) -> tuple[Version | None, Version | None, int]:
    serving = deployment.serving
    return serving.stable, serving.candidate, serving.weight


def undo_line(command: Command, before: Deployment, after: Deployment) -> str:
    """The command line that reverses an accepted command; empty if there is none.

    It carries the generation, so that it cannot reverse something that came later.
    """
    model, guard = command.model, f"--if-generation {after.generation}"
    if len(after.history) > 1 and _what_serves(before) != _what_serves(after):
        return f"driftgate rollout undo {model} {guard}" if before.stable else ""
    if command.verb is Verb.RELEASE and command.version is None:
        left_s = max(1, round((before.hold_until_ns - command.ts_ns) / 1e9))
        return f"driftgate rollout hold {model} --for {left_s}s {guard}"
    opposite = {
        Verb.PAUSE: "rollout resume",
        Verb.RESUME: "rollout pause",
        Verb.HOLD: "rollout release",
        Verb.FREEZE: "monitor unfreeze",
    }.get(command.verb)
    return f"driftgate {opposite} {model} {guard}" if opposite else ""
