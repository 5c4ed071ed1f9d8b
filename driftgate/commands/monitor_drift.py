"""`driftgate monitor drift`: how far a model's features are from their reference."""

import argparse
import json
from typing import Any
from urllib.parse import quote, urlencode

from driftgate.cli import common_options
from driftgate.commands.tables import table
from driftgate.errors import Exit
from driftgate.monitor_client import add_url_option, ask, base_url

COLUMNS = ("ks", "psi", "js", "wasserstein_scaled")


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "drift",
        help="effect sizes of a model's features; of one, with intervals and p-values",
        description="Asks the monitor how far the live window is from the reference. These "
        "numbers inform; what pages is evidence, which `driftgate status` and the verdicts show. "
        "Exit codes: 0 shown, 1 no such model or feature, 4 no monitor answers.",
        parents=[common_options()],
    )
    parser.add_argument("model")
    parser.add_argument("--feature", metavar="F", help="every statistic of this one")
    add_url_option(parser)
    parser.set_defaults(run=run_drift)


def run_drift(args: argparse.Namespace) -> int:
    query = "" if args.feature is None else "?" + urlencode({"feature": args.feature})
    path = f"/v1/models/{quote(args.model, safe='')}/drift{query}"
    document = ask(base_url(args) + path)
    if args.output == "json":
        print(json.dumps(document))
    else:
        print("\n".join(_of_model(document) if args.feature is None else _of_feature(document)))
    return Exit.OK


def _of_model(document: dict[str, Any]) -> list[str]:
    shown = [*document["features"], *document["predictions"]]
    if not shown:
        return [f"{document['model']} has no reference (yet), so there is nothing to compare with"]
    names = ("ks", "psi", "js", "wasserstein")
    rows = [("feature", "kind", "rows", *names, "distinct", "moved")]
    rows += [
        (
            item["name"],
            item["kind"],
            str(item["rows"]),
            *(_number(item["statistics"][name]) for name in COLUMNS),
            _distinct(item["distinct"]),
            "yes" if item["named"] else "",
        )
        for item in shown
    ]
    lines = table(rows, left=range(2))
    if document["features_left_out"]:
        lines.append(f"and {document['features_left_out']} features with less evidence")
    lines += _repeated(document["repeated_rows"])
    return [*lines, *(line for space in document["multivariate"] for line in _together(space))]


def _repeated(found: dict[str, Any] | None) -> list[str]:
    """Nothing where no row was looked at."""
    if found is None or found["live"] is None:
        return []
    line = f"rows that repeat one of their block: {found['live']:.2%} of {found['rows']}"
    if found["reference"] is not None:
        line += f", {found['reference']:.2%} if drawn from the reference"
    return ["", line]


def _together(space: dict[str, Any]) -> list[str]:
    """What the features of a space do as one."""
    name = f"{space['features']} features of {space['space']} together"
    if space["space"] == "features":
        name = f"{space['features']} features together"
    if space["off"]:
        return ["", f"{name}: not compared, {space['off']}"]
    rows = [("statistic", "effect", "by chance", "p")]
    rows += [
        (item["title"], *(_number(item[key]) for key in ("effect", "null_mean", "p_value")))
        for item in space["statistics"]
    ]
    said = f"{space['live_rows']} live rows against {space['reference_rows']} of the reference"
    return ["", f"{name}: {said}", *table(rows, left=range(1))]


def _of_feature(document: dict[str, Any]) -> list[str]:
    lines = [
        f"{document['name']} ({document['kind']}): {document['rows']} live rows "
        f"against {document['reference_rows']} of the reference"
    ]
    if document["distinct"]:
        lines.append(f"distinct values, reference > live: {_distinct(document['distinct'])}")
    if document["summary"]:
        sides = document["summary"]
        rows = [("", *sides["live"])]
        rows += [(side, *map(_number, sides[side].values())) for side in ("reference", "live")]
        lines += ["", *table(rows, left=range(1))]
    head = ("statistic", "effect", "by chance", f"{document['level']:.0%} interval", "p", "from")
    rows = [head, *(_row(item) for item in document["statistics"])]
    return [*lines, "", *table(rows, left=range(1))]


def _distinct(sides: dict[str, Any] | None) -> str:
    """Reference before live; a dash of what has no distinct values, or none that are known."""
    if sides is None:
        return "-"
    return " > ".join("-" if n is None else str(n) for n in (sides["reference"], sides["live"]))


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    known = item["low"] is not None
    return (
        item["title"],
        _number(item["effect"]),
        _number(item["null_mean"]),
        f"{_number(item['low'])} to {_number(item['high'])}" if known else "-",
        _number(item["p_value"]),
        item["p_value_from"] if item["p_value"] is not None else "",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
