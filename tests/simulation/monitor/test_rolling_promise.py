"""A rolling reference over traffic that stays, steps, and drifts, from blocks to the page."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from tests.rolling_world import (
    BUDGET_BLOCKS,
    GUARD,
    ROLLING,
    SPAN,
    UNSEEN_RATE,
    WARM_UP,
    Watch,
    pushed,
)
from tests.simulation.monitor.test_false_alarm_promise import most_alarms

SEED = 20261201
RENEWED = ROLLING.rolling
assert RENEWED is not None
STREAMS, FEW = 60, 4
HORIZON = 1000  # blocks after the warm-up, a twentieth of the budget: nine renewals
SETTLED = WARM_UP + SPAN + 3 * GUARD  # blocks until a reference is of its whole span


def alarms(number: int) -> int:
    print("seed", SEED, "streams", number)
    return sum(Watch([SEED, i]).run(WARM_UP + HORIZON).pages > 0 for i in range(number))


def test_few_streams_that_stay_page_within_the_budget() -> None:
    assert alarms(FEW) <= most_alarms(FEW, HORIZON / BUDGET_BLOCKS)


@pytest.mark.ci
@pytest.mark.timeout(0)
def test_of_many_streams_that_stay_no_more_page_than_the_budget_allows() -> None:
    found, most = alarms(STREAMS), most_alarms(STREAMS, HORIZON / BUDGET_BLOCKS)
    print(f"{found} of {STREAMS} streams paged, {most} may")
    assert found <= most


def test_a_step_is_found_and_stands_for_longer_than_the_reference_is_long() -> None:
    print("seed", SEED)
    watch = Watch([SEED, 100]).run(SETTLED)
    assert watch.said[-1].verdict.kind is Kind.HEALTHY
    at = watch.block
    watch.shift = 0.3
    watch.run(SPAN + 3 * GUARD)
    raised = [summary for summary in watch.said if summary.raised and summary.verdict.kind.pages]
    assert len(raised) == 1
    assert raised[0].start_ns < (at + GUARD) * 10**9
    assert watch.said[-1].verdict.kind is Kind.ANNOTATE
    assert watch.rolling.is_frozen
    assert watch.span[1] <= at - GUARD // 2
    # What came between the step and the verdict is in no part either.
    assert all(part.to_ns <= at * 10**9 for part in watch.rolling.parts)


def test_a_reference_that_nothing_keeps_takes_the_step_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelState, "_holds_references", lambda _: False)
    print("seed", SEED)
    watch = Watch([SEED, 100]).run(SETTLED)
    at = watch.block
    watch.shift = 0.3
    watch.run(SPAN)
    assert watch.span[1] > at


def test_a_step_that_ends_leaves_nothing_in_later_references() -> None:
    print("seed", SEED)
    watch = Watch([SEED, 101]).run(SETTLED)
    watch.shift = 0.3
    watch.run(2 * GUARD)
    watch.shift = 0.0
    while watch.said[-1].verdict.kind is not Kind.HEALTHY:
        watch.step()
    healed = watch.block
    watch.run(SPAN + 3 * GUARD)
    assert watch.span[0] >= healed - 1
    above = watch.rolling.learned.profile.features[0].counts[-3:]
    assert int(above.sum()) < 0.01 * watch.rolling.learned.profile.rows


def test_a_drift_that_is_slow_enough_is_never_seen_however_far_it_gets() -> None:
    print("seed", SEED)
    watch = Watch([SEED, 102], profile=pushed(np.random.default_rng(SEED)), labelled=True).run(
        SETTLED
    )
    while watch.shift < 5 * ROLLING.tolerance:
        watch.shift += UNSEEN_RATE
        watch.step()
    assert watch.pages == 0
    assert all(summary.verdict.kind is Kind.HEALTHY for summary in watch.said)
    assert watch.span[1] >= watch.block - 2 * GUARD


def test_the_same_drift_is_found_by_a_reference_that_stays() -> None:
    print("seed", SEED)
    stays = replace(ROLLING, rolling=None, warm_up=RENEWED.warm_up)
    watch = Watch([SEED, 102], stays).run(SETTLED)
    while watch.shift < 5 * ROLLING.tolerance:
        watch.shift += UNSEEN_RATE
        watch.step()
    assert watch.pages > 0


def test_a_drift_several_times_as_fast_is_found() -> None:
    print("seed", SEED)
    watch = Watch([SEED, 103]).run(SETTLED)
    for _ in range(SPAN + 2 * GUARD):
        watch.shift += 6 * UNSEEN_RATE
        watch.step()
    assert watch.pages == 1
    assert watch.rolling.is_frozen


def test_a_model_that_slowly_gets_worse_is_found_while_its_inputs_roll() -> None:
    """The loss is held against what the version had at first."""
    print("seed", SEED)
    watch = Watch([SEED, 104], labelled=True).run(SETTLED)
    for _ in range(2 * SPAN):
        watch.loss += 0.2 / SPAN
        watch.step()
    assert Kind.RETRAIN in {summary.verdict.kind for summary in watch.said}
