"""`driftgate monitor outliers`: which predictions came from inputs unlike the reference's."""

import argparse
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.tables import table
from driftgate.errors import Exit
from driftgate.monitor_client import add_url_option, show_model

HEAD = ("prediction", "score", "times", "because of")


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "outliers",
        help="the predictions whose inputs are least like the reference's",
        description="Shows what share of rows is unlike the reference's, and the strongest of "
        "them by prediction id, with the features that make them so. Exit codes: 0 shown, "
        "1 no such model, 4 no monitor answers.",
        parents=[common_options()],
    )
    parser.add_argument("model")
    add_url_option(parser)
    parser.set_defaults(run=run_outliers)


def run_outliers(args: argparse.Namespace) -> int:
    show_model(args, "outliers", _lines)
    return Exit.OK


def _lines(document: dict[str, Any]) -> list[str]:
    if document["off"]:
        return [f"rows of {document['model']} are not looked at: {document['off']}"]
    lines = [f"version {document['version']}: {_share(document)}"]
    if not document["strongest"]:
        return lines
    return [*lines, "", *table([HEAD, *map(_row, document["strongest"])], left=(0, 3))]


def _share(document: dict[str, Any]) -> str:
    if document["share"] is None:
        return "no row of the live window was looked at"
    reference = document["reference"]
    return (
        f"{document['share']:.2%} of {document['looked_at']} rows looked at "
        f"(of {document['of_rows']}) are outliers, {reference['share']:.2%} of the reference's; "
        f"evidence from {document['bound']:.2%} on"
    )


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    from monitor.report.words import because

    features = ", ".join(because(feature) for feature in item["features"])
    name = item["prediction_id"] or "not known"
    return (name, f"{item['score']:.1f}", str(item["times"]), features)
