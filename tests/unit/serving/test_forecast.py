"""When a request would be answered, and what slows everything down."""

import pytest

from serving.core.forecast import Forecast
from serving.core.latency import LatencyProfile

ROWS_MAX = 64


def run_ns(rows: int) -> int:
    return 1_000_000 + 100_000 * rows


def forecast_of() -> Forecast:
    profile = LatencyProfile((1 << i, run_ns(1 << i)) for i in range(7))
    return Forecast(profile, ROWS_MAX, alike=True)


def test_what_slows_one_size_down_is_expected_of_all():
    forecast = forecast_of()
    for _ in range(20):
        forecast.ran(8, 8, 4 * run_ns(8))
    for rows in (1, 8, 64):
        assert forecast.likely_ns(rows) == pytest.approx(4 * run_ns(rows), rel=0.1)
    assert forecast.full_ns == pytest.approx(4 * run_ns(64), rel=0.2)
    for _ in range(40):
        forecast.ran(8, 8, run_ns(8))
    for rows in (1, 8, 64):
        assert forecast.likely_ns(rows) == pytest.approx(run_ns(rows), rel=0.1)


def test_it_is_known_within_a_few_runs():
    forecast = forecast_of()
    for _ in range(2):
        forecast.ran(32, 32, 3 * run_ns(32))
    assert forecast.likely_ns(64) > 2.9 * run_ns(64)
    for _ in range(2):
        forecast.ran(32, 32, run_ns(32))
    assert forecast.likely_ns(64) < 1.1 * run_ns(64)


def test_one_outlier_changes_little():
    forecast = forecast_of()
    forecast.ran(8, 8, 1000 * run_ns(8))
    assert forecast.likely_ns(64) < 1.3 * run_ns(64)


def test_a_cold_run_makes_no_pair_with_the_next():
    forecast = forecast_of()
    forecast.ran(8, 8, 10 * run_ns(8), cold=True)
    forecast.ran(8, 8, 10 * run_ns(8))
    assert forecast.likely_ns(64) < 1.6 * run_ns(64)
    forecast.ran(8, 8, 10 * run_ns(8))
    assert forecast.likely_ns(64) > 9 * run_ns(64)


def test_batches_before_a_request_are_no_larger_than_its_deadline_allows():
    forecast = forecast_of()
    slack_ns = run_ns(16)
    assert forecast.answer_ns(32, 1, 0, slack_ns) == 2 * run_ns(16) + run_ns(1)
    assert forecast.answer_ns(32, 1, 0, 10 * run_ns(64)) == run_ns(64)
    assert forecast.answer_ns(15, 4, 0, slack_ns) == run_ns(16) + run_ns(4)


def test_who_comes_after_shares_the_batch_up_to_what_the_deadline_allows():
    forecast = forecast_of()
    assert forecast.answer_ns(0, 1, 3, run_ns(16)) == run_ns(4)
    assert forecast.answer_ns(0, 1, 1000, run_ns(16)) == run_ns(16)
    assert forecast.answer_ns(0, 20, 1000, run_ns(16)) == run_ns(32), "its own rows in any case"
