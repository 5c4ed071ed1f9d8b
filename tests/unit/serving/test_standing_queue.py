"""A queue that stays too long is refused to newcomers; one that was made by a burst is not."""

from serving.core.batch import BatchQueue, Member
from serving.core.dispatch import Dispatch
from serving.core.forecast import Forecast
from serving.core.latency import LatencyProfile
from serving.core.standing_queue import INTERVAL_PART, MEMORY, MOST, SHORT_PART, StandingQueue

LIMIT = 1000
INTERVAL = LIMIT // INTERVAL_PART
SHORT = LIMIT // SHORT_PART


def standing():
    """A queue that stands since 0 + INTERVAL."""
    queue = StandingQueue(LIMIT)
    assert queue.over_ns(0, LIMIT + 1) == 0
    assert queue.over_ns(INTERVAL, LIMIT + 1) == 1
    return queue


def test_a_wait_that_is_too_long_for_less_than_an_interval_refuses_nobody():
    queue = StandingQueue(LIMIT)
    for now_ns in range(0, 10 * INTERVAL, INTERVAL // 10):
        wait_ns = LIMIT if now_ns % INTERVAL == 0 else MOST * LIMIT
        assert queue.over_ns(now_ns, wait_ns) == 0
    assert not queue.calm
    assert queue.over_ns(now_ns, LIMIT) == 0
    assert queue.calm


def test_a_queue_that_stands_takes_who_finds_it_below_the_limit():
    queue = standing()
    for now_ns in range(INTERVAL, 100 * INTERVAL, INTERVAL // 10):
        assert queue.over_ns(now_ns, LIMIT) == 0
        assert queue.over_ns(now_ns, LIMIT + 7) == 7, "without another interval"


def test_twice_the_limit_is_no_burst():
    queue = StandingQueue(LIMIT)
    assert queue.over_ns(0, MOST * LIMIT) == 0
    assert queue.over_ns(0, MOST * LIMIT + 1) == LIMIT + 1
    assert queue.over_ns(0, LIMIT + 1) == 1


def test_a_queue_stands_until_it_has_been_short_for_a_while():
    queue = standing()
    assert queue.over_ns(2 * INTERVAL, SHORT + 1) == 0
    assert queue.over_ns(2 * INTERVAL + MEMORY * LIMIT - 1, 0) == 0
    assert not queue.calm
    assert queue.over_ns(2 * INTERVAL + MEMORY * LIMIT, SHORT) == 0
    assert queue.calm
    assert queue.over_ns(2 * INTERVAL + MEMORY * LIMIT, LIMIT + 1) == 0, "a burst again"


def test_each_level_has_a_queue_of_its_own():
    queue = standing()
    assert queue.over_ns(INTERVAL, LIMIT + 1, 1) == 0
    assert queue.over_ns(INTERVAL, 0, 1) == 0
    assert queue.over_ns(INTERVAL, LIMIT + 1, 0) == 1


ROWS_MAX, RUN_NS = 8, 100


def dispatch_of(wait_ns_max=LIMIT, *, instances=1, levels=False):
    profile = LatencyProfile((1 << i, RUN_NS) for i in range(4))
    forecast = Forecast(profile, ROWS_MAX, alike=True, instances=instances)
    return Dispatch(BatchQueue(ROWS_MAX, levels=levels), forecast, wait_ns_max=wait_ns_max)


def queue_rows(dispatch, rows, level=0):
    for _ in range(rows):
        dispatch.queue.submit(Member("k", 1, 1 << 50, level=level))


def is_refused(dispatch, level=0):
    """Whether a newcomer is, once the queue has been so long for an interval."""
    dispatch.standing_ns(0, 1 << 50, level)
    return dispatch.standing_ns(INTERVAL, 1 << 50, level) > 0


def test_the_wait_is_what_the_queued_rows_take_at_the_rate_of_full_batches():
    for instances in (1, 2):
        dispatch = dispatch_of(instances=instances)
        queue_rows(dispatch, instances * ROWS_MAX * LIMIT // RUN_NS)
        assert not is_refused(dispatch)
        queue_rows(dispatch, instances)
        assert is_refused(dispatch)


def test_the_next_batches_may_fill_however_long_a_run_takes():
    dispatch = dispatch_of(wait_ns_max=RUN_NS // 10, instances=2)
    queue_rows(dispatch, 2 * ROWS_MAX)
    assert not is_refused(dispatch)
    queue_rows(dispatch, 1)
    assert is_refused(dispatch)


def test_without_a_limit_nobody_is_refused():
    dispatch = dispatch_of(0)
    queue_rows(dispatch, 10_000)
    assert not is_refused(dispatch)


def test_a_higher_priority_does_not_wait_for_those_it_overtakes():
    dispatch = dispatch_of(levels=True)
    queue_rows(dispatch, 1000, level=2)
    assert is_refused(dispatch, level=2)
    assert not is_refused(dispatch, level=1)
