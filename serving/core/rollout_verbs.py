"""What each verb does to a deployment; one function per verb, found through `VERBS`.

A verb returns the changed deployment or raises `RefuseCommand`. Generation, history,
holds and permissions are alike for all verbs and live in serving.core.rollout.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

from serving.core.rollout_state import (
    OPERATORS,
    QUARANTINE_MAX,
    Command,
    Deployment,
    Origin,
    Phase,
    Refusal,
    Serving,
    Verb,
    Version,
    problems,
)

STEPS_MAX = 100
DEFAULT_STEPS = (5, 25, 100)


class RefuseCommand(Exception):
    def __init__(self, refusal: Refusal, sentence: str) -> None:
        super().__init__(sentence)
        self.refusal, self.sentence = refusal, sentence


def _adopt(deployment: Deployment, command: Command) -> Deployment:
    version = _version_of(command)
    if deployment.stable is not None:
        raise _inapplicable(f"{command.model} already serves version {deployment.stable.version}")
    deployment = _admit(deployment, version, command)
    return replace(deployment, phase=Phase.STABLE, serving=Serving(stable=version))


def _start(deployment: Deployment, command: Command) -> Deployment:
    version = _version_of(command)
    if deployment.stable is None:  # nothing to compare it with, nobody to protect
        return _adopt(deployment, command)
    stable = deployment.stable
    steps = command.steps or DEFAULT_STEPS
    _check_steps(steps)
    if version == stable:
        raise _inapplicable(f"version {version.version} of {command.model} already serves")
    if version.version == stable.version:
        raise _other_content(command.model, stable)
    if version == deployment.candidate and not command.force:
        raise _inapplicable(f"version {version.version} of {command.model} is already on its way")
    if command.origin is Origin.ALIAS and deployment.frozen:
        raise RefuseCommand(
            Refusal.FROZEN, f"{command.model} is frozen: an alias starts no rollout"
        )
    deployment = _admit(deployment, version, command)
    if command.origin in OPERATORS:  # an alias that moves takes no operator's hand off the wheel
        deployment = replace(deployment, hold_until_ns=0)
    serving = replace(
        deployment.serving,
        candidate=version,
        weight=steps[0],
        steps=steps,
        step=0,
        rollout=command.id,
    )
    deployment = replace(deployment, phase=Phase.PROGRESSING, serving=serving)
    return _promoted(deployment) if steps[0] == 100 else deployment


def _advance(deployment: Deployment, command: Command) -> Deployment:
    _candidate_of(deployment)
    if deployment.phase is Phase.PAUSED:
        raise _inapplicable(f"the rollout of {command.model} is paused; resume it first")
    serving = deployment.serving
    index = next((i for i, step in enumerate(serving.steps) if step > serving.weight), None)
    if index is None or serving.steps[index] == 100:
        return _promoted(deployment)
    return replace(deployment, serving=replace(serving, weight=serving.steps[index], step=index))


def _promote(deployment: Deployment, command: Command) -> Deployment:  # noqa: ARG001 - one shape
    _candidate_of(deployment)
    return _promoted(deployment)


def _set_weight(deployment: Deployment, command: Command) -> Deployment:
    _candidate_of(deployment)
    if not 0 <= command.weight <= 100:
        raise RefuseCommand(Refusal.INVALID, f"a weight is 0 to 100 percent, not {command.weight}")
    serving = deployment.serving
    step = max((i for i, w in enumerate(serving.steps) if w <= command.weight), default=0)
    return replace(deployment, serving=replace(serving, weight=command.weight, step=step))


def _pause(deployment: Deployment, command: Command) -> Deployment:
    _candidate_of(deployment)
    if deployment.phase is Phase.PAUSED:
        raise _inapplicable(f"the rollout of {command.model} is already paused")
    return replace(deployment, phase=Phase.PAUSED)


def _resume(deployment: Deployment, command: Command) -> Deployment:
    _candidate_of(deployment)
    if deployment.phase is not Phase.PAUSED:
        raise _inapplicable(f"the rollout of {command.model} is not paused")
    return replace(deployment, phase=Phase.PROGRESSING, hold_until_ns=0)


def _abort(deployment: Deployment, command: Command) -> Deployment:
    if deployment.candidate is None:
        return _abandon(deployment, command)
    if command.rollout and command.rollout != deployment.serving.rollout:
        raise RefuseCommand(Refusal.INAPPLICABLE, f"the rollout {command.rollout} is over")
    if command.origin in {Origin.MONITOR, Origin.SUPERVISOR}:
        deployment = quarantine(deployment, deployment.candidate.digest)
    return without_candidate(deployment)


def _abandon(deployment: Deployment, command: Command) -> Deployment:
    """The first version could never be loaded: nothing serves, so nothing is lost."""
    first = deployment.stable
    if command.origin is not Origin.SUPERVISOR or first is None or deployment.previous is not None:
        raise _inapplicable(f"no rollout of {command.model} is on its way")
    return replace(quarantine(deployment, first.digest), phase=Phase.EMPTY, serving=Serving())


def _rollback(deployment: Deployment, command: Command) -> Deployment:
    if deployment.candidate is not None:
        return without_candidate(quarantine(deployment, deployment.candidate.digest))
    if command.origin is Origin.MONITOR:
        raise _inapplicable(f"no candidate of {command.model} to roll back")
    stable, previous = _stable_of(deployment), deployment.previous
    if previous is None:
        raise _inapplicable(f"{command.model} has no previous version; {stable.version} stays")
    if command.origin is Origin.SUPERVISOR:
        # The version went back to cannot be loaded: the one that serves on is the good one.
        deployment = lift(deployment, previous.digest)
    if previous.digest in deployment.quarantined:
        raise _quarantined(command.model, previous)
    if stable.digest != previous.digest:  # else only the configuration was another
        deployment = quarantine(deployment, stable.digest)
    return replace(deployment, serving=Serving(stable=previous, previous=stable))


def _undo(deployment: Deployment, command: Command) -> Deployment:
    if len(deployment.history) < 2:
        raise _inapplicable(f"{command.model} has no change to undo")
    earlier = deployment.history[-2].serving
    if earlier.stable is None:
        raise _inapplicable(f"before its last change {command.model} served nothing")
    rollout = earlier.rollout and (
        deployment.serving.rollout if earlier.candidate == deployment.candidate else command.id
    )
    for version in (earlier.stable, earlier.candidate):
        deployment = lift(deployment, version.digest) if version else deployment
    phase = Phase.PROGRESSING if earlier.candidate else Phase.STABLE
    if earlier.candidate and earlier.candidate == deployment.candidate:
        phase = deployment.phase
    return replace(deployment, phase=phase, serving=replace(earlier, rollout=rollout))


def _hold(deployment: Deployment, command: Command) -> Deployment:
    if command.hold_until_ns <= command.ts_ns:
        raise RefuseCommand(Refusal.INVALID, "a hold must end in the future")
    return replace(deployment, hold_until_ns=command.hold_until_ns)


def _release(deployment: Deployment, command: Command) -> Deployment:
    if command.version is None:
        if deployment.hold_until_ns <= command.ts_ns:
            raise _inapplicable(f"{command.model} is not held")
        return replace(deployment, hold_until_ns=0)
    if command.version.digest not in deployment.quarantined:
        raise _inapplicable(
            f"version {command.version.version} of {command.model} is not quarantined"
        )
    return lift(deployment, command.version.digest)


def _freeze(deployment: Deployment, command: Command) -> Deployment:
    if deployment.frozen:
        raise _inapplicable(f"{command.model} is already frozen")
    return replace(deployment, frozen=True)


def _unfreeze(deployment: Deployment, command: Command) -> Deployment:
    if not deployment.frozen:
        raise _inapplicable(f"{command.model} is not frozen")
    return replace(deployment, frozen=False)


def _load(deployment: Deployment, command: Command) -> Deployment:
    version = _version_of(command)
    stable = deployment.stable
    if stable is None:
        return _adopt(deployment, command)
    if deployment.candidate is not None:
        raise _inapplicable(
            f"a rollout of {command.model} is on its way; promote or abort it first"
        )
    if version == stable:
        raise _inapplicable(f"version {version.version} of {command.model} already serves")
    if version.version == stable.version and version.digest != stable.digest:
        raise _other_content(command.model, stable)
    deployment = _admit(deployment, version, command)
    return replace(deployment, serving=Serving(stable=version, previous=stable))


def _unload(deployment: Deployment, command: Command) -> Deployment:  # noqa: ARG001 - one shape
    _stable_of(deployment)
    return replace(deployment, phase=Phase.EMPTY, serving=Serving())


def _note(deployment: Deployment, command: Command) -> Deployment:  # noqa: ARG001 - one shape
    return deployment


def _import(deployment: Deployment, command: Command) -> Deployment:
    """The first gateway that brings a model says what it is; one that follows, how far it was."""
    imported = command.imported
    if imported is None or imported.model != command.model or problems(imported):
        raise RefuseCommand(
            Refusal.INVALID, "an import needs a deployment of its model, and a sound one"
        )
    if deployment.generation == 0:
        return imported
    if imported.generation <= deployment.generation:
        raise _inapplicable(
            f"{command.model} is on the shared log already, at generation {deployment.generation}"
        )
    return replace(deployment, generation=imported.generation)  # nobody's count may fall


VERBS: Mapping[Verb, Callable[[Deployment, Command], Deployment]] = {
    Verb.ADOPT: _adopt,
    Verb.START: _start,
    Verb.ADVANCE: _advance,
    Verb.PROMOTE: _promote,
    Verb.SET_WEIGHT: _set_weight,
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.ABORT: _abort,
    Verb.ROLLBACK: _rollback,
    Verb.UNDO: _undo,
    Verb.HOLD: _hold,
    Verb.RELEASE: _release,
    Verb.FREEZE: _freeze,
    Verb.UNFREEZE: _unfreeze,
    Verb.NOTE: _note,
    Verb.LOAD: _load,
    Verb.UNLOAD: _unload,
    Verb.IMPORT: _import,
}


def _promoted(deployment: Deployment) -> Deployment:
    serving = Serving(stable=deployment.candidate, previous=deployment.stable)
    return replace(deployment, phase=Phase.STABLE, serving=serving)


def without_candidate(deployment: Deployment) -> Deployment:
    old = deployment.serving
    serving = Serving(stable=old.stable, previous=old.previous)
    return replace(deployment, phase=Phase.STABLE, serving=serving)


def _admit(deployment: Deployment, version: Version, command: Command) -> Deployment:
    """Let a version in; an operator's force lifts its quarantine, nothing else does."""
    if version.digest not in deployment.quarantined:
        return deployment
    if command.force and command.origin in OPERATORS:
        return lift(deployment, version.digest)
    raise _quarantined(command.model, version)


