"""Losses of regression: both arms by one range, whatever their references held."""

import numpy as np
import pytest

from monitor.core.block import CANDIDATE, STABLE, Arm, ModelBlock, Outcome, Part
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.profile import FeatureSpec, ReferenceProfile, build_profile
from tests.monitor_world import SETTINGS

SEED = 20261128
SPECS = [FeatureSpec("x", kind="continuous")]
ERROR = 2.0  # standard deviation, of both versions


def profile(width: float, *, labels: bool, seed: int) -> ReferenceProfile:
    """Answers spread over `width`, errors of the same size."""
    random = np.random.default_rng(seed)
    answers = random.uniform(0.0, width, size=4000)
    errors = np.abs(random.normal(0.0, ERROR, size=4000)) if labels else None
    return build_profile(random.normal(size=(4000, 1)), SPECS, answers, errors)


def block(random: np.random.Generator, index: int, factor: float) -> ModelBlock:
    """Half of the rows each; the candidate's errors are `factor` times stable's."""
    made = ModelBlock(index)
    for digest, role, by in (("s", STABLE, 1.0), ("c", CANDIDATE, factor)):
        rows = made.arm(Arm(digest, digest, role, "r1" if role is CANDIDATE else ""))
        rows.add(index * 10**9, index * 10**9, 50, 0)
        answers = random.uniform(0.0, 40.0, size=50)
        rows.parts.append(Part({"x": random.normal(size=(50, 1))}, {"y": answers}))
        errors = by * np.abs(random.normal(0.0, ERROR, size=50))
        made.outcomes += [Outcome(digest, 2**62, float(e), is_number=True) for e in errors]
    return made


def raised(profiles: dict[str, ReferenceProfile], factor: float) -> tuple[set[Kind], ModelState]:
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    state, kinds = ModelState("m", SETTINGS), set()
    for index in range(120):
        summary = state.close(block(random, index, factor), lambda _, digest: profiles[digest])
        kinds |= {summary.verdict.kind} if summary.raised else set()
    return kinds, state


@pytest.mark.parametrize("labels", [True, False])
def test_an_equal_candidate_with_a_narrower_reference_is_left_alone(labels: bool) -> None:
    wide, narrow = profile(40.0, labels=True, seed=1), profile(5.0, labels=labels, seed=2)
    kinds, state = raised({"s": wide, "c": narrow}, 1.0)
    assert kinds == set()
    assert state.rollout is not None
    losses = [
        arm.loss_units / arm.labelled for arm in (state.rollout.stable, state.rollout.candidate)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)


def test_a_candidate_with_errors_thrice_as_large_is_found_out_behind_a_wider_reference() -> None:
    wide, narrow = profile(100.0, labels=True, seed=1), profile(10.0, labels=True, seed=2)
    kinds, _ = raised({"s": narrow, "c": wide}, 3.0)
    assert Kind.ROLLBACK in kinds


def test_without_any_range_labels_are_no_loss() -> None:
    """Answers of the reference were all the same, or there is no reference."""
    nothing = ReferenceProfile(rows=0, features=())
    kinds, state = raised({"s": nothing, "c": nothing}, 3.0)
    assert kinds == set()
    assert state.stable is not None
    assert state.stable.labelled == 0
    assert not state.receives_labels
