"""The estimated loss of a block: against a slow reference, and how often it pages falsely."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.estimation.calibration import HIGH, LOW, MIDDLE, Calibration
from monitor.core.estimation.estimated_loss import ALPHA, estimated_loss
from monitor.core.evidence import mean_bets
from monitor.core.performance.score_histogram import bin_of
from monitor.core.predictions import LOSS_UNITS
from tests.estimation_world import World, answered, histogram
from tests.property.monitor import plain_estimation as plain
from tests.property.monitor.test_evidence_property import most_alarms

SEED = 20261129
SCORES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5, 0.25]))
LABELLED = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=300)
ANSWERED = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(LABELLED, ANSWERED, st.one_of(st.none(), st.floats(0.05, 1.0)))
def test_it_is_that_of_the_rows_one_by_one(
    labelled: list[tuple[float, bool]], rows: list[tuple[float, bool]], scale: float | None
) -> None:
    known, truth = (np.array(column) for column in zip(*labelled, strict=True))
    scores, said = (np.array(column) for column in zip(*rows, strict=True))
    places = np.array([bin_of(score) for score in scores.tolist()])
    rounded = np.rint(scores * 2.0**30) / 2.0**30
    scores = np.array([rounded[places == place].mean() for place in places])
    width = {float(MIDDLE[at]): (float(LOW[at]), float(HIGH[at])) for at in range(len(MIDDLE))}
    groups = plain.groups([float(MIDDLE[bin_of(s)]) for s in known.tolist()], truth.tolist(), width)
    expected = plain.least_loss(scores, said, groups, width, scale)
    found = estimated_loss(answered(rounded, said), Calibration.of(histogram(known, truth)), scale)
    assert found.rows == len(rows)
    assert found.units / LOSS_UNITS == pytest.approx(expected, abs=1e-6 * len(rows))


BLOCKS, BLOCK_ROWS, RUNS, TIME = 120, 60, 250, 1200.0
TRAINED, MOVED = World(), World(mean=0.4, spread=1.0)


def test_traffic_whose_loss_is_at_the_bound_pages_no_more_often_than_the_budget_allows() -> None:
    """Inputs have moved, and labels were few: the calibration's own error must not page."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    scores, truth = MOVED.draw(random, 2_000_000)
    bets = mean_bets(np.array([np.mean((scores >= 0.5) != truth)]), 1.0, TIME)
    alarms = sum(_alarms(random, bets, TRAINED, MOVED) for _ in range(RUNS))
    assert alarms <= most_alarms(RUNS, BLOCKS / TIME + ALPHA)


def test_a_loss_that_is_above_the_bound_is_found() -> None:
    random = np.random.default_rng(SEED)
    scores, truth = TRAINED.draw(random, 500_000)
    bets = mean_bets(np.array([np.mean((scores >= 0.5) != truth) + 0.02]), 1.0, TIME)
    hard = World(spread=0.4)
    assert sum(_alarms(random, bets, TRAINED, hard, labels=4000) for _ in range(20)) >= 19


def _alarms(random, bets, before, after, labels=0) -> bool:  # type: ignore[no-untyped-def]
    """Whether a stream pages; labels: 0 for some number of few ones."""
    rows = labels or int(random.integers(200, 1500))
    calibration = Calibration.of(histogram(*before.draw(random, rows)))
    m = bets.start()
    for _ in range(BLOCKS):
        scores, _ = after.draw(random, BLOCK_ROWS)
        found = estimated_loss(answered(scores, scores >= 0.5), calibration, None)
        m = bets.step(m, np.array([found.mean]), 1.0)
        if bets.evidence(m) >= np.log(TIME):
            return True
    return False
