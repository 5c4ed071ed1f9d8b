"""One step of one worker towards the desired state; decides, does nothing.

Laws:
- a worker routes only what it has loaded, and takes no traffic before every stable
  version has been loaded on it or has turned out not to be loadable;
- nothing is unloaded while a routing table that names it may still be in use;
- a version that failed to load is tried again on a worker only while it is wanted,
  later and later;
- of the workers that take traffic only a few load at a time, so that a change of
  models leaves most of the cores to predictions.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from serving.core.rollout_routes import RoutePlan, plan, wanted
from serving.core.rollout_state import Deployment, Version, content_of
from serving.supervisor.worker_state import Key, Worker, WorkerState

# One worker in so many loads while it serves. A new version is live when all have it,
# so a load takes this many times as long; its readers and warm-up runs fill a core each.
SERVING_PER_LOADING = 4


@dataclass(frozen=True, slots=True)
class Step:
    """What to tell a worker now. routes: a whole table, or None for no change."""

    loads: tuple[tuple[str, Version], ...] = ()
    unloads: tuple[Key, ...] = ()
    routes: Mapping[str, RoutePlan] | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """deployments: the fold. available: digests whose bytes are in memory.
    hopeless: digests that cannot be had now."""

    deployments: Mapping[str, Deployment]
    keep_previous: int
    available: Container[str]
    hopeless: Container[str]


def next_step(worker: Worker, desired: Desired, now: float) -> Step:
    """now: monotonic seconds."""
    if worker.state not in {WorkerState.LOADING, WorkerState.SERVING}:
        return Step()
    loads, stale = _loads(worker, desired, now)
    routes = _routes(worker, desired)
    if worker.state is WorkerState.LOADING and (
        worker.routes or not _stables_settled(worker, desired)
    ):
        # Its first table is still to come, or is on its way: new versions can wait.
        return Step(loads)
    changed = routes != worker.routes or worker.state is WorkerState.LOADING
    if changed:
        return Step(loads, (), routes)
    return Step(loads, (*stale, *_unloads(worker, desired)))


def _loads(
    worker: Worker, desired: Desired, now: float
) -> tuple[tuple[tuple[str, Version], ...], tuple[Key, ...]]:
    """Versions to load, and namesakes with other content that are in their way."""
    loads: list[tuple[str, Version]] = []
    in_the_way: list[Key] = []
    for deployment in desired.deployments.values():
        for version in wanted(deployment, desired.keep_previous):
            key = (deployment.model, version.version)
            if key in worker.loading or worker.serves(version, deployment.model):
                continue
            if key in worker.loaded and not _same_content(worker, key, version):
                if not _in_use(worker, key):
                    in_the_way.append(key)
            elif version.digest in desired.available and not _waits(worker, key, version, now):
                loads.append((deployment.model, version))
    return tuple(loads), tuple(in_the_way)


def may_load(worker: Worker, workers: Iterable[Worker]) -> bool:
    """Whether a worker may be told to load something now; workers: all of them.

    One that takes no traffic yet always may: nothing makes readiness wait. One that
    loads already may have more, since its loads are one by one.
    """
    if worker.state is not WorkerState.SERVING or worker.loading:
        return True
    serving = [item for item in workers if item.state is WorkerState.SERVING]
    loading = sum(bool(item.loading) for item in serving)
    return loading < max(1, len(serving) // SERVING_PER_LOADING)


def _same_content(worker: Worker, key: Key, version: Version) -> bool:
    """Whether only the configuration differs: then it is loaded over what serves."""
    return content_of(worker.loaded[key].digest) == version.digest


def _waits(worker: Worker, key: Key, version: Version, now: float) -> bool:
    failure = worker.failed.get(key)
    return failure is not None and failure.digest == version.build and now < failure.retry_at


def _routes(worker: Worker, desired: Desired) -> dict[str, RoutePlan]:
    made = {
        model: plan(deployment, worker.holds(model), worker.routes.get(model))
        for model, deployment in desired.deployments.items()
    }
    return {model: route for model, route in made.items() if route is not None}


def _stables_settled(worker: Worker, desired: Desired) -> bool:
    for deployment in desired.deployments.values():
        stable = deployment.stable
        if stable is None or worker.serves(stable, deployment.model):
            continue
        failure = worker.failed.get((deployment.model, stable.version))
        failed = failure is not None and failure.digest == stable.build
        if not failed and stable.digest not in desired.hopeless:
            return False
    return True


def _unloads(worker: Worker, desired: Desired) -> list[Key]:
    if worker.applied != worker.routes:
        return []
    kept = {
        (deployment.model, version.version)
        for deployment in desired.deployments.values()
        for version in wanted(deployment, desired.keep_previous)
    }
    return [
        key
        for key in worker.loaded
        if key not in kept and key not in worker.unloading and not _in_use(worker, key)
    ]


def _in_use(worker: Worker, key: Key) -> bool:
    model, version = key
    return key in worker.unloading or any(
        version in {arm.version.version for arm in routes[model].arms}
        for routes in (worker.routes, worker.applied)
        if model in routes
    )


def is_live(worker: Worker, deployment: Deployment) -> bool:
    """Whether a worker routes exactly what is wanted, at this generation or a later one."""
    applied = worker.applied.get(deployment.model)
    if deployment.stable is None:
        return applied is None
    return applied is not None and applied.complete and applied.generation >= deployment.generation
