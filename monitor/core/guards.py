"""The guard rails of automation: what may be done now, and when a step is earned.

All pure: past actions, the deployment and the clock are arguments. A guard
returns the reason why not, or None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log, sqrt

from monitor.core.block import Sample
from monitor.core.deployment import OWN_ACTOR, PROGRESSING, Deployment

DAY_NS = 86_400 * 10**9
REVERTED_MAX = 2  # actions that made it worse, before automation stops itself
# A share of traffic that differs from the weight by more than half of it, and
# by more than chance explains once in a thousand, is a split that is off.
SPLIT_TOLERANCE = 0.5
SPLIT_ALPHA = 0.001
# What keeps a step from being taken is far weaker than what rolls back.
DOUBT_BLOCKS = log(1000.0)  # evidence against the candidate, in log blocks
DOUBT_E_VALUE = log(10.0)


class Action(StrEnum):
    ROLLBACK = "rollback"
    RETRAIN = "retrain"
    ADVANCE = "advance"
    FREEZE = "freeze"
    UNDO = "undo"  # of a rollback


CORRECTIVE = (Action.ROLLBACK, Action.RETRAIN)


@dataclass(frozen=True, slots=True)
class Guards:
    rollback_cooldown_ns: int
    retrain_cooldown_ns: int
    actions_per_day_max: int
    rows_min: int
    bake_ns: int
    lag_max_ns: int
    approve: frozenset[Action] = frozenset()  # these wait for an operator ...
    approve_ns: int = 0  # ... for so long


class Answer(StrEnum):
    """What an operator says to an action that waits."""

    APPROVE = "approve"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class PastAction:
    """An action that was begun; running: it has not ended yet, or waits for approval.

    dry: it was only said, or not approved; it cools down as any other, and changed nothing.
    """

    action: Action
    at_ns: int
    running: bool = False
    dry: bool = False


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A rollout's traffic since the deployment last changed, in event time."""

    rollout: str
    candidate_digest: str
    first_ns: int  # of the candidate's rows, ever
    end_ns: int  # of the last closed block
    candidate: Sample  # since the change
    stable: Sample
    candidate_labelled: int  # since the rollout began
    receives_labels: bool
    inputs_differ: bool
    log_blocks_against: float  # evidence against the candidate, in log blocks
    log_e_value: float


def may_act(
    action: Action, past: Sequence[PastAction], deployment: Deployment, now_ns: int, guards: Guards
) -> str | None:
    """Why a rollback or retraining must not be done now; None when it may."""
    if deployment.frozen:
        return "automation is frozen"
    if deployment.hold_until_ns > now_ns:
        return "an operator holds the model"
    cooldown_ns = {
        Action.ROLLBACK: guards.rollback_cooldown_ns,
        Action.RETRAIN: guards.retrain_cooldown_ns,
    }[action]
    for item in past:
        if item.action is action and item.running:
            return f"a {action.value} is under way"
        if item.action is action and now_ns - item.at_ns < cooldown_ns:
            left_s = (cooldown_ns - (now_ns - item.at_ns)) / 1e9
            return f"cooling down after a {action.value} for another {left_s:.0f} s"
    if action is Action.RETRAIN and deployment.candidate_digest:
        return "a rollout is under way"
    return None


def may_undo(deployment: Deployment, done_ns: int, now_ns: int) -> str | None:
    """Why our rollback must not be taken back; None when it may.

    done_ns: when it was begun. Whoever changed something since knows what serves.
    """
    if deployment.frozen:
        return "automation is frozen"
    if deployment.hold_until_ns > now_ns:
        return "an operator holds the model"
    last = deployment.history[-1] if deployment.history else None
    if last is None or (last.verb, last.actor) != ("ROLLBACK", OWN_ACTOR) or last.ts_ns < done_ns:
        return "what serves was changed since the rollback"
    return None


def approval(answer: str, waited_ns: int, guards: Guards) -> Answer | str | None:
    """What becomes of an action that waits for approval: what was answered, in words why it
    waits no longer, or None while it waits.

    answer:    as `Answer`; empty while there is none.
    waited_ns: until the answer, or until now. An answer in time counts though it is seen late.
    """
    if waited_ns >= guards.approve_ns:
        return f"nobody approved it within {guards.approve_ns / 1e9:.0f} s"
    return Answer(answer) if answer else None


