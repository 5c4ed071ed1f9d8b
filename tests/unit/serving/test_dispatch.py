"""Who is let in, and which batch runs next."""

from serving.core.batch import BatchQueue, Member, State
from serving.core.dispatch import Dispatch
from serving.core.forecast import Forecast
from serving.core.latency import LatencyProfile

ROWS_MAX = 8
FIXED, ROW = 1000, 100  # a run of n rows takes 1000 + 100 n


def run_ns(rows: int) -> int:
    return FIXED + ROW * rows


def dispatch_of(*, levels: bool = False, row: int = ROW, instances: int = 1) -> Dispatch[Member]:
    profile = LatencyProfile((1 << i, FIXED + row * (1 << i)) for i in range(4))
    forecast = Forecast(profile, ROWS_MAX, alike=True, instances=instances)
    return Dispatch(BatchQueue(ROWS_MAX, levels=levels), forecast)


def fill(dispatch: Dispatch[Member], count: int, deadline_ns: int) -> list[Member]:
    members = [Member("k", 1, deadline_ns) for _ in range(count)]
    for member in members:
        dispatch.queue.submit(member)
    return members


def test_an_idle_version_takes_what_it_cannot_answer_in_time():
    assert dispatch_of().late_ns(0, 1, 1, 0) == 0


def test_a_newcomer_is_refused_by_what_runs_before_it_and_its_own_run():
    dispatch = dispatch_of()
    fill(dispatch, 16, 1)
    end_ns = dispatch.began(0, ROWS_MAX)
    in_time = 3 * run_ns(8) + run_ns(1)  # one that runs, two that wait, its own
    assert dispatch.late_ns(0, in_time, 1, 0) == 0
    assert dispatch.late_ns(0, in_time - 7, 1, 0) == 7
    dispatch.ended(end_ns)
    assert dispatch.late_ns(0, in_time - run_ns(8), 1, 0) == 0


def test_two_instances_answer_a_queue_in_half_the_time():
    dispatch = dispatch_of(instances=2)
    fill(dispatch, 32, 1)
    dispatch.began(0, ROWS_MAX)
    in_time = run_ns(8) + 4 * run_ns(8) // 2 + run_ns(1)
    assert dispatch.late_ns(0, in_time, 1, 0) == 0
    assert dispatch.late_ns(0, in_time - 1, 1, 0) == 1


def test_who_is_in_a_hurry_is_not_refused_for_those_it_overtakes():
    dispatch = dispatch_of()
    fill(dispatch, 64, 10**9)
    assert dispatch.late_ns(0, 2 * run_ns(8), 1, 0) == 0
    assert dispatch.late_ns(0, 10**9, 1, 0) == 0
    dispatch = dispatch_of()
    fill(dispatch, 64, 2 * run_ns(8) - 1)
    assert dispatch.late_ns(0, 2 * run_ns(8), 1, 0) > 0


def test_a_higher_priority_is_refused_only_for_its_own_queue():
    dispatch = dispatch_of(levels=True)
    for _ in range(64):
        dispatch.queue.submit(Member("k", 1, 1, level=2))
    assert dispatch.late_ns(0, 2 * run_ns(8), 1, 2) > 0
    assert dispatch.late_ns(0, 2 * run_ns(8), 1, 1) == 0


def test_a_batch_is_as_large_as_its_first_deadline_allows():
    dispatch = dispatch_of(row=FIXED)
    hasty = fill(dispatch, 1, 5 * FIXED)
    others = fill(dispatch, 7, 10**6)
    batch, given_up = dispatch.take(0)
    assert batch is not None
    assert (batch.members, given_up) == ([*hasty, *others[:3]], [])


def test_a_batch_is_not_cut_where_that_would_make_its_rows_dear():
    dispatch = dispatch_of(row=1)  # a run costs almost the same whatever its rows
    fill(dispatch, 1, FIXED + 2)  # only two rows would be in time for it
    others = fill(dispatch, 12, 10**6)
    batch, given_up = dispatch.take(0)
    assert batch is not None
    assert [member.state for member in given_up] == [State.EXPIRED]
    assert batch.members == others[:8], "the first is given up for those behind it"


def test_where_all_are_too_late_the_least_late_runs_alone():
    dispatch = dispatch_of()
    members = [*fill(dispatch, 5, 3), *fill(dispatch, 1, 9)]
    batch, given_up = dispatch.take(0)
    assert batch is not None
    assert (batch.members, given_up) == (members[5:], members[:5])


def test_where_not_all_can_be_in_time_most_are():
    dispatch = dispatch_of()
    early = fill(dispatch, 3, run_ns(1) - 1)  # not even alone
    some = fill(dispatch, 2, run_ns(2))
    others = fill(dispatch, 3, run_ns(4))
    batch, given_up = dispatch.take(0)
    assert batch is not None
    assert (given_up, batch.members) == (early + some, others)


def test_a_newcomer_reckons_with_those_who_will_share_its_batch():
    """Under a flood a batch is as large as its deadlines allow, however few wait yet."""
    patience = run_ns(8) + run_ns(4)
    for arriving, late_ns in ((0, 0), (1, 0), (50, run_ns(8) - run_ns(4))):
        dispatch = dispatch_of()
        for now_ns in range(0, 50 * run_ns(8), run_ns(8)):
            dispatch.arrived += arriving
            fill(dispatch, 1, 1 << 60)
            dispatch.take(now_ns)
        now_ns += 1
        dispatch.began(now_ns, 8)
        assert dispatch.late_ns(now_ns, now_ns + patience, 1, 0) == late_ns, arriving
