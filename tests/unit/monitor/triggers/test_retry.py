"""Answers, waits and times."""

import pytest

from monitor.core.periods import parse_period_ns
from monitor.triggers.core.retry import (
    FIRST_S,
    MOST_S,
    Fate,
    Statuses,
    backoff_s,
    retry_after_s,
)
from monitor.triggers.core.schedule import Schedule, Training

STATUSES = Statuses(done=(200, 204), duplicate=(409,))
H = 3600 * 10**9


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, Fate.DONE), (409, Fate.DONE), (201, Fate.FAILED), (302, Fate.FAILED),
        (400, Fate.FAILED), (401, Fate.FAILED), (408, Fate.RETRY), (429, Fate.RETRY),
        (500, Fate.RETRY), (503, Fate.RETRY),
    ],
)  # fmt: skip
def test_a_status_means_one_thing(status, fate):
    assert STATUSES.fate(status) is fate


def test_a_success_that_is_5xx_by_the_operators_word_is_one():
    assert Statuses(done=(599,)).fate(599) is Fate.DONE


def test_waits_double_up_to_the_longest_and_half_of_each_is_chance():
    for attempt in range(1, 100):
        longest = min(FIRST_S * 2.0 ** (attempt - 1), MOST_S)
        assert longest / 2 <= backoff_s("k", attempt) < longest
    assert len({backoff_s(f"k{i}", 1) for i in range(50)}) == 50
    assert backoff_s("k", 3) == backoff_s("k", 3)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), (None, 0.0), ("", 0.0), ("Fri, 31 Dec", 0.0), ("9" * 30, 3600.0), ("-5", 0.0)],
)
def test_a_receiver_may_ask_for_some_patience(value, seconds):
    assert retry_after_s(value) == seconds


@pytest.mark.parametrize(
    ("text", "hours"), [("12h", 12), ("7d", 168), ("2w", 336), ("90m", 1.5), ("", 0)]
)
def test_a_period_is_a_number_and_a_unit(text, hours):
    assert parse_period_ns(text) == hours * H


@pytest.mark.parametrize("text", ["7", "d", "0d", "-1d", "1.5h", "7 d", "1y", "7d7h"])
def test_what_is_no_period_is_refused(text):
    with pytest.raises(ValueError, match="no time such as"):
        parse_period_ns(text)


def test_a_training_is_due_by_the_calendar_or_by_labels():
    both = Schedule(every_ns=24 * H, after_labels=100)
    assert both.reason(Training(0, 99), 24 * H - 1) is None
    assert "1.0 days" in (both.reason(Training(0, 0), 24 * H) or "")
    assert "100 labelled" in (both.reason(Training(0, 100), 1) or "")
    assert Schedule().reason(Training(0, 10**9), 10**30) is None
    assert both.reason(Training(10 * H, 0), 0) is None  # the clock was set back
