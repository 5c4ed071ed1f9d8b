"""The false-alarm promise where a version's own first traffic is its reference."""

from dataclasses import replace

import numpy as np
import pytest

import monitor.core.events
import monitor.core.warm_up
from tests.promise_world import PROMISE
from tests.simulation.monitor.test_false_alarm_promise import most_alarms
from tests.warm_up_world import beyond, warmed_up, warmed_up_streams

SEED = 20261129
STREAMS, BLOCKS = 30, 1000
FEW_BLOCKS = 70  # so that a reference is far from the truth
TIGHT = replace(PROMISE, tolerance=0.001)


def tight_alarms(number: int) -> int:
    print("seed", SEED)
    return sum(s.alarms() for s in warmed_up_streams(number, SEED, FEW_BLOCKS, TIGHT))


def test_every_share_is_within_its_error_of_the_truth() -> None:
    print("seed", SEED)
    assert np.max(beyond(warmed_up([SEED], 300, PROMISE))) < 1.0


def test_rows_of_sessions_and_storms_taken_for_independent_ones_are_farther_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor.core.warm_up, "effective", lambda rows, *_: float(rows))
    print("seed", SEED)
    assert np.max(beyond(warmed_up([SEED], 300, PROMISE))) > 1.2


def test_a_warm_up_taken_for_the_truth_breaks_the_promise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor.core.events, "share_error", lambda *_: 0.0)
    assert tight_alarms(5) > most_alarms(5)


@pytest.mark.ci
def test_a_short_warm_up_with_its_error_keeps_it() -> None:
    assert tight_alarms(5) <= most_alarms(5)


@pytest.mark.ci
def test_of_streams_with_a_warm_up_no_more_page_than_the_budget_allows() -> None:
    print("seed", SEED, "streams", STREAMS)
    found = sum(stream.alarms() for stream in warmed_up_streams(STREAMS, SEED, BLOCKS))
    print(f"{found} of {STREAMS} streams paged, {most_alarms(STREAMS)} may")
    assert found <= most_alarms(STREAMS)
