"""One worker's next step, from what is wanted and what it has."""

from dataclasses import replace
from pathlib import Path

import pytest

from protos import channel_pb2 as pb
from serving.core.rollout_state import Deployment, Phase, Serving, Version
from serving.supervisor.reconcile import Desired, Step, is_live, may_load, next_step
from serving.supervisor.worker_state import Worker, WorkerState

V1, V2, V3 = (Version(str(n), f"{n}" * 64) for n in (1, 2, 3))


def worker(*loaded: Version, state: WorkerState = WorkerState.LOADING) -> Worker:
    made = Worker(0, "abc123", 0, Path("s"), Path("m"), state)
    for version in loaded:
        hear_loaded(made, version)
    return made


def hear_loaded(made: Worker, version: Version) -> None:
    loaded = pb.Loaded(model="m", version=version.version, digest=version.digest)
    made.hear(pb.FromWorker(loaded=loaded))


def hear_failed(made: Worker, version: Version) -> None:
    failed = pb.LoadFailed(model="m", version=version.version, digest=version.digest, reason="no")
    made.hear(pb.FromWorker(load_failed=failed))


def deployment(
    stable: Version, candidate: Version | None = None, weight: int = 0, generation: int = 1
) -> Deployment:
    serving = Serving(stable, None, candidate, weight)
    return Deployment("m", generation, Phase.STABLE, serving)


def desired(*deployments: Deployment, hopeless: tuple[str, ...] = ()) -> Desired:
    available = {version.digest for version in (V1, V2, V3)} - set(hopeless)
    return Desired({item.model: item for item in deployments}, 1, available, hopeless)


def apply_routes(made: Worker, step: Step, epoch: int) -> None:
    assert step.routes is not None
    made.tell_routes(epoch, step.routes)
    made.hear(pb.FromWorker(routes_applied=pb.RoutesApplied(epoch=epoch)))


def test_a_worker_loads_first_and_routes_nothing_meanwhile() -> None:
    step = next_step(worker(), desired(deployment(V1, V2, 5)), 0.0)
    assert step == Step((("m", V1), ("m", V2)))


def test_its_first_table_comes_when_every_stable_is_loaded() -> None:
    made = worker(V1)
    step = next_step(made, desired(deployment(V1, V2, 5)), 0.0)
    assert step.routes is not None
    assert [(arm.version, arm.weight) for arm in step.routes["m"].arms] == [(V1, 100)]
    assert not step.routes["m"].complete


def test_a_stable_that_cannot_be_had_does_not_keep_the_other_models_waiting() -> None:
    other = replace(deployment(V2), model="n")
    step = next_step(worker(V1), desired(deployment(V1), other, hopeless=(V2.digest,)), 0.0)
    assert step.routes is not None
    assert set(step.routes) == {"m"}


def test_a_worker_with_nothing_to_serve_gets_an_empty_table() -> None:
    assert next_step(worker(), desired(), 0.0).routes == {}


def test_a_candidate_gets_its_share_once_it_is_loaded() -> None:
    wanted = desired(deployment(V1, V2, 5, generation=2))
    made = worker(V1)
    apply_routes(made, next_step(made, wanted, 0.0), 1)
    assert made.state is WorkerState.SERVING
    assert not is_live(made, wanted.deployments["m"])
    hear_loaded(made, V2)
    apply_routes(made, next_step(made, wanted, 0.0), 2)
    assert {arm.version: arm.weight for arm in made.applied["m"].arms} == {V1: 95, V2: 5}
    assert is_live(made, wanted.deployments["m"])


def test_nothing_more_is_told_once_all_is_as_wanted() -> None:
    wanted = desired(deployment(V1))
    made = worker(V1)
    apply_routes(made, next_step(made, wanted, 0.0), 1)
    assert next_step(made, wanted, 0.0) == Step()


def test_an_unwanted_version_is_unloaded_only_after_the_routes_without_it_are_applied() -> None:
    made = worker(V1, V2)
    apply_routes(made, next_step(made, desired(deployment(V1, V2, 5)), 0.0), 1)
    without = desired(deployment(V1, generation=2))
    step = next_step(made, without, 0.0)
    assert step.unloads == ()
    assert step.routes is not None
    made.tell_routes(2, step.routes)
    assert next_step(made, without, 0.0) == Step()
    made.hear(pb.FromWorker(routes_applied=pb.RoutesApplied(epoch=2)))
    assert next_step(made, without, 0.0).unloads == (("m", "2"),)


def test_a_version_that_failed_is_tried_again_later_and_later() -> None:
    made = worker()
    hear_failed(made, V1)
    failure = made.failed["m", "1"]
    wanted = desired(deployment(V1))
    assert next_step(made, wanted, failure.retry_at - 0.1).loads == ()
    assert next_step(made, wanted, failure.retry_at).loads == (("m", V1),)
    first_wait = failure.retry_at
    hear_failed(made, V1)
    assert made.failed["m", "1"].attempts == 2
    assert made.failed["m", "1"].retry_at > first_wait


def test_a_namesake_with_other_content_is_unloaded_before_it_is_loaded_anew() -> None:
    changed = Version("1", "f" * 64)
    made = worker(V1, V2)
    apply_routes(made, next_step(made, desired(deployment(V2)), 0.0), 1)
    wanted = Desired({"m": deployment(V2, changed, 5, 2)}, 1, {changed.digest, V2.digest}, ())
    apply_routes(made, next_step(made, wanted, 0.0), 2)
    assert ("m", "1") in next_step(made, wanted, 0.0).unloads


def test_a_worker_that_owes_an_answer_for_too_long_is_stuck_unless_it_loads() -> None:
    made = worker(V1)
    made.tell_routes(1, {})
    (_, sent) = made._sent[1]
    assert not made.is_stuck(sent + 9.0)
    assert made.is_stuck(sent + 11.0)
    made.loading["m", "2"] = V2.digest
    assert not made.is_stuck(sent + 100.0)
    del made.loading["m", "2"]
    assert not made.is_stuck(sent + 105.0)
    assert made.is_stuck(sent + 111.0)


def serving(count: int, *, loading: int) -> list[Worker]:
    made = [worker(V1, state=WorkerState.SERVING) for _ in range(count)]
    for item in made[:loading]:
        item.loading["m", "2"] = V2.digest
    return made


@pytest.mark.parametrize(("count", "at_once"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (64, 16)])
def test_a_quarter_of_the_serving_workers_may_load_at_once_and_always_one(
    count: int, at_once: int
) -> None:
    before = serving(count, loading=at_once - 1)
    assert may_load(before[-1], before)
    full = serving(count, loading=at_once)
    assert [may_load(item, full) for item in full] == [True] * at_once + [False] * (count - at_once)


def test_a_worker_without_traffic_waits_for_nobody_and_nobody_for_it() -> None:
    starting = worker(state=WorkerState.LOADING)
    assert may_load(starting, [starting, *serving(2, loading=1)])
    starting.loading["m", "1"] = V1.digest
    idle = serving(2, loading=0)
    assert may_load(idle[0], [starting, *idle])
