"""The section on what features do together: means, correlations, everything at once."""

from collections.abc import Iterator, Mapping
from typing import Any

from monitor.core.multivariate.statistics import MULTIVARIATE
from monitor.report.content import Content
from monitor.report.markup import Html, element, join
from monitor.report.tables import table
from monitor.report.words import amount, count, effect, number


def together_section(content: Content) -> Html:
    """A table per space, or why there is none."""
    if not content.multivariate:
        text = "There are no rows of two or more numeric features to compare."
        return element("p", text, class_="empty")
    return join([part for space in content.multivariate for part in _space(space)])


def _space(space: Mapping[str, Any]) -> Iterator[Html]:
    name = f"{amount(space['features'], 'feature')} of {space['space']}"
    if space["space"] == "features":
        name = amount(space["features"], "feature")
    if space["off"]:
        yield element("p", f"{name}: not compared, {space['off']}.", class_="empty")
        return
    rows = [
        (
            f"{item['title']} ({item['unit']})",
            MULTIVARIATE[item["name"]].finds,
            effect(item["effect"]),
            effect(item["null_mean"]),
            number(item["p_value"]),
        )
        for item in space["statistics"]
    ]
    head = ("statistic", "finds", "effect", "by chance", "p-value")
    yield table(f"{name} together", head, rows, left=2)
    said = f"{count(space['live_rows'])} live rows of the live window"
    text = f"A sample: {said}, against {count(space['reference_rows'])} of the reference."
    yield element("p", text, class_="note")
