"""The batcher's state machine."""

import weakref

import pytest

from serving.core.batch import NEVER_NS, VISITS_MAX, Batch, BatchQueue, Member, State


def queue_of(*rows: int, rows_max: int = 8, key: str = "k") -> tuple[BatchQueue, list[Member]]:
    queue: BatchQueue[Member] = BatchQueue(rows_max)
    members = [Member(key, count) for count in rows]
    for member in members:
        queue.submit(member)
    return queue, members


def take(queue: BatchQueue) -> Batch:
    batch = queue.take()
    assert batch is not None
    queue.check()
    return batch


def test_a_cancelled_request_does_not_hurt_its_batch_mates():
    queue, (a, b, c, d) = queue_of(1, 1, 1, 1)
    batch = take(queue)
    assert queue.cancel(b)
    queue.succeed(batch)
    assert [m.state for m in (a, c, d)] == [State.DONE] * 3
    assert b.state is State.CANCELLED
    assert batch.starts == [0, 1, 2, 3]
    assert queue.idle
    queue.check()


def test_a_request_cancelled_before_its_batch_is_not_run():
    queue, (a, b, c) = queue_of(1, 2, 1)
    assert queue.cancel(b)
    batch = take(queue)
    assert batch.members == [a, c]
    assert batch.rows == 2


def test_cancelling_twice_or_after_the_answer_changes_nothing():
    queue, (a,) = queue_of(1)
    queue.succeed(take(queue))
    assert not queue.cancel(a)
    assert a.state is State.DONE
    queue, (a,) = queue_of(1)
    assert queue.cancel(a)
    assert not queue.cancel(a)
    assert queue.take() is None
    assert queue.rows_queued == 0


def test_everything_that_waits_and_fits_is_the_next_batch():
    queue, members = queue_of(*[1] * 10, rows_max=8)
    assert take(queue).members == members[:8]
    assert take(queue).members == members[8:]
    assert queue.take() is None


def test_a_member_that_does_not_fit_waits_and_nobody_overtakes_it():
    queue, (a, b, c) = queue_of(6, 4, 1, rows_max=8)
    assert take(queue).members == [a]
    assert take(queue).members == [b, c]


def test_only_equal_keys_share_a_batch_and_the_oldest_goes_first():
    queue: BatchQueue[Member] = BatchQueue(8)
    a1, b1, a2 = Member("a", 1), Member("b", 1), Member("a", 1)
    for member in (b1, a1, a2):
        queue.submit(member)
    assert take(queue).members == [b1]
    assert take(queue).members == [a1, a2]


def test_a_poisonous_member_fails_alone_after_its_batch_is_taken_apart():
    queue, (a, poison, c) = queue_of(1, 1, 1)
    assert queue.fail(take(queue)) == []
    outcomes = []
    while (batch := queue.take()) is not None:
        queue.check()
        assert len(batch.members) == 1
        if batch.members[0] is poison:
            assert queue.fail(batch) == [poison]
        else:
            queue.succeed(batch)
        outcomes.append(batch.members[0])
    assert outcomes == [a, poison, c]
    assert [m.state for m in (a, poison, c)] == [State.DONE] * 3


def test_members_of_a_failed_batch_run_before_newer_ones():
    queue, (a, b) = queue_of(1, 1)
    late = Member("k", 1)
    batch = take(queue)
    queue.submit(late)
    queue.fail(batch)
    assert [take(queue).members for _ in range(3)] == [[a], [b], [late]]


def test_a_cancelled_member_of_a_failed_batch_is_not_run_again():
    queue, (a, b) = queue_of(1, 1)
    batch = take(queue)
    queue.cancel(a)
    queue.fail(batch)
    assert take(queue).members == [b]
    assert queue.take() is None


def test_expired_members_are_returned_once_wherever_they_are():
    queue: BatchQueue[Member] = BatchQueue(1)
    running, waiting, patient = Member("k", 1, 10), Member("k", 1, 20), Member("k", 1)
    for member in (running, waiting, patient):
        queue.submit(member)
    batch = take(queue)
    assert queue.next_deadline_ns() == 10
    assert queue.expire(20) == [waiting, running]
    assert queue.expire(20) == []
    assert queue.next_deadline_ns() == NEVER_NS
    queue.succeed(batch)
    assert running.state is State.EXPIRED
    assert take(queue).members == [patient]


def test_a_batch_of_one_that_fails_after_its_client_left_answers_nobody():
    queue, (a,) = queue_of(1)
    batch = take(queue)
    queue.cancel(a)
    assert queue.fail(batch) == []
    assert queue.idle


def test_a_member_larger_than_any_batch_is_refused_by_assertion():
    queue: BatchQueue[Member] = BatchQueue(2)
    with pytest.raises(AssertionError):
        queue.submit(Member("k", 3))


def test_what_may_still_be_logged_includes_cancelled_members_of_a_running_batch():
    queue, (a, b, c) = queue_of(1, 1, 1, rows_max=2)
    take(queue)
    queue.cancel(a)
    queue.cancel(c)
    assert queue.unfinished() == [a, b]


