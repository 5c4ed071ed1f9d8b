"""The section about rows that are unlike the reference's."""

from collections.abc import Mapping
from typing import Any

from monitor.report.content import Content
from monitor.report.markup import Html, element, join
from monitor.report.tables import table
from monitor.report.words import because, count, share

ROWS_MAX = 10  # of the strongest
HEAD = ("prediction", "because of", "score", "times")


def outliers_section(content: Content) -> Html:
    """How many rows of the live window, and the strongest of the last hours."""
    found = content.outliers
    if found is None or found["off"]:
        reason = "only a running monitor looks for them" if found is None else found["off"]
        return element("p", f"Rows are not held against the reference: {reason}.", class_="empty")
    parts = [element("p", _counts(found))]
    rows = [_row(item) for item in found["strongest"][:ROWS_MAX]]
    if rows:
        parts.append(table("The strongest of the last hour or two", HEAD, rows, left=2))
    return join(parts)


def _counts(found: Mapping[str, Any]) -> str:
    if found["share"] is None:
        return "No row of the live window was looked at."
    reference = found["reference"]
    return (
        f"{count(found['outliers'])} of {count(found['looked_at'])} rows that were looked at "
        f"({share(found['share'])}; of {count(found['of_rows'])} in the live window) are more "
        f"unlike the reference than {share(1 - reference['share'])} of its own rows."
    )


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    features = "; ".join(because(feature) for feature in item["features"])
    name = item["prediction_id"] or "not known"
    return (name, features, f"{item['score']:.1f}", count(item["times"]))
