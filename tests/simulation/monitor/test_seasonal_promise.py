"""The false-alarm promise over traffic that moves with the hour of the week, and only so."""

from dataclasses import replace

import numpy as np
import pytest

import monitor.core.season
from monitor.core.bins import Floats
from monitor.core.profile import ReferenceProfile
from monitor.core.season_reference import HOUR_NS, HOURS
from monitor.core.watched import Yardstick
from tests.monitor_world import SETTINGS
from tests.seasonal_world import SeasonalStream, reference
from tests.simulation.monitor.test_false_alarm_promise import most_alarms

SEED = 20261130
STREAMS, FEW, STREAMS_PER_REFERENCE = 60, 4, 5
ROWS_PER_HOUR = 300
BLOCKS_PER_HOUR = 3
BUDGET_BLOCKS, HORIZON = 5040, HOURS * BLOCKS_PER_HOUR  # a week, a tenth of the budget
BLOCK_NS = HOUR_NS // BLOCKS_PER_HOUR
SEASONAL = replace(
    SETTINGS, block_ns=BLOCK_NS, tolerance=0.02, budget_s=BUDGET_BLOCKS * BLOCK_NS / 1e9
)
WHOLE = replace(SEASONAL, seasonal=False)
SHARE = HORIZON / BUDGET_BLOCKS


def profile(number: int, rows: int = ROWS_PER_HOUR) -> ReferenceProfile:
    return reference(np.random.default_rng([SEED, number]), rows)


def stream(yardstick: Yardstick, number: int, **more: int) -> SeasonalStream:
    settings = replace(SEASONAL, block_ns=yardstick.block_ns)
    return SeasonalStream(np.random.default_rng([SEED, number, 1]), yardstick, settings, **more)


def alarms(number: int) -> int:
    print("seed", SEED, "streams", number)
    found = 0
    for i in range(number):
        if i % STREAMS_PER_REFERENCE == 0:
            yardstick = Yardstick(profile(i), SEASONAL)
        found += stream(yardstick, i).alarms(HORIZON)
    return found


def test_few_streams_page_by_the_hour_within_a_tenth_of_the_budget() -> None:
    assert alarms(FEW) <= most_alarms(FEW, SHARE)


@pytest.mark.ci
@pytest.mark.timeout(0)
def test_of_many_streams_no_more_page_by_the_hour_than_the_budget_allows() -> None:
    found = alarms(STREAMS)
    print(f"{found} of {STREAMS} streams paged, {most_alarms(STREAMS, SHARE)} may")
    assert found <= most_alarms(STREAMS, SHARE)


def test_by_the_whole_reference_all_of_them_page() -> None:
    print("seed", SEED)
    yardstick = Yardstick(profile(0), WHOLE)
    assert yardstick.hours is None
    for i in range(FEW):
        assert stream(yardstick, i).alarms(HORIZON)


TIGHT = replace(SEASONAL, tolerance=0.001)


def tight_alarms() -> int:
    """Of a reference that is far from the truth, and next to no tolerance."""
    print("seed", SEED)
    yardstick = Yardstick(profile(0, rows=30), TIGHT)
    return sum(stream(yardstick, i).alarms(HORIZON) for i in range(FEW))


def test_few_rows_of_each_hour_with_their_error_keep_it() -> None:
    assert tight_alarms() <= most_alarms(FEW, SHARE)


def test_hours_of_the_reference_that_are_taken_for_the_truth_break_the_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The streams are hard enough: without the hours' own errors nearly all of them page."""

    def certain(yes: Floats, totals: Floats, *_: object) -> tuple[Floats, Floats]:
        share = yes / np.maximum(totals, 1.0)
        return share, share

    monkeypatch.setattr(monitor.core.season, "_bounds", certain)
    assert tight_alarms() > most_alarms(FEW, SHARE)


def test_the_season_is_no_correlation_and_the_promise_is_covered() -> None:
    print("seed", SEED)
    by_hour = stream(Yardstick(profile(0), SEASONAL), 0)
    assert not by_hour.alarms(HORIZON)
    assert by_hour.stable.span.covered
    assert by_hour.stable.span.blocks == 1
    by_whole = stream(Yardstick(profile(0), WHOLE), 0)
    for _ in range(HORIZON):
        by_whole.step()
    assert by_whole.stable.span.blocks > 1 or not by_whole.stable.span.covered


MINUTE_NS = 60 * 10**9
HOUR = 60  # blocks


def test_a_night_that_looks_like_a_day_is_found_within_its_hour() -> None:
    """Nothing that the whole reference would call new: another hour's rows."""
    print("seed", SEED)
    yardstick = Yardstick(profile(0), replace(SEASONAL, block_ns=MINUTE_NS))
    found = stream(yardstick, 0, first=18 * HOUR - 20)
    assert not any(found.step() for _ in range(20))
    assert not any(found.step() for _ in range(HOUR))  # 18:00, as it should be
    assert any(found.step(hour=6) for _ in range(HOUR))  # 19:00, like 06:00
