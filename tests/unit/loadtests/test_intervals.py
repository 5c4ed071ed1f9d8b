"""Means and ratios with their intervals, against values worked out by hand."""

import math
import random

import pytest

from loadtests.intervals import interval, median_ratio, ratio


def test_the_interval_of_few_values_is_students():
    found = interval([1.0, 2.0, 3.0])
    half = 4.303 * 1.0 / math.sqrt(3)
    assert found.mean == 2.0
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_more_values_than_the_table_has_are_taken():
    found = interval([1.0, 2.0] * 10)
    assert found.low < 1.5 < found.high


def test_ratios_are_averaged_on_the_scale_of_logarithms():
    found = ratio([(1.0, 2.0), (2.0, 1.0)])
    assert found.mean == pytest.approx(1.0)
    assert found.low * found.high == pytest.approx(1.0)


def test_the_interval_of_a_median_is_between_order_statistics():
    pairs = [(1.0, float(value)) for value in (5, 3, 8, 1, 12, 9, 2, 10, 4, 6, 11, 700)]
    found = median_ratio(pairs)
    assert (found.median, found.low, found.high) == (7.0, 3.0, 11.0)  # 96.1 % of twelve
    few = median_ratio(pairs[:5])
    assert (few.median, few.low, few.high) == (5.0, 1.0, 12.0)


@pytest.mark.parametrize("count", [6, 10, 12, 17])
def test_the_interval_of_a_median_holds_it_whatever_the_tails(count):
    chance = random.Random(count)
    held = 0
    for _ in range(2000):
        pairs = [(1.0, math.exp(chance.gauss(0.0, 1.0) ** 3)) for _ in range(count)]
        found = median_ratio(pairs)
        held += found.low <= 1.0 <= found.high
    assert held >= 0.935 * 2000
