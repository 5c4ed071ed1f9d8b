"""`driftgate monitor performance`: how good a model's versions were, by their labels."""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import urlencode

from driftgate.cli import common_options
from driftgate.commands.tables import table
from driftgate.errors import Exit
from driftgate.monitor_client import add_url_option, show_model

SPANS = {
    "window": "in the last window",
    "rollout": "since the rollout began",
    "since": "since it began to answer",
}


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "performance",
        help="accuracy, F1, AUC, log loss, or errors of numbers, by the labels that came",
        description="Says of each version of a model how good it was on its labelled rows, each "
        "number with its interval, and how late labels come and of how many rows; and how good it "
        "is estimated to be on the rows that have no labels yet. These numbers "
        "inform; what pages is evidence on the loss. Exit codes: 0 shown, 1 no such model, "
        "4 no monitor answers.",
        parents=[common_options()],
    )
    parser.add_argument("model")
    parser.add_argument("--by", metavar="SLICE", help="by the parts of this configured slice")
    parser.add_argument("--classes", action="store_true", help="precision, recall, F1 of each")
    add_url_option(parser)
    parser.set_defaults(run=run_performance)


def run_performance(args: argparse.Namespace) -> int:
    query = "" if args.by is None else "?" + urlencode({"by": args.by})
    show_model(args, f"performance{query}", partial(performance_lines, classes=args.classes))
    return Exit.OK


def performance_lines(document: dict[str, Any], *, classes: bool) -> list[str]:
    if not document["versions"]:
        return [f"no label of a row of {document['model']} has arrived, so nobody knows"]
    lines: list[str] = []
    for version in document["versions"]:
        role = f" ({version['role']})" if version["role"] else ""
        lines += ["", f"version {version['version']}{role}"]
        for name, span in version["spans"].items():
            lines += ["", f"{SPANS[name]}: {_labels(span)}"]
            if span["measures"]:
                lines += _measures(span["measures"], document["level"])
            if classes and span["classes"]:
                lines += ["", *_classes(span)]
            if name == "window":
                lines += ["", *_estimated(version["estimated"], span, document["level"])]
            if document["by"] is not None:
                lines += ["", *_parts(document["by"], name, version["parts"])]
    return lines[1:]


def _parts(by: str, span_name: str, parts: list[dict[str, Any]]) -> list[str]:
    """A row for each part of the slice, a column for each measure that any of them has."""
    spans = [(part["part"], part["spans"][span_name]) for part in parts]
    titles = {item["name"]: item["title"] for _, span in spans for item in span["measures"]}
    rows = [(by, "rows", "labels", "coverage", "delay", *titles.values())]
    for part, span in spans:
        found = {item["name"]: item for item in span["measures"]}
        coverage, delay_s = span["coverage"], span["delay_s"]["median"]
        rows.append(
            (
                part,
                str(span["rows"]),
                str(span["labels"]),
                "-" if coverage is None else f"{coverage:.1%}",
                "-" if delay_s is None else f"{delay_s:.3g} s",
                *(_with_interval(found.get(name)) for name in titles),
            )
        )
    return table(rows, left=(0,))


def _with_interval(item: dict[str, Any] | None) -> str:
    if item is None:
        return "-"
    interval = "" if item["low"] is None else f" ({_interval(item)})"
    return _number(item["value"]) + interval


def _labels(span: dict[str, Any]) -> str:
    text = f"{span['labels']} labels, {span['rows']} rows answered"
    if span["coverage"] is not None:
        text += f", {span['coverage']:.1%} of them labelled"
    delay = span["delay_s"]
    if delay["median"] is not None:
        text += f"; delay {delay['median']:.3g} s in the median, 95 % within {delay['p95']:.3g} s"
    return text


def _measures(measures: list[dict[str, Any]], level: float) -> list[str]:
    rows = [("measure", "value", f"{level:.0%} interval", "rows", "better")]
    rows += [
        (item["title"], _number(item["value"]), _interval(item), str(item["rows"]), item["better"])
        for item in measures
    ]
    reasons = [
        f"{item['title']} is not defined: {item['undefined']}"
        for item in measures
        if item["undefined"]
    ]
    return [*table(rows, left=(0, 4)), *reasons]


def _estimated(estimated: dict[str, Any], span: dict[str, Any], level: float) -> Iterator[str]:
    """span: the realised window, to show beside it."""
    if estimated["reason"]:
        yield f"not estimated without labels: {estimated['sentence']} ({estimated['reason']})"
        return
    yield (
        f"estimated without labels, of {estimated['rows']} rows answered, "
        f"by {estimated['labels']} labels from before:"
    )
    by_labels = {item["name"]: item["value"] for item in span["measures"]}
    rows = [("measure", "estimate", f"{level:.0%} interval", "by labels")]
    rows += [
        (
            item["title"],
            _number(item["value"]),
            _interval(item),
            _number(by_labels.get(item["name"])),
        )
        for item in estimated["measures"]
    ]
    yield from table(rows, left=(0,))


def _classes(span: dict[str, Any]) -> Iterator[str]:
    names = ("precision", "recall", "f1")
    rows = [("class", "rows", "answered", *names)]
    for item in span["classes"]:
        numbers = (_number(item[name]["value"]) for name in names)
        rows.append((item["class"], str(item["rows"]), str(item["answered"]), *numbers))
    yield from table(rows, left=(0,))
    if span["classes_left_out"]:
        yield f"and {span['classes_left_out']} classes with fewer rows"


def _interval(item: dict[str, Any]) -> str:
    known = item["low"] is not None
    return f"{_number(item['low'])} to {_number(item['high'])}" if known else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
