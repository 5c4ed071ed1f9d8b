"""The parts about slices: performance by part, and fairness between protected ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monitor.core.performance.fairness import Criterion
from monitor.performance_documents import HEADLINE_MEASURES
from monitor.report.markup import Html, element, join
from monitor.report.tables import table
from monitor.report.words import NONE, count, number, share

Document = Mapping[str, Any]

FAIRNESS_NOTE = (
    "Each part is held against the one with the highest share of positive answers. The intervals "
    "hold for all parts and at all times at once, with 95 %; they take rows as independent, and "
    "shares as lasting. Where they span a limit, it cannot be said yet."
)


def slices_part(versions: Sequence[Document]) -> Html:
    """A table per version with labels and slice, over all of the version's time."""
    return join(
        [
            _slice(version, name, parts)
            for version in versions
            for name, parts in version["slices"].items()
        ]
    )


def _slice(version: Document, name: str, parts: Sequence[Document]) -> Html:
    spans = [(part["part"], part["spans"]["since"]) for part in parts]
    titles = {
        item["name"]: item["title"]
        for _, span in spans
        for item in span["measures"]
        if item["name"] in HEADLINE_MEASURES
    }
    rows = []
    for part, span in spans:
        found = {item["name"]: item for item in span["measures"]}
        measures = (_with_interval(found.get(measure)) for measure in titles)
        covered = share(span["coverage"])
        rows.append((part, count(span["rows"]), count(span["labels"]), covered, *measures))
    head = (name, "rows", "labels", "coverage", *titles.values())
    return table(f"Version {version['version']}, by {name}", head, rows)


def fairness_part(versions: Sequence[Document]) -> Html:
    """Nothing where no slice is protected."""
    tables = [found for version in versions for found in _fairness(version)]
    note = [element("p", FAIRNESS_NOTE, class_="note")] if tables else []
    return join([*tables, *note])


def _fairness(version: Document) -> Iterator[Html]:
    for item in version["slices"]:
        for criterion in Criterion:
            groups = item["criteria"][criterion.name.lower()]
            if not groups:
                continue
            head = (item["slice"], "rows", "positive", "behind the highest", "ratio to it", "")
            rows = [
                (
                    group["part"],
                    count(group["rows"]),
                    *map(_with_interval, (group["share"], group["difference"], group["ratio"])),
                    group["standing"],
                )
                for group in groups
            ]
            what = f"{criterion.value.capitalize()} by {item['slice']}"
            yield table(f"{what}, version {version['version']}", head, rows)


def _with_interval(found: Document | None) -> str:
    if found is None or found["value"] is None:
        return NONE
    if found["low"] is None:
        return number(found["value"])
    return f"{number(found['value'])} ({number(found['low'])} to {number(found['high'])})"
