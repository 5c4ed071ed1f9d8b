"""One tenant floods, in virtual time, and others do not feel it.

Everything is a function of the seeds: the arrivals and the run times.
"""

import numpy as np
import pytest

from serving import bench_batching as bench
from serving.core.admission import Admission
from serving.core.batch import NEVER_NS, State
from serving.core.errors import Overloaded
from serving.core.simulate import Arrival, Ours, simulate
from serving.core.tenants import Tenants

SECONDS = 1.2
ONSET_NS = 300_000_000  # by then the flood is there, and what came in at first is answered
ROWS_MAX = 1500  # a quarter of a second of the capacity
LIMIT_NS = 100_000_000


class Shared(Ours):
    """Ours, with a budget of rows and tenants; as `serving.worker.dataplane` has it."""

    def __init__(self, tenants, *, apart, rows_max=10**9, wait_ns_max=0):
        super().__init__(bench.ROWS_MAX, bench._profile(), wait_ns_max=wait_ns_max)
        self._names = tenants
        self._admission = Admission(rows_max, 1, 1, tenants=Tenants() if apart else None)

    def admits(self, member, now_ns):
        dispatch, deadline_ns, tenant = (
            self._dispatch,
            member.deadline_ns,
            self._names[member.index],
        )
        dispatch.arrived += member.rows
        large = self._admission.is_large(tenant)
        patient = deadline_ns == NEVER_NS
        if patient and dispatch.standing_ns(now_ns, deadline_ns, 0, large=large):
            return False
        if dispatch.late_ns(now_ns, deadline_ns, member.rows, 0, large=large):
            return False
        try:
            self._admission.hold_rows(member.rows, self.queue.rows_queued, 1.0, tenant)
        except Overloaded:
            return False
        return True

    def _free(self, members):
        for member in members:
            self._admission.free_rows(member.rows, self._names[member.index])

    def drops(self, now_ns):
        dropped = super().drops(now_ns)
        self._free(dropped)
        return dropped

    def ended(self, batch, took_ns):
        super().ended(batch, took_ns)
        self._free([member for member in batch.members if member.state is State.DONE])


def traffic(loads, patience_ns):
    """Arrivals of tenants, each at its part of the capacity, and whose they are."""
    every = sorted(
        (int(at_ns), name)
        for number, (name, load) in enumerate(loads.items())
        for at_ns in np.cumsum(
            np.random.default_rng(number).exponential(
                1e9 / (load * bench.CAPACITY_PER_S), int(load * bench.CAPACITY_PER_S * SECONDS)
            )
        )
    )
    return [Arrival(at_ns, patience_ns) for at_ns, _ in every], [name for _, name in every]


def served(loads, patience_ns, **options):
    """By tenant, the part of its requests that was answered in time, and of the capacity."""
    arrivals, names = traffic(loads, patience_ns)
    policy = Shared(names, **options)
    outcome = simulate(arrivals, policy, bench.run_times(np.random.default_rng(6)))
    assert policy._admission.rows == 0
    good = [i for i, ns in outcome.answers if ns <= arrivals[i].patience_ns]
    end_s = arrivals[-1].at_ns * 1e-9
    good = [i for i in good if arrivals[i].at_ns > ONSET_NS]
    counts = {name: sum(names[i] == name for i in good) for name in loads}
    sent = {
        name: sum(n == name and a.at_ns > ONSET_NS for n, a in zip(names, arrivals, strict=True))
        for name in loads
    }
    parts = {name: counts[name] / sent[name] for name in loads}
    rates = {n: counts[n] / (end_s - ONSET_NS * 1e-9) / bench.CAPACITY_PER_S for n in loads}
    return parts, rates


FLOOD = {"flooding": 10.0, "modest": 0.15}
KINDS = {
    "deadlines": {"patience_ns": bench.PATIENCE_NS},
    "rows": {"patience_ns": NEVER_NS, "rows_max": ROWS_MAX},
    "a standing queue": {"patience_ns": NEVER_NS, "wait_ns_max": LIMIT_NS},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_modest_tenant_is_served_as_if_the_flood_were_not_there(kind):
    parts, rates = served(FLOOD, apart=True, **KINDS[kind])
    assert parts["modest"] >= 0.98
    assert sum(rates.values()) >= 0.9, "the others' room costs next to nothing"


@pytest.mark.parametrize("kind", list(KINDS))
def test_where_tenants_are_not_told_apart_it_is_not(kind):
    parts, _ = served(FLOOD, apart=False, **KINDS[kind])
    assert parts["modest"] < 0.5


@pytest.mark.parametrize("kind", list(KINDS))
def test_of_two_floods_the_smaller_one_gets_its_share(kind):
    """With one tenant more to come, a share of two is a third."""
    _, rates = served({"large": 10.0, "small": 2.0}, apart=True, **KINDS[kind])
    assert rates["small"] >= 0.3
    assert sum(rates.values()) >= 0.9


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_nobody_else_wants_is_there_for_one(kind):
    _, rates = served({"alone": 3.0}, apart=True, **KINDS[kind])
    assert rates["alone"] >= 0.9