class Traced(Member):
    """A member whose end can be seen."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("leave", ["cancel", "expire"])
@pytest.mark.parametrize("alone", [False, True])
def test_one_who_leaves_while_others_run_is_let_go_at_once(leave, alone):
    queue: BatchQueue[Traced] = BatchQueue(8)
    members = [Traced("k", 1, deadline_ns=5) for _ in range(3)]
    for member in members:
        queue.submit(member)
    if alone:
        assert queue.fail(take(queue)) == []
    running = take(queue) if alone else None
    queue.submit(Traced("k", 1))  # somebody stays
    seen = weakref.ref(members[-1])
    if leave == "cancel":
        queue.cancel(members[-1])
    else:
        assert members[-1] in queue.expire(5)
    members.clear()
    member = None
    assert seen() is None, "its inputs would be held until the run ends"
    queue.check()
    if running is not None:
        queue.succeed(running)


def test_those_who_left_leave_no_trace_in_the_order():
    queue, members = queue_of(*[1] * 20, rows_max=4)
    for member in members[::3]:
        queue.cancel(member)
    ran = []
    while (batch := queue.take()) is not None:
        queue.check()
        ran += batch.members
        queue.succeed(batch)
    assert ran == [m for i, m in enumerate(members) if i % 3]


def test_the_earliest_deadline_runs_first_and_equal_ones_as_they_came():
    queue: BatchQueue[Member] = BatchQueue(2)
    deadlines = [50, 50, 20, 90, 20]
    members = [Member("k", 1, deadline) for deadline in deadlines]
    for member in members:
        queue.submit(member)
    taken = [take(queue).members for _ in range(3)]
    assert [[members.index(m) for m in batch] for batch in taken] == [[2, 4], [0, 1], [3]]


def test_the_line_with_the_earliest_deadline_runs_first():
    queue: BatchQueue[Member] = BatchQueue(8)
    patient, hasty = Member("a", 1, 50), Member("b", 1, 20)
    queue.submit(patient)
    queue.submit(hasty)
    assert take(queue).members == [hasty]


def test_a_higher_priority_goes_first_whatever_the_deadlines():
    queue: BatchQueue[Member] = BatchQueue(1, levels=True)
    members = [
        Member("k", 1, 10, level=2),
        Member("k", 1, 99, level=1),
        Member("k", 1, 50, level=1),
    ]
    for member in members:
        queue.submit(member)
    assert [take(queue).members[0] for _ in range(3)] == [members[2], members[1], members[0]]
    assert queue.expire(10) == [members[0]], "one that runs expires too"


def test_ordering_is_preserved_across_shapes_and_deadlines():
    queue: BatchQueue[Member] = BatchQueue(8, preserve_ordering=True)
    members = [Member(key, 1, deadline) for key, deadline in [("a", 9), ("b", 1), ("a", 5)]]
    for member in members:
        queue.submit(member)
    assert [take(queue).members for _ in range(3)] == [[m] for m in members]


def test_a_preferred_size_is_run_where_enough_wait_for_it():
    queue: BatchQueue[Member] = BatchQueue(8, sizes=[2, 4, 16])
    for _ in range(7):
        queue.submit(Member("k", 1))
    assert [take(queue).rows for _ in range(3)] == [4, 2, 1]


def test_those_who_waited_too_long_run_when_nobody_else_waits():
    queue: BatchQueue[Member] = BatchQueue(1)
    members = [Member("k", 1, 100, queued_ns=at) for at in (1, 2, 9)]
    for member in members:
        queue.submit(member)
    assert queue.put_back(2) == 2
    assert queue.put_back(2) == 0
    queue.check()
    queue.submit(late := Member("k", 1, 200, queued_ns=9))
    assert [take(queue).members[0] for _ in range(4)] == [members[2], late, *members[:2]]


def test_rows_before_a_rank_are_exact_near_the_front_and_everybodys_behind():
    queue: BatchQueue[Member] = BatchQueue(4)
    for deadline in (30, 10, 20, 40):
        queue.submit(Member("k", 2, deadline))
    assert [queue.rows_before(queue.rank_of(d, 0)) for d in (5, 10, 25, 99)] == [0, 2, 4, 8]
    for _ in range(2 * VISITS_MAX):
        queue.submit(Member("k", 1, 50))
    assert queue.rows_before(queue.rank_of(60, 0)) == queue.rows_queued
    assert queue.rows_before(queue.rank_of(15, 0)) == 2
    queue.check()


def test_a_line_does_not_remember_everybody_who_ever_left_it():
    queue: BatchQueue[Member] = BatchQueue(1)
    queue.submit(Member("k", 1, 100))
    for _ in range(10 * VISITS_MAX):
        gone = Member("k", 1, 50)
        queue.submit(gone)
        queue.submit(other := Member("k", 1, 200))
        queue.cancel(gone)
        queue.cancel(other)
        queue.next_deadline_ns()
    (line,) = queue._lines.values()
    assert len(line) == 1
    assert len(line.heap) < 4 * VISITS_MAX
