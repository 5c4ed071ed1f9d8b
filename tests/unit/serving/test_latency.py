"""What runs take: measured, learned, estimated."""

import random

import pytest

from serving.core.datatypes import Datatype
from serving.core.latency import LatencyProfile, work_of
from serving.core.signature import Signature, TensorSpec


def linear(work: int) -> int:
    return 1000 + 10 * work


def test_estimates_never_fall_with_the_work_and_know_what_ran():
    profile = LatencyProfile((work, linear(work)) for work in (1, 2, 4, 16, 32))
    assert [profile.likely_ns(work) for work in (1, 2, 3, 4)] == [1010, 1020, 1040, 1040]
    assert profile.likely_ns(8) == linear(16), "a class between two is not beyond the larger"
    assert profile.likely_ns(64) == 2 * linear(32), "twice the work takes at most twice as long"
    estimates = [profile.surely_ns(work) for work in range(1, 100)]
    assert estimates == sorted(estimates)


def test_without_any_run_nothing_is_claimed():
    profile = LatencyProfile()
    assert (profile.likely_ns(5), profile.surely_ns(5)) == (0, 0)
    assert profile.points() == []


def test_the_most_work_within_a_time_is_a_class_or_all_of_it():
    profile = LatencyProfile((1 << i, linear(1 << i)) for i in range(6))
    assert profile.work_within(linear(32), 32) == 32
    assert profile.work_within(linear(32) - 1, 32) == 16
    assert profile.work_within(linear(1), 32) == 1
    assert profile.work_within(linear(1) - 1, 32) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_high_estimate_is_exceeded_by_about_one_run_in_twenty(seed):
    print("seed", seed)
    chance = random.Random(seed)
    profile = LatencyProfile([(8, 1_000_000)])
    exceeded = 0
    for number in range(6000):
        took = int(1_000_000 * chance.lognormvariate(0, 0.2))
        if number >= 1000:
            exceeded += took > profile.surely_ns(8)
        profile.observe(8, took)
    assert 0.03 < exceeded / 5000 < 0.08
    assert profile.likely_ns(8) == pytest.approx(1_020_000, rel=0.2)


def test_a_version_that_becomes_slow_is_known_to_be_slow_within_some_runs():
    profile = LatencyProfile([(8, 1_000_000)] * 100)
    for _ in range(20):
        profile.observe(8, 2_000_000)
    assert profile.likely_ns(8) > 1_800_000
    assert profile.surely_ns(8) >= 2_000_000


def test_work_is_rows_where_rows_are_alike_and_elements_where_they_are_not():
    y = TensorSpec("y", Datatype.FP32, (-1, 1))

    class Sized:
        def __init__(self, size):
            self.size = size

    inputs = [Sized(40), Sized(2)]
    alike = Signature("m", "1", (TensorSpec("x", Datatype.FP32, (-1, 10)),), (y,), 8)
    assert work_of(alike, 4, inputs) == 4
    ragged = Signature("m", "1", (TensorSpec("x", Datatype.FP32, (-1, -1)),), (y,), 8)
    assert work_of(ragged, 4, inputs) == 42
    single = Signature("m", "1", (TensorSpec("x", Datatype.FP32, (-1, 10)),), (y,), 0)
    assert work_of(single, 1, inputs) == 42
