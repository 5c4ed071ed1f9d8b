"""`driftgate monitor fairness`: whether protected groups get the advantage as often."""

import argparse
from collections.abc import Iterator
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.tables import table
from driftgate.errors import Exit
from driftgate.monitor_client import add_url_option, show_model

CRITERIA = {
    "parity": "parity: the share of rows that got the positive answer",
    "opportunity": "equal opportunity: of truly positive rows, the share that was answered so",
}
HEAD = ("", "rows", "share", "behind the highest", "ratio to it", "")


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "fairness",
        help="positive answers by protected group: parity, equal opportunity, disparate impact",
        description="Holds each group of a protected slice against the one with the highest "
        "share of positive answers, with intervals that hold at all times at once. Where they "
        "span a limit, it cannot be said yet. It informs and never pages. Exit codes: 0 shown, "
        "1 no such model, 4 no monitor answers.",
        parents=[common_options()],
    )
    parser.add_argument("model")
    add_url_option(parser)
    parser.set_defaults(run=run_fairness)


def run_fairness(args: argparse.Namespace) -> int:
    show_model(args, "fairness", _lines)
    return Exit.OK


def _lines(document: dict[str, Any]) -> list[str]:
    if not document["versions"]:
        return [f"no slice of {document['model']} is protected; see [models.NAME.slices]"]
    lines: list[str] = []
    for version in document["versions"]:
        role = f" ({version['role']})" if version["role"] else ""
        for item in version["slices"]:
            limits = f"at most {item['difference_max']:g} behind, ratio {item['ratio_min']:g}"
            lines += ["", f"version {version['version']}{role}, {item['slice']}: {limits} or more"]
            for name, title in CRITERIA.items():
                lines += ["", f"{title}, {version['level']:.0%} at all times", *_table(item, name)]
    return lines[1:]


def _table(item: dict[str, Any], criterion: str) -> Iterator[str]:
    groups = item["criteria"][criterion]
    if not groups:
        yield "no rows yet"
        return
    rows = [HEAD]
    for group in groups:
        numbers = (_bounded(group[name]) for name in ("share", "difference", "ratio"))
        rows.append((group["part"], str(group["rows"]), *numbers, group["standing"]))
    yield from table(rows, left=(0, 5))


def _bounded(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "-"
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"
