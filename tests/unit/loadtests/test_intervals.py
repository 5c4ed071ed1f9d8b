"""Means and ratios with their intervals, against values worked out by hand."""

import math

import pytest

from loadtests.intervals import interval, ratio


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
