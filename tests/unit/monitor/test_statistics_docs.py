"""The page on monitoring lists the statistics as the table of the code has them."""

from monitor.core.profile import FeatureKind
from monitor.core.statistics import HEADLINE, STATISTICS
from monitor.core.statistics.entry import ALL, ORDERED, SEPARATE, Statistic
from tests.conftest import ROOT

KINDS = {ALL: "all", ORDERED: "numbers", SEPARATE: "discrete, categorical"}
HEAD = [
    "| name | statistic | unit | features | over | p-value |",
    "|---|---|---|---|---|---|",
]


def line(item: Statistic) -> str:
    over = "places" if item.places else "cells"
    cells = (f"`{item.name}`", item.title, item.unit, KINDS[item.kinds], over, item.law)
    return f"| {' | '.join(cells)} |"


def test_the_page_has_the_table() -> None:
    """What it prints on failure is what belongs on the page."""
    expected = "\n".join([*HEAD, *map(line, STATISTICS.values())])
    page = (ROOT / "docs" / "statistics.md").read_text()
    assert expected in page, f"docs/statistics.md lacks\n{expected}"


def test_the_page_names_the_headline() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text()
    series = next(row for row in page.splitlines() if "driftgate_monitor_feature_effect" in row)
    assert all(f"`{name}`" in series for name in HEADLINE)


def test_every_statistic_says_where_it_applies_and_why() -> None:
    for name, item in STATISTICS.items():
        assert item.name == name
        assert item.kinds <= set(FeatureKind)
        assert item.kinds in KINDS
        assert item.effect.__doc__, name
