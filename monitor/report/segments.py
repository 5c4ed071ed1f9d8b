"""The section about segments whose answers moved most."""

from collections.abc import Mapping
from typing import Any

from monitor.report.content import Content
from monitor.report.markup import Html, element, join
from monitor.report.tables import table
from monitor.report.words import count, effect, share

HEAD = ("where", "live rows", "effect", "by chance", "answer that moved most", "before", "now", "")


def segments_section(content: Content) -> Html:
    """Of the live window, like the features."""
    found = content.segments
    if found is None or found["off"]:
        reason = "Only a running monitor compares them." if found is None else found["off"]
        return element("p", f"Segments are not compared: {reason}", class_="empty")
    if not found["segments"]:
        text = f"No segment has {found['rows_min']} rows on both sides yet."
        return element("p", text, class_="empty")
    note = (
        f"{found['looked_at']} segments, of one feature's values and of two features', were "
        "looked at: how far the answers that rows of a segment get are from those that the "
        "reference's rows of it got (total variation distance, a share of rows). Of those that "
        f"moved surely, at most {found['false_named_share_max']:.0%} are wrong on average, for one "
        "look and rows that are independent."
    )
    rows = [_row(item) for item in found["segments"]]
    return join([table("Segments", HEAD, rows, left=1), element("p", note, class_="note")])


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    where = ", ".join(f"{part['name']}: {part['values']}" for part in item["features"])
    most = item["most"]
    return (
        where,
        count(item["live_rows"]),
        effect(item["effect"]),
        effect(item["by_chance"]),
        most["answer"],
        share(most["reference"]),
        share(most["live"]),
        "moved" if item["named"] else "",
    )
