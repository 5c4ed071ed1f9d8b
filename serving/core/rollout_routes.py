"""From a desired deployment and what a worker has loaded to what that worker routes.

Laws:
- a route names only versions that are loaded on that worker;
- the arms add up to 100, and all of them are of one deployment;
- while the wanted stable is not loaded, the worker goes on with what it routed
  before, else with the previous stable; a plan says whether it is all that is wanted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from serving.core.rollout_state import Deployment, Version

STABLE = "stable"
CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """A share of the traffic in percent; at least 1."""

    version: Version
    role: str
    weight: int
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """What one worker routes for one model. `complete`: exactly what is wanted."""

    model: str
    arms: tuple[ArmPlan, ...]
    loaded: tuple[str, ...]
    generation: int
    salt: str
    complete: bool


def wanted(deployment: Deployment, keep_previous: int) -> tuple[Version, ...]:
    """The versions a worker should hold, in the order in which to load them."""
    stable, previous = deployment.stable, deployment.previous if keep_previous > 0 else None
    if stable is not None and previous is not None and previous.version == stable.version:
        previous = None  # the same, configured otherwise; a worker holds one of both
    versions = (stable, deployment.candidate, previous)
    return tuple(dict.fromkeys(version for version in versions if version is not None))


def plan(
    deployment: Deployment, loaded: Mapping[str, str], current: RoutePlan | None
) -> RoutePlan | None:
    """What a worker should route now, or None if it can serve nothing of this model.

    loaded: version -> build of what the worker holds. current: what it routes.
    """
    if deployment.stable is None:
        return None
    made = _wanted_route(deployment, loaded) or _fallback(deployment, loaded, current)
    if made is None:
        return None
    held = [version for version in _named(made, deployment) if _holds(loaded, version)]
    names = tuple(sorted({version.version for version in held}))
    return replace(made, loaded=names, generation=deployment.generation)


def _wanted_route(deployment: Deployment, loaded: Mapping[str, str]) -> RoutePlan | None:
    serving = deployment.serving
    if serving.stable is None or not _holds(loaded, serving.stable):
        return None
    weight = serving.weight
    candidate = serving.candidate
    ready = candidate is None or weight == 0 or _holds(loaded, candidate)
    share = weight if candidate is not None and ready else 0
    arms = [ArmPlan(serving.stable, STABLE, 100 - share)] if share < 100 else []
    if candidate is not None and share > 0:
        arms.append(ArmPlan(candidate, CANDIDATE, share, serving.rollout))
    salt = serving.rollout or deployment.model
    return RoutePlan(deployment.model, tuple(arms), (), deployment.generation, salt, ready)


def _fallback(
    deployment: Deployment, loaded: Mapping[str, str], current: RoutePlan | None
) -> RoutePlan | None:
    if current is not None and all(_holds(loaded, arm.version) for arm in current.arms):
        return replace(current, complete=False)
    previous = deployment.previous
    if previous is None or not _holds(loaded, previous):
        return None
    arms = (ArmPlan(previous, STABLE, 100),)
    return RoutePlan(
        deployment.model, arms, (), deployment.generation, deployment.model, complete=False
    )


def _named(made: RoutePlan, deployment: Deployment) -> list[Version]:
    return [*(arm.version for arm in made.arms), *wanted(deployment, 1)]


def _holds(loaded: Mapping[str, str], version: Version) -> bool:
    return loaded.get(version.version) == version.build
