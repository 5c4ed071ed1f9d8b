"""The budget as it is written, shown and split."""

import pytest

from monitor.core.budget import budget_text, mean_time_s
from monitor.documents import budget_document
from monitor.service import core_settings
from monitor.settings import MonitorSettings

DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1 per 90d", 90 * DAY_S), ("2 per 1w", 3.5 * DAY_S), ("0.5 per 1.5h", 10_800.0)],
)
def test_a_budget_is_read_as_a_mean_time(text: str, seconds: float) -> None:
    assert mean_time_s(text) == pytest.approx(seconds)
    assert core_settings(MonitorSettings(false_alarms=text)).budget_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "1", "0 per 90d", "1 per 0d", "-1 per 1d", "1.2.3 per 1d", "1 per 9y"]
)
def test_what_is_no_budget_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="1 per 90d"):
        mean_time_s(text)


@pytest.mark.parametrize("text", ["1 per 90d", "1 per 36h", "1 per 1w", "1 per 2.5s"])
def test_a_budget_is_shown_as_it_was_written(text: str) -> None:
    assert budget_text(mean_time_s(text)) == text


def test_the_split_sums_to_the_whole_and_says_what_pages_alone() -> None:
    settings = core_settings(MonitorSettings(false_alarms="1 per 90d"))
    document = budget_document(settings)
    assert (document["page"], document["warn"]) == ("1 per 90d", "1 per 1w")
    groups = document["groups"].values()
    assert sum(group["weight"] for group in groups) == pytest.approx(1.0)
    for group in groups:
        assert group["weight"] * group["alone_s"] == pytest.approx(settings.budget_s)
