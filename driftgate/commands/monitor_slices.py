"""`driftgate monitor slices`: where a model's answers moved most."""

import argparse
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.tables import table
from driftgate.errors import Exit
from driftgate.monitor_client import add_url_option, show_model

HEAD = ("where", "live rows", "effect", "by chance", "answer", "before", "now", "moved")


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "slices",
        help="the segments, by one or two features' values, whose answers moved most",
        description="Holds what rows of each segment are answered now against what the "
        "reference's rows of it were answered, and shows the segments that moved most. Looking "
        "at many is allowed for. It informs and never pages. Exit codes: 0 shown, 1 no such "
        "model, 4 no monitor answers.",
        parents=[common_options()],
    )
    parser.add_argument("model")
    add_url_option(parser)
    parser.set_defaults(run=run_slices)


def run_slices(args: argparse.Namespace) -> int:
    show_model(args, "slices", _lines)
    return Exit.OK


def _lines(document: dict[str, Any]) -> list[str]:
    if document["off"]:
        return [f"segments of {document['model']} are not compared: {document['off']}"]
    if not document["segments"]:
        return [f"no segment has {document['rows_min']} rows on both sides yet"]
    named = sum(item["named"] for item in document["segments"])
    first = (
        f"version {document['version']}: {document['looked_at']} segments looked at, "
        f"{named or 'none'} of those shown moved for sure"
    )
    return [first, "", *table([HEAD, *map(_row, document["segments"])], left=(0, 4, 7))]


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    where = ", ".join(f"{part['name']}: {part['values']}" for part in item["features"])
    most = item["most"]
    return (
        where,
        str(item["live_rows"]),
        f"{item['effect']:.3f}",
        f"{item['by_chance']:.3f}",
        most["answer"],
        f"{most['reference']:.1%}",
        f"{most['live']:.1%}",
        "yes" if item["named"] else "",
    )