def must_freeze(
    past: Sequence[PastAction],
    deployment: Deployment,
    unfrozen_ns: int,
    now_ns: int,
    guards: Guards,
) -> str | None:
    """Why automation has to stop itself; past actions before `unfrozen_ns` are forgiven."""
    if deployment.frozen:
        return None
    since_ns = max(now_ns - DAY_NS, unfrozen_ns)
    acts = [item for item in past if item.action in CORRECTIVE and not item.dry]
    done = sum(item.at_ns > since_ns for item in acts)
    if done >= guards.actions_per_day_max:
        return f"{done} actions within a day, the limit is {guards.actions_per_day_max}"
    reverted = reverted_actions(deployment, unfrozen_ns)
    if reverted >= REVERTED_MAX:
        return f"{reverted} of the monitor's actions were undone"
    return None


def reverted_actions(deployment: Deployment, since_ns: int) -> int:
    """How often an UNDO, by whomever, followed directly on a change by the monitor."""
    pairs = zip(deployment.history, deployment.history[1:], strict=False)
    return sum(
        before.actor == OWN_ACTOR and after.verb == "UNDO" and after.ts_ns > since_ns
        for before, after in pairs
    )


def may_advance(
    facts: StepFacts, deployment: Deployment, now_ns: int, guards: Guards
) -> str | None:
    """Why the candidate must not go to its next step yet; None when it has earned it."""
    current = (deployment.rollout, deployment.candidate_digest)
    if deployment.phase != PROGRESSING or current != (facts.rollout, facts.candidate_digest):
        return "the rollout is not the one under way"
    if deployment.frozen or deployment.hold_until_ns > now_ns:
        return "automation is held or frozen"
    baked_ns = facts.end_ns - max(deployment.changed_ns, facts.first_ns)
    if baked_ns < guards.bake_ns:
        return f"{baked_ns / 1e9:.0f} s on this step of {guards.bake_ns / 1e9:.0f} s"
    if min(facts.candidate.rows, facts.stable.rows) < guards.rows_min:
        return f"an arm has less than {guards.rows_min} rows on this step"
    if facts.receives_labels and facts.candidate_labelled < guards.rows_min:
        return f"{facts.candidate_labelled} labelled rows of {guards.rows_min}"
    return _doubt(facts, deployment)


def _doubt(facts: StepFacts, deployment: Deployment) -> str | None:
    if facts.log_blocks_against >= DOUBT_BLOCKS or facts.log_e_value >= DOUBT_E_VALUE:
        return "there is some evidence against the candidate"
    if facts.inputs_differ:
        return "the arms saw different inputs"
    if split_is_off(facts.candidate, facts.stable, deployment.weight):
        return "the split of traffic is not what was set"
    return None


def split_is_off(candidate: Sample, stable: Sample, weight: int) -> bool:
    """Whether the candidate's share of the traffic contradicts its weight in percent.

    The arms may be sampled at rates of their own: shares are of what the logged rows
    stand for, and chance is that of as many unsampled rows as would know a share as
    well (Kish's effective sample size; without sampling, the rows themselves).
    Source: Hoeffding's inequality for a weighted mean.
    """
    traffic = candidate.stands_for + stable.stands_for
    if traffic == 0 or not 0 < weight < 100:
        return False
    wanted, found = weight / 100, candidate.stands_for / traffic
    spread = sum(
        (arm.stands_for / traffic) ** 2 / arm.rows for arm in (candidate, stable) if arm.rows
    )
    chance = sqrt(log(2 / SPLIT_ALPHA) * spread / 2)
    return abs(found - wanted) > SPLIT_TOLERANCE * min(wanted, 1 - wanted) + chance


def is_lagging(end_ns: int, now_ns: int, guards: Guards) -> bool:
    """Whether the statistics are too old to act on."""
    return now_ns - end_ns > guards.lag_max_ns