def quarantine(deployment: Deployment, digest: str) -> Deployment:
    kept = tuple(item for item in deployment.quarantined if item != digest)
    return replace(deployment, quarantined=(*kept, digest)[-QUARANTINE_MAX:])


def lift(deployment: Deployment, digest: str) -> Deployment:
    kept = tuple(item for item in deployment.quarantined if item != digest)
    return replace(deployment, quarantined=kept)


def _version_of(command: Command) -> Version:
    version = command.version
    if version is None or not version.version or not version.digest:
        raise RefuseCommand(
            Refusal.INVALID, f"{verb_name(command.verb)} needs a version with its manifest digest"
        )
    return version


def _stable_of(deployment: Deployment) -> Version:
    if deployment.stable is None:
        raise _inapplicable(f"{deployment.model} serves no version yet")
    return deployment.stable


def _candidate_of(deployment: Deployment) -> Version:
    if deployment.candidate is None:
        raise _inapplicable(f"no rollout of {deployment.model} is on its way")
    return deployment.candidate


def _check_steps(steps: tuple[int, ...]) -> None:
    rising = all(low < high for low, high in pairwise(steps))
    if len(steps) > STEPS_MAX or steps[0] < 1 or steps[-1] != 100 or not rising:
        raise RefuseCommand(
            Refusal.INVALID,
            f"steps rise from at least 1 to 100 percent, not {','.join(map(str, steps[:10]))}",
        )


def _other_content(model: str, stable: Version) -> RefuseCommand:
    return RefuseCommand(
        Refusal.INVALID,
        f"version {stable.version} of {model} already serves with other content "
        f"(digest {stable.digest[:12]}); push the change as a new version",
    )


def _inapplicable(sentence: str) -> RefuseCommand:
    return RefuseCommand(Refusal.INAPPLICABLE, sentence)


def _quarantined(model: str, version: Version) -> RefuseCommand:
    return RefuseCommand(
        Refusal.QUARANTINED,
        f"version {version.version} of {model} is quarantined since it was taken out of service; "
        f"an operator may release it or start it with force",
    )


def verb_name(verb: Verb) -> str:
    return verb.name.lower().replace("_", "-")
