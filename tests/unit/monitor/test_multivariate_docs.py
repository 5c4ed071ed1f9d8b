"""The page on monitoring lists the multivariate statistics as the table of the code has them."""

from monitor.core.multivariate.compare import LIVE_MIN, REFERENCE_MIN
from monitor.core.multivariate.entry import MultivariateStatistic
from monitor.core.multivariate.statistics import MULTIVARIATE
from tests.conftest import ROOT

HEAD = ["| name | statistic | effect in | finds |", "|---|---|---|---|"]


def line(item: MultivariateStatistic) -> str:
    return f"| `{item.name}` | {item.title} | {item.unit} | {item.finds} |"


def test_the_page_has_the_table_and_the_bounds() -> None:
    """What it prints on failure is what belongs on the page."""
    expected = "\n".join([*HEAD, *map(line, MULTIVARIATE.values())])
    page = (ROOT / "docs" / "statistics.md").read_text()
    assert expected in page, f"docs/statistics.md lacks\n{expected}"
    assert f"{LIVE_MIN} live rows" in page
    assert f"{REFERENCE_MIN} reference rows" in page


def test_every_statistic_says_what_it_is() -> None:
    for name, item in MULTIVARIATE.items():
        assert item.name == name
        assert item.draws.__doc__
