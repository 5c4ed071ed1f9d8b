"""Whatever is wanted and whatever is loaded, a worker routes only what it has."""

from hypothesis import given
from hypothesis import strategies as st

from serving.core.rollout_routes import RoutePlan, plan, wanted
from serving.core.rollout_state import Deployment, Phase, Serving, Version

VERSIONS = [Version(str(n), f"{n}" * 64) for n in range(1, 5)]


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    stable, candidate, previous = draw(st.permutations(VERSIONS))[:3]
    has_candidate, has_previous = draw(st.booleans()), draw(st.booleans())
    serving = Serving(
        stable=stable if draw(st.integers(0, 9)) else None,
        previous=previous if has_previous else None,
        candidate=candidate if has_candidate else None,
        weight=draw(st.integers(0, 100)) if has_candidate else 0,
        steps=(5, 100) if has_candidate else (),
        rollout="r" if has_candidate else "",
    )
    return Deployment("m", draw(st.integers(1, 99)), Phase.STABLE, serving)


LOADED = st.sets(st.sampled_from(VERSIONS)).map(lambda vs: {v.version: v.digest for v in vs})


@given(deployments(), deployments(), LOADED, LOADED)
def test_a_plan_names_only_loaded_versions_and_adds_up(
    earlier: Deployment, now: Deployment, before: dict[str, str], loaded: dict[str, str]
) -> None:
    current = plan(earlier, before, None)
    made = plan(now, loaded, current)
    if made is None:
        assert now.stable is None or now.stable.version not in loaded
        return
    assert sum(arm.weight for arm in made.arms) == 100
    assert all(arm.weight > 0 for arm in made.arms)
    assert all(loaded.get(arm.version.version) == arm.version.digest for arm in made.arms)
    assert set(made.loaded) <= set(loaded)
    assert {arm.version.version for arm in made.arms} <= set(made.loaded)
    assert made.generation == now.generation


@given(deployments(), LOADED)
def test_a_plan_is_complete_when_it_is_exactly_what_is_wanted(
    deployment: Deployment, loaded: dict[str, str]
) -> None:
    made = plan(deployment, loaded, None)
    if made is None or deployment.stable is None:
        return
    shares = {arm.version: arm.weight for arm in made.arms}
    weight = deployment.serving.weight
    exact = shares.get(deployment.stable, 0) == 100 - weight and (
        weight == 0 or shares.get(deployment.serving.candidate) == weight  # type: ignore[arg-type]
    )
    assert made.complete == exact


@given(deployments(), LOADED)
def test_everything_wanted_being_loaded_makes_the_plan_complete(
    deployment: Deployment, loaded: dict[str, str]
) -> None:
    held = {v.version: v.digest for v in wanted(deployment, 1)} | {
        k: v for k, v in loaded.items() if k not in {w.version for w in wanted(deployment, 1)}
    }
    made = plan(deployment, held, None)
    assert (made is None) == (deployment.stable is None)
    assert made is None or made.complete


@given(deployments(), LOADED, deployments())
def test_what_was_routed_goes_on_while_the_new_stable_is_not_there(
    earlier: Deployment, loaded: dict[str, str], now: Deployment
) -> None:
    current = plan(earlier, loaded, None)
    if current is None or now.stable is None or now.stable.version in loaded:
        return
    made = plan(now, loaded, current)
    assert isinstance(made, RoutePlan)
    assert made.arms == current.arms
    assert not made.complete
