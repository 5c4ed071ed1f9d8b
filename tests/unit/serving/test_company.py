"""When a line of other lengths is worth padding into a batch."""

import pytest

from serving.core.batch import NEVER_NS, BatchQueue, Member
from serving.core.company import PadKey, RunCost, Waiting, companions, fit_cost
from serving.core.dispatch import Dispatch
from serving.core.forecast import Forecast
from serving.core.hold import Hold
from serving.core.latency import LatencyProfile

COST = RunCost(1000.0, 10.0)  # a run pays for 100 positions
FOREVER = float(NEVER_NS)


@pytest.mark.parametrize(
    ("first", "others", "chosen"),
    [
        (Waiting(20, 1), [Waiting(10, 1)], [0]),
        (Waiting(200, 1), [Waiting(10, 1)], []),  # 190 positions cost more than a run
        (Waiting(20, 1), [Waiting(10, 20)], []),  # 20 rows of 10
        (Waiting(10, 1), [Waiting(50, 20)], [0]),  # one row of 40: itself is padded
        (Waiting(20, 7), [Waiting(19, 1), Waiting(18, 1)], [0]),  # no room for both
        (Waiting(20, 1), [Waiting(25, 1), Waiting(18, 1)], [1, 0]),  # the cheaper one first
        (Waiting(20, 1), [Waiting(10, 9), Waiting(9, 1)], [1]),  # who does not fit is left
    ],
)
def test_lines_join_where_that_is_cheaper_than_a_run(first, others, chosen):
    rows_max = 8 if first.rows == 7 or others[0].rows == 9 else 64
    assert companions(first, others, rows_max, COST, FOREVER) == chosen


def test_a_deadline_leaves_room_for_some_only():
    others = [Waiting(19, 1), Waiting(18, 1)]
    assert companions(Waiting(20, 1), others, 64, COST, 10.0 * 20) == [0]
    assert companions(Waiting(20, 1), others, 64, COST, 10.0 * 20 - 1) == []


def test_the_cost_of_runs_is_found_from_runs():
    cost = fit_cost([(n, 500 + 7 * n) for n in (8, 16, 64, 4096)])
    assert cost.each_ns == pytest.approx(500, rel=0.01)
    assert cost.position_ns == pytest.approx(7, rel=0.01)
    assert cost.positions_paid == 71


@pytest.mark.parametrize(
    "runs", [[], [(8, 100)], [(8, 100), (8, 120)], [(8, 100), (16, 900)], [(8, 100), (16, 50)]]
)
def test_runs_that_say_nothing_of_their_own_cost_pay_for_no_padding(runs):
    assert fit_cost(runs).positions_paid == 0


def member(length, rows=1, *, family="a", deadline_ns=NEVER_NS):
    return Member(PadKey(family, length), rows, deadline_ns)


def dispatch(cost=COST):
    forecast = Forecast(LatencyProfile([(1, 1000)]), 64, alike=False)
    return Dispatch(BatchQueue(64), forecast, cost)


def test_a_batch_takes_lines_along_and_leaves_other_families():
    ours = dispatch()
    members = [member(20), member(10), member(10), member(11, family="b"), member(0, family="c")]
    for each in members:
        ours.queue.submit(each)
    batch, _ = ours.take(1)
    assert batch.members == members[:3]
    assert ours.queue.queued == 2
    ours.queue.succeed(batch)
    ours.queue.check()


def test_without_a_cost_lines_stay_apart():
    ours = dispatch(None)
    members = [member(20), member(10)]
    for each in members:
        ours.queue.submit(each)
    assert ours.take(1)[0].members == members[:1]


def test_a_first_deadline_keeps_lines_out_that_would_make_it_late():
    for patience_ns, together in ((1_000 + 2 * 200, 2), (1_000 + 2 * 200 - 1, 1)):
        ours = dispatch()
        members = [member(20, deadline_ns=1 + patience_ns), member(20 - 1)]
        for each in members:
            ours.queue.submit(each)
        assert len(ours.take(1)[0].members) == together


def test_who_waits_for_company_takes_other_lengths_along():
    ours = dispatch()
    members = [member(20), member(19)]
    for each in members:
        ours.queue.submit(each)
    batch, _ = ours.take_settled(Hold.of(5, (), 64), 10, 0)
    assert batch.members == members


def test_a_failed_batch_of_several_lengths_runs_again_one_by_one():
    ours = dispatch()
    members = [member(20), member(19), member(18)]
    for each in members:
        ours.queue.submit(each)
    batch, _ = ours.take(1)
    assert len(batch.members) == 3
    assert ours.queue.fail(batch) == []
    for each in members:
        batch, _ = ours.take(1)
        assert batch.members == [each]
        ours.queue.succeed(batch)
    assert ours.queue.idle
