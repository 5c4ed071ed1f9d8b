"""The part about realised performance: what the labels say of each version."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitor.report.markup import Html, element, join
from monitor.report.tables import table
from monitor.report.words import NONE, amount, count, duration, number, share

Document = Mapping[str, Any]


def measures_part(versions: Sequence[Document]) -> Html:
    """A table per version that has labels, over all of its time; nothing without any."""
    return join([part for version in versions for part in _version(version)])


def _version(version: Document) -> Iterator[Html]:
    span: Document = version["spans"]["since"]
    role = f" ({version['role']})" if version["role"] else ""
    rows = [_row(item) for item in span["measures"]]
    if not rows:
        return
    head = ("measure", "value", "95 % interval", "labelled rows", "better")
    yield table(f"Version {version['version']}{role}, by its labels", head, rows)
    yield element("p", said_of(span), class_="note")
    for item in span["measures"]:
        if item["undefined"]:
            said = f"{item['title']} is not defined: {item['undefined']}."
            yield element("p", said, class_="note")


def said_of(span: Document) -> str:
    """How many labels there are, how late they come, and of how many of the rows."""
    delay = span["delay_s"]
    text = f"{amount(span['labels'], 'label')}"
    if span["coverage"] is not None:
        text += f", of {share(span['coverage'])} of the rows answered in this time"
    if delay["median"] is not None:
        text += (
            f"; they come {duration(delay['median'])} after the answer in the median, "
            f"95 % of them within {duration(delay['p95'])}"
        )
    return f"{text}."


def _row(item: Document) -> tuple[str, ...]:
    known = item["low"] is not None
    interval = f"{number(item['low'])} to {number(item['high'])}" if known else NONE
    return item["title"], number(item["value"]), interval, count(item["rows"]), item["better"]
