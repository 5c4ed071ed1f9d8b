"""Scenarios are read from files, and a phase comes to the right numbers."""

import numpy as np
import pytest

from loadtests.open_loop import Outcome
from loadtests.scenario import figures, load, scenarios


def test_all_kept_scenarios_can_be_read():
    known = scenarios()
    assert {"baseline", "sweep", "overload", "swap", "sizes", "models", "steady"} <= set(known)
    for scenario in known.values():
        assert "bench" in scenario.models


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("what = 'x'", "phases"),
        ("what = 'x'\n[[phases]]\nname = 'a'\nseconds = 1", "one of load and per_s"),
        ("what = 'x'\n[[phases]]\nname = 'a'\nseconds = 1\nload = 1\nper_s = 1", "one of load"),
        ("what = 'x'\n[[phases]]\nname = 'a'\nseconds = 1\nload = 1\narrivals = 'odd'", "arriv"),
        ("what = 'x'\n[[phases]]\nname = 'a'\nseconds = 1\nload = 1\nspeed = 2", "speed"),
        ("what = 'x'\nmodels = {bench='no'}\n[[phases]]\nname='a'\nseconds=1\nload=1", "no model"),
    ],
)
def test_a_file_that_is_wrong_says_where(tmp_path, text, why):
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(ValueError, match=why) as error:
        load(tmp_path / "odd.toml")
    assert "odd.toml" in str(error.value)


def outcome(latency_ms, status, right, late_ms=0.0):
    count = len(status)
    return Outcome(
        np.linspace(0.0, 2.0, count),
        np.array(latency_ms) / 1e3,
        np.array(status, np.int16),
        np.array(right),
        np.full(count, late_ms / 1e3),
    )


def test_a_good_reply_is_right_and_within_its_deadline():
    run = outcome(
        [1.0, 30.0, 2.0, 3.0, np.nan], [200, 200, 200, 503, 0], [True, True, False, False, False]
    )
    found = figures(run, 0.0)
    assert (found["good_per_s"], found["good_share"], found["offered_per_s"]) == (1.0, 0.4, 2.5)
    assert (found["wrong"], found["refused"], found["unanswered"]) == (1, 1, 1)
    assert found["refused_p99_ms"] == pytest.approx(3.0)
    assert found["p999_ms"] == pytest.approx(30.0, rel=0.01)
    assert not found["void"]
    assert figures(run, 20.0)["good_share"] == 0.2


def test_a_late_generator_voids_the_phase():
    assert figures(outcome([1.0], [200], [True], late_ms=1.5), 0.0)["void"]
    assert figures(outcome([1.0], [503], [False]), 0.0)["p50_ms"] is None
