"""The promise end to end: references are samples, traffic is what they were drawn from.

Many small references of one truth, each with its own profile, bins, bounds and
detectors; then traffic from the same truth. Pages must be as rare as the budget
says, whatever part of the chain was got wrong: a reference taken for the truth,
a bet with the wrong sign, a weight forgotten, time counted twice.
"""

import numpy as np
import pytest

from monitor.core.block import STABLE, Arm, ModelBlock, Outcome, Part
from monitor.core.events import Group
from monitor.core.evidence import difference_bets, log_sum
from monitor.core.model_state import ModelState
from monitor.core.profile import ReferenceProfile
from monitor.core.reference_error import ALPHA
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import CLASSES, SETTINGS, Version
from tests.property.monitor.test_evidence_property import most_alarms

SEED = 20261123
FEATURES, REFERENCE_ROWS, BLOCK_ROWS = 3, 150, 40
REFERENCES, BLOCKS = 60, 120
ACCURACY = 0.9
VERSION = Version("1")
FEATURE_SPECS = [FeatureSpec(f"f{i}", kind="continuous") for i in range(FEATURES)]
# A third of the streams may page within the horizon: loose enough to be met, and
# near enough that a broken bound shows. Tolerances are next to nothing, so that
# the reference's own error is what the bounds live on.
TIGHT = CoreSettings(
    verify_ns=10**12,
    block_ns=10**9,
    lateness_ns=0,
    tolerance=0.001,
    loss_tolerance=0.001,
    budget_s=3.0 * BLOCKS,
    warn_budget_s=2.0 * BLOCKS,
    rows_min=10,
    loss_max_share=SETTINGS.loss_max_share,
    coarse_edges=12,
    window_blocks=20,
    recent_change_ns=0,
)


def draw(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, answers, losses of the truth."""
    truth = random.integers(0, CLASSES, rows)
    wrong = random.random(rows) >= ACCURACY
    said = np.where(wrong, (truth + 1) % CLASSES, truth).astype(np.int64)
    return random.normal(size=(rows, FEATURES)).astype(np.float32), said, wrong.astype(float)


def reference(random: np.random.Generator) -> ReferenceProfile:
    seen, said, losses = draw(random, REFERENCE_ROWS)
    return build_profile(seen, FEATURE_SPECS, said, losses)


def block(random: np.random.Generator, index: int) -> ModelBlock:
    seen, said, losses = draw(random, BLOCK_ROWS)
    made = ModelBlock(index)
    rows = made.arm(Arm(VERSION.digest, VERSION.name, STABLE, ""))
    rows.add(index * 10**9, index * 10**9, BLOCK_ROWS, 0)
    rows.parts.append(Part({"x": seen}, {"label": said}))
    made.outcomes += [Outcome(VERSION.digest, 0, float(loss)) for loss in losses]
    return made


@pytest.mark.parametrize("gap", [1, 4])
def test_traffic_like_its_reference_pages_no_more_often_than_the_budget_says(gap: int) -> None:
    """gap: of every so many blocks one has rows; time without rows counts as time."""
    random = np.random.default_rng(SEED + gap)
    print("seed", SEED + gap)
    pages = 0
    for _ in range(REFERENCES):
        profile = reference(random)
        state = ModelState("m", TIGHT)
        evidence = -np.inf
        for index in range(0, BLOCKS, gap):
            state.close(block(random, index), lambda version, digest, p=profile: p)
            evidence = max(evidence, state.total_evidence())
        pages += evidence >= TIGHT.page
    # The bounds themselves fail for a share ALPHA of references, loss apart.
    assert pages <= most_alarms(REFERENCES, BLOCKS / TIGHT.budget_s + 2 * ALPHA)


def test_every_bound_is_above_the_truth_for_nearly_every_reference() -> None:
    """What the detectors are told is possible must be what is: errors included."""
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    truth = draw(random, 400_000)
    failed = 0
    for _ in range(REFERENCES):
        state = ModelState("m", TIGHT)
        profile = reference(random)
        state.close(block(random, 0), lambda version, digest, p=profile: p)
        assert state.stable is not None
        yardstick = state.stable.yardstick
        counts = yardstick.counter.empty()
        assert yardstick.counter.count({"x": truth[0]}, {"label": truth[1]}, counts)
        yes, totals = yardstick.events.answers(counts)
        share = yes / totals
        wrong = False
        for group in (Group.FEATURES, Group.QUALITY, Group.PREDICTIONS):
            bets = yardstick.bets[group]
            seen = share[bets.event]
            wrong |= bool(np.any(np.where(bets.rising, seen, 1 - seen) > bets.bound))
        assert yardstick.loss_bound is not None
        failed += wrong or float(truth[2].mean()) > yardstick.loss_bound
    assert failed <= most_alarms(REFERENCES, 2 * ALPHA)


def test_the_whole_is_the_weighted_mean_of_its_groups() -> None:
    random = np.random.default_rng(SEED)
    state, profile = ModelState("m", TIGHT), reference(random)
    for index in range(5):
        state.close(block(random, index), lambda version, digest: profile)
    groups = state.groups()
    mean = sum(WEIGHTS[group] * np.exp(value) for group, value in groups.items())
    assert np.exp(state.total_evidence()) == pytest.approx(mean)
    assert state.total_evidence() < max(groups.values())


def test_a_better_candidate_brings_no_evidence_against_itself() -> None:
    random = np.random.default_rng(SEED)
    bets = difference_bets(0.02, 2, 1.0, 1e6)
    log_e = np.zeros(bets.size)
    for _ in range(200):
        apart = random.binomial(20, 0.1) / 20 - random.binomial(100, 0.3) / 100
        log_e += bets.gains(np.array([apart, np.nan]))
    assert log_sum(log_e + bets.log_weight) < 0
