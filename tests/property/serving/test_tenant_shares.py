"""Rows in flight by tenant, beside a list of what is in flight."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from serving.core.admission import Admission
from serving.core.errors import Overloaded
from serving.core.tenants import Tenants

BUDGET = 40
STEPS = st.lists(
    st.tuples(
        st.booleans(),  # comes, or the oldest of this tenant leaves
        st.sampled_from("abcde"),
        st.integers(1, 12),
        st.integers(0, 60),  # rows that wait for the same version
    ),
    max_size=80,
)


def is_owed(flights, tenant, rows):
    """Whether a tenant stays within an equal part of the budget, with one more tenant to come."""
    tenants = {name for name, _ in flights} | {tenant, "one to come"}
    mine = sum(each for name, each in flights if name == tenant) + rows
    return mine <= Fraction(BUDGET, len(tenants))


@given(STEPS)
def test_who_is_within_its_share_is_refused_for_want_of_room_alone(steps):
    admission, flights = Admission(BUDGET, 1, 1, tenants=Tenants()), []
    for comes, tenant, rows, queued in steps:
        held = sum(each for _, each in flights)
        if comes:
            owed = is_owed(flights, tenant, rows)
            try:
                admission.hold_rows(rows, queued, 1.0, tenant)
                flights.append((tenant, rows))
            except Overloaded:
                assert not owed or held + rows > BUDGET
        else:
            mine = [each for each in flights if each[0] == tenant]
            if mine:
                flights.remove(mine[0])
                admission.free_rows(mine[0][1], tenant)
        assert admission.rows == sum(each for _, each in flights) <= BUDGET
        for name in "abcde":
            assert admission.tenants.rows_of(name) == sum(n for t, n in flights if t == name)
        assert len(admission.tenants) == len({name for name, _ in flights})


@given(STEPS)
def test_a_tenant_alone_leaves_a_fifth_and_shares_nothing_else(steps):
    """Above its share one tenant has the bounds of a version: room for those to come."""
    admission = Admission(BUDGET, 1, 1, tenants=Tenants())
    for _, _, rows, _ in steps:
        before = admission.rows
        try:
            admission.hold_rows(rows, 0, 1.0, "a")
        except Overloaded:
            assert 5 * (before + rows) > 4 * BUDGET or before + rows > BUDGET / 2
            assert admission.rows == before
        else:
            assert before + rows <= max(BUDGET / 2, 4 * (BUDGET - before), rows)
