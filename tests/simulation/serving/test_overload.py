"""Batcher and admission in virtual time: what is promised when it is too much.

Everything is a function of the seeds: the arrivals and the run times.
"""

import numpy as np
import pytest

from serving import bench_batching as bench
from serving.core.latency import LatencyProfile
from serving.core.simulate import Arrival, Ours, simulate

PATIENCE_NS = bench.PATIENCE_NS


def run(arrivals, seed=6, **options):
    policy = Ours(bench.ROWS_MAX, bench._profile(), **options)
    outcome = simulate(arrivals, policy, bench.run_times(np.random.default_rng(seed)))
    policy.queue.check()
    counted = [index for index, _ in outcome.answers] + outcome.refused + outcome.expired
    assert sorted(counted) == list(range(len(arrivals))), "everybody leaves exactly once"
    return outcome


def in_time(arrivals, outcome):
    return [index for index, ns in outcome.answers if ns <= arrivals[index].patience_ns]


@pytest.mark.parametrize("kind", ["constant", "Poisson"])
@pytest.mark.parametrize(("load", "goodput"), [(1.3, 0.9), (3.0, 0.9), (10.0, 0.9)])
def test_goodput_stays_near_the_capacity_however_much_comes(kind, load, goodput):
    arrivals = bench.traffic(kind, load, 0.5)
    outcome = run(arrivals)
    done = len(in_time(arrivals, outcome)) / bench.CAPACITY_PER_S
    assert done / (arrivals[-1].at_ns * 1e-9) >= goodput
    late = len(outcome.answers) - len(in_time(arrivals, outcome))
    assert late <= 0.05 * len(outcome.answers), "runs for the late are wasted"
    assert len(outcome.expired) <= 0.05 * len(arrivals), "most are told at once"


def test_below_the_capacity_nobody_is_refused_or_late():
    for kind in ("constant", "Poisson"):
        arrivals = bench.traffic(kind, 0.95, 1.0)
        assert len(in_time(arrivals, run(arrivals))) == len(arrivals)


def test_after_an_overload_service_is_normal_again_at_once():
    def even(load, from_s, to_s):
        step = int(1e9 / (load * bench.CAPACITY_PER_S))
        return [Arrival(at, PATIENCE_NS) for at in range(int(from_s * 1e9), int(to_s * 1e9), step)]

    arrivals = even(0.5, 0, 0.5) + even(10, 0.5, 0.7) + even(0.5, 0.7, 1.2)
    outcome = run(arrivals)
    refused = [arrivals[index].at_ns for index in outcome.refused + outcome.expired]
    assert all(0.5e9 <= at < 0.8e9 for at in refused)
    took = dict(outcome.answers)
    calm = [took[i] for i, each in enumerate(arrivals) if each.at_ns >= 0.8e9]
    assert max(calm) < 15_000_000


def test_the_rate_of_refusals_does_not_swing():
    arrivals = bench.traffic("constant", 3.0, 1.0)
    outcome = run(arrivals)
    shares = [0] * 10
    for index in in_time(arrivals, outcome):
        shares[min(9, int(arrivals[index].at_ns * 10 / 1e9))] += 1
    steady = shares[1:-1]
    assert min(steady) > 0.8 * max(steady), shares


def test_the_highest_priority_is_served_as_if_the_others_were_not_there():
    """Ten of 100 requests at level 1, 40 at 2, 50 at 3, at three times the capacity."""
    arrivals = [
        Arrival(each.at_ns, each.patience_ns, level=1 if n % 10 == 0 else 2 if n % 10 < 5 else 3)
        for n, each in enumerate(bench.traffic("Poisson", 3.0, 0.5))
    ]
    outcome = run(arrivals, levels=True)
    good = in_time(arrivals, outcome)
    share = {}
    for level in (1, 2, 3):
        sent = [i for i, each in enumerate(arrivals) if each.level == level]
        share[level] = len(set(good) & set(sent)) / len(sent)
    assert share[1] >= 0.999
    assert share[1] > share[2] > share[3]


def test_hasty_requests_are_answered_among_patient_ones_in_any_number():
    """A backlog of those who can wait for seconds does not cost those who cannot."""
    patient = [Arrival(0, 10**10) for _ in range(10_000)]
    hasty = [Arrival(10_000_000 * n, 20_000_000) for n in range(1, 50)]
    arrivals = patient + hasty
    outcome = run(arrivals)
    assert len(in_time(arrivals, outcome)) == len(arrivals)


def test_a_profile_that_is_far_too_high_heals():
    """Measured on a busy machine at load, a run seems to take longer than any deadline."""
    profile = LatencyProfile((1 << i, 10**9) for i in range(6))
    arrivals = bench.traffic("Poisson", 0.7, 2.0)
    outcome = simulate(
        arrivals, Ours(bench.ROWS_MAX, profile), bench.run_times(np.random.default_rng(1))
    )
    good = in_time(arrivals, outcome)
    last = [i for i, each in enumerate(arrivals) if each.at_ns > 1e9]
    assert len(set(good) & set(last)) == len(last)


def test_the_same_seed_gives_the_same_outcome():
    arrivals = bench.traffic("bursty", 1.3, 0.5)
    assert run(arrivals) == run(arrivals)


def test_the_table_is_made_of_every_policy():
    result = bench.measure(0.05, [0.7])
    assert len(result["rows"]) == len(bench.ARRIVALS) * len(bench.POLICIES)
    assert "regression" in bench.as_text(result)
