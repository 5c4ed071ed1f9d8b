"""When a batch is worth running, and until when it may wait."""

import pytest

from serving.core.batch import NEVER_NS, BatchQueue, Member, State
from serving.core.hold import EVERYBODY, Hold

DELAY_NS = 100


def hold(*preferred: int, rows_max: int = 8) -> Hold:
    made = Hold.of(DELAY_NS, preferred, rows_max)
    assert made is not None
    return made


def waiting(*rows: int, deadline_ns: int = NEVER_NS) -> list[Member]:
    """One arrives each nanosecond from 0 on."""
    return [Member("k", count, deadline_ns, i) for i, count in enumerate(rows)]


@pytest.mark.parametrize(
    ("preferred", "rows", "count"),
    [
        ((), [1, 1], 0),  # until the delay has passed
        ((), [4, 4], 2),  # a full batch
        ((), [1] * 9, 8),
        ((), [5, 4], 1),  # the second can never join the first
        ((4,), [1, 1, 1], 0),
        ((4,), [1] * 6, 4),  # the rest waits on
        ((4,), [3, 2], 1),
        ((2, 4), [1, 1, 1], 2),
        ((2, 4), [1, 1, 1, 1, 1], 4),
        ((4,), [6], 1),  # beyond every wanted size by itself
        ((), [0] * 8, 8),  # requests without rows count as one
    ],
)
def test_a_wanted_size_runs_at_once(preferred, rows, count):
    assert hold(*preferred).settle(waiting(*rows), 50, 0, 0)[0] == count


def test_after_the_delay_of_the_oldest_everybody_runs():
    members = waiting(1, 1, 1)
    assert hold(4).settle(members, DELAY_NS - 1, 0, 0) == (0, DELAY_NS)
    assert hold(4).settle(members, DELAY_NS, 0, 0) == (EVERYBODY, 0)


def test_a_deadline_ends_the_hold_early_enough_to_run():
    members = waiting(1, 1)
    members[1].deadline_ns = 60
    assert hold().settle(members, 40, 15, 0) == (0, 45)
    assert hold().settle(members, 45, 15, 0) == (EVERYBODY, 0)


@pytest.mark.parametrize(("delay_ns", "rows_max"), [(0, 8), (-5, 8), (100, 1)])
def test_without_a_delay_or_company_there_is_no_hold(delay_ns, rows_max):
    assert Hold.of(delay_ns, (4,), rows_max) is None


def test_preferred_sizes_beyond_the_batch_do_not_count():
    assert hold(64) == hold()
    assert hold(2, 64) == hold(2)


def queue_of(*members: Member) -> BatchQueue:
    queue: BatchQueue[Member] = BatchQueue(8)
    for member in members:
        queue.submit(member)
    return queue


def test_a_full_group_goes_before_an_older_one_that_waits():
    old, *full = Member("a", 1), Member("b", 4, queued_ns=5), Member("b", 4, queued_ns=6)
    queue = queue_of(old, *full)
    batch, _ = queue.take_settled(hold(), 10, 0)
    assert batch is not None
    assert batch.members == full
    assert queue.take_settled(hold(), 10, 0) == (None, DELAY_NS)
    batch, _ = queue.take_settled(hold(), DELAY_NS, 0)
    assert batch is not None
    assert batch.members == [old]


def test_what_is_left_of_a_preferred_size_waits_from_its_own_arrival():
    members = waiting(1, 1, 1, 1, 1)
    queue = queue_of(*members)
    batch, _ = queue.take_settled(hold(4), 10, 0)
    assert batch is not None
    assert batch.members == members[:4]
    assert queue.take_settled(hold(4), 10, 0) == (None, 4 + DELAY_NS)


def test_those_who_left_during_a_hold_are_forgotten_and_count_for_nothing():
    queue = queue_of(Member("k", 1))
    for _ in range(100):
        gone = Member("k", 2, deadline_ns=1)
        queue.submit(gone)
        assert queue.cancel(gone)
        assert queue.take_settled(hold(), 0, 50) == (None, DELAY_NS)
    (group,) = queue._lines.values()
    assert len(group) == 1


def test_members_of_a_failed_batch_are_not_held_again():
    a, b = waiting(4, 4)
    queue = queue_of(a, b)
    batch, _ = queue.take_settled(hold(), 0, 0)
    assert batch is not None
    queue.fail(batch)
    for member in (a, b):
        batch, _ = queue.take_settled(hold(), 0, 0)
        assert batch is not None
        assert batch.members == [member]
        queue.succeed(batch)
    assert queue.idle


def test_who_waits_too_long_is_timed_out_and_only_while_waiting():
    early, late, other = waiting(8, 1, 1)
    other.key = "other"
    queue = queue_of(early, late, other)
    running = queue.take()
    assert running is not None
    assert running.members == [early]
    assert queue.oldest_queued_ns() == 1
    assert queue.time_out(1) == [late]
    assert queue.time_out(1) == []
    assert (early.state, late.state) == (State.RUNNING, State.EXPIRED)
    assert queue.oldest_queued_ns() == 2
    assert queue.time_out(2) == [other]
    assert queue.oldest_queued_ns() == NEVER_NS
    queue.succeed(running)
    queue.check()
    assert queue.idle
