"""Requests that name no deadline, in virtual time, when they are too many.

The limit of the wait is half a second, its interval 50 ms. Everything is a function of
the seeds: the arrivals and the run times.
"""

import numpy as np
import pytest

from serving import bench_batching as bench
from serving.core.simulate import Arrival, Ours, simulate
from serving.core.standing_queue import MOST

LIMIT_NS = 500_000_000
RUN_NS = bench.BASE_NS + bench.ROWS_MAX * bench.ROW_NS
ONSET_NS = 2 * LIMIT_NS  # until the queue stands, and those who came before are answered


def run(arrivals, wait_ns_max=LIMIT_NS):
    policy = Ours(bench.ROWS_MAX, bench._profile(), wait_ns_max=wait_ns_max)
    outcome = simulate(arrivals, policy, bench.run_times(np.random.default_rng(6)))
    policy.queue.check()
    counted = [index for index, _ in outcome.answers] + outcome.refused + outcome.expired
    assert sorted(counted) == list(range(len(arrivals))), "everybody leaves exactly once"
    return outcome


def patient(kind, load, seconds=4.0):
    return [Arrival(each.at_ns) for each in bench.traffic(kind, load, seconds)]


def even(load, from_s, to_s):
    step_ns = int(1e9 / (load * bench.CAPACITY_PER_S))
    return [Arrival(at_ns) for at_ns in range(int(from_s * 1e9), int(to_s * 1e9), step_ns)]


def waits_ns(arrivals, outcome, from_ns=0):
    return np.array([ns for index, ns in outcome.answers if arrivals[index].at_ns >= from_ns])


def done_by(at_ns, arrivals, outcome):
    return sum(arrivals[index].at_ns + ns <= at_ns for index, ns in outcome.answers)


@pytest.mark.parametrize("load", [1.2, 3.0, 10.0])
@pytest.mark.parametrize("kind", list(bench.ARRIVALS))
def test_the_wait_stays_near_its_limit_and_the_executor_never_idles(kind, load):
    arrivals = patient(kind, load, 2.5)
    outcome = run(arrivals)
    end_ns = arrivals[-1].at_ns
    possible = bench.CAPACITY_PER_S * end_ns * 1e-9
    if kind == "bursty":  # not in the pauses
        possible = min(possible, done_by(end_ns, arrivals, run(arrivals, 0)))
    assert done_by(end_ns, arrivals, outcome) >= 0.9 * possible
    assert waits_ns(arrivals, outcome).max() <= MOST * LIMIT_NS + 4 * RUN_NS
    later_ns = waits_ns(arrivals, outcome, ONSET_NS)
    assert np.quantile(later_ns, 0.99) <= 1.2 * LIMIT_NS


def test_without_the_limit_everybody_waits_as_long_as_the_overload_lasts():
    """What the limit is for: of three times the capacity a third is served, sooner or later."""
    arrivals = patient("constant", 3.0)
    outcome = run(arrivals, 0)
    assert not outcome.refused
    assert np.quantile(waits_ns(arrivals, outcome), 0.5) > 6 * LIMIT_NS


@pytest.mark.parametrize("kind", list(bench.ARRIVALS))
def test_below_the_capacity_nobody_is_refused(kind):
    assert not run(patient(kind, 0.95)).refused


def test_bursts_that_are_over_within_the_interval_lose_nothing():
    """Every second so much at once as is done in a little more than the limit."""
    count = int(1.02 * LIMIT_NS * 1e-9 * bench.CAPACITY_PER_S)
    arrivals = [Arrival(second * 10**9) for second in range(5) for _ in range(count)]
    arrivals = sorted(arrivals + even(0.3, 0, 5.9), key=lambda each: each.at_ns)
    outcome = run(arrivals)
    assert not outcome.refused
    assert waits_ns(arrivals, outcome).max() > LIMIT_NS


def test_when_the_load_falls_nobody_is_refused_any_more():
    arrivals = even(0.5, 0, 1) + even(10, 1, 3) + even(0.5, 3, 5)
    outcome = run(arrivals)
    refused_ns = [arrivals[index].at_ns for index in outcome.refused]
    # Forecasts follow the last few runs, by a tenth up or down: a queue at its limit may be
    # above it once more.
    assert all(10**9 < at_ns < 3 * 10**9 + LIMIT_NS // 4 for at_ns in refused_ns)
    half_s_later = waits_ns(arrivals, outcome, 3 * 10**9 + 2 * LIMIT_NS)
    assert half_s_later.max() <= 4 * RUN_NS


def test_the_rate_of_refusals_does_not_swing():
    arrivals = patient("constant", 3.0)
    outcome = run(arrivals)
    at_ns = [arrivals[index].at_ns for index in outcome.refused]
    halves = np.bincount(np.array(at_ns) // 500_000_000, minlength=8)[2:]
    assert halves.min() > 0.8 * halves.max(), halves


def test_who_names_a_deadline_is_asked_for_that_alone():
    """Half of the requests can wait for three seconds, at twice the capacity."""
    arrivals = [
        Arrival(each.at_ns, 3 * 10**9) if n % 2 else Arrival(each.at_ns)
        for n, each in enumerate(bench.traffic("constant", 2.0, 2.0))
    ]
    outcome = run(arrivals)
    assert outcome.refused
    assert all(n % 2 == 0 for n in outcome.refused)
