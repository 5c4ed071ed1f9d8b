"""Fair shares of the rows in flight among tenants."""

import pytest

from serving.core.admission import QUEUE_TO_FREE, Admission
from serving.core.dispatch import LEAVE_PART
from serving.core.errors import Overloaded
from serving.core.tenants import CHARACTERS_MAX, NAMELESS, TENANTS_MAX, THE_REST, Tenants
from tests.unit.serving.test_dispatch import ROWS_MAX, dispatch_of, fill, run_ns
from tests.unit.serving.test_standing_queue import INTERVAL, LIMIT, queue_rows
from tests.unit.serving.test_standing_queue import RUN_NS as STANDING_RUN_NS
from tests.unit.serving.test_standing_queue import dispatch_of as standing_of

BUDGET = 1000


def admission_of():
    return Admission(BUDGET, 1, 1, tenants=Tenants())


def flood(admission, tenant, queued=0):
    """Rows that it gets, one by one, into a queue that holds so many of others."""
    rows = 0
    while rows <= BUDGET:
        try:
            admission.hold_rows(1, queued + rows, 1.0, tenant)
        except Overloaded:
            break
        rows += 1
    return rows


def test_one_tenant_may_take_all_but_a_fifth():
    assert flood(admission_of(), "a") == pytest.approx(BUDGET * QUEUE_TO_FREE / LEAVE_PART, abs=2)


def test_another_gets_its_share_of_the_same_queue_while_one_floods_it():
    admission = admission_of()
    taken = flood(admission, "a")
    assert flood(admission, "b", queued=taken) == pytest.approx(BUDGET / LEAVE_PART, abs=2)
    assert admission.rows == BUDGET
    with pytest.raises(Overloaded):
        admission.hold_rows(1, admission.rows, 1.0, "a")
    for _ in range(100):  # what the one gives back, the other may have, up to its share
        admission.free_rows(1, "a")
        with pytest.raises(Overloaded, match="rows of this tenant are in flight"):
            admission.hold_rows(1, 0, 1.0, "a")
        admission.hold_rows(1, admission.rows, 1.0, "b")


def test_requests_of_tenants_are_refused_without_a_trace():
    admission = admission_of()
    flood(admission, "a")
    with pytest.raises(Overloaded) as refusal:
        admission.hold_rows(1, 0, 1.0, "a")
    assert "'a'" not in refusal.value.message
    assert admission.tenants.rows_of("a") == admission.rows


def test_a_tenant_is_forgotten_with_its_last_row():
    tenants = Tenants()
    tenants.came("a", 3)
    tenants.left("a", 2)
    assert (len(tenants), tenants.rows_of("a")) == (1, 1)
    tenants.left("a", 1)
    assert (len(tenants), tenants.rows_of("a")) == (0, 0)
    with pytest.raises(KeyError):
        tenants.left("a", 1)


def test_names_are_bounded_in_number_and_length():
    tenants = Tenants()
    for number in range(2 * TENANTS_MAX):
        tenants.came(tenants.known_as(f"tenant {number}"), 1)
    assert len(tenants) == TENANTS_MAX + 1
    assert tenants.rows_of(THE_REST) == TENANTS_MAX
    assert tenants.known_as("tenant 5") == "tenant 5"
    assert tenants.known_as("another") == THE_REST
    tenants.left("tenant 5", 1)
    tenants.left("tenant 6", 1)
    assert len(tenants.known_as("x" * 10_000)) == CHARACTERS_MAX


def test_requests_that_name_no_tenant_are_one_tenants():
    admission = admission_of()
    taken = flood(admission, NAMELESS)
    assert admission.is_large(NAMELESS)
    assert not admission.is_large("a")
    assert flood(admission, "a", queued=taken) > 0


def test_who_has_more_than_its_share_has_to_leave_time_to_others():
    dispatch = dispatch_of()
    fill(dispatch, 16, 1)
    dispatch.began(0, ROWS_MAX)
    answered = 3 * run_ns(8) + run_ns(1)
    needed = -(-answered * LEAVE_PART // (LEAVE_PART - 1))
    assert dispatch.late_ns(0, answered, 1, 0) == 0
    assert dispatch.late_ns(0, answered, 1, 0, large=True) == answered // LEAVE_PART
    assert dispatch.late_ns(0, needed, 1, 0, large=True) == 0
    assert dispatch.late_ns(0, needed - 5, 1, 0, large=True) > 0


def test_a_queue_stands_for_those_above_their_share_before_it_does_for_others():
    rows = ROWS_MAX * LIMIT // STANDING_RUN_NS
    dispatch = standing_of()
    queue_rows(dispatch, rows * (LEAVE_PART - 1) // LEAVE_PART + 1)
    for now_ns in (0, INTERVAL):
        over_ns = dispatch.standing_ns(now_ns, 1 << 50, 0, large=True)
        assert dispatch.standing_ns(now_ns, 1 << 50, 0) == 0
    assert over_ns > 0
