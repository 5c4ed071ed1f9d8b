"""`driftgate monitor status`: what stands of each model, and what the promise is worth."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from driftgate.cli import common_options
from driftgate.errors import CliError, Exit
from driftgate.monitor_client import add_url_option, ask, base_url

DAY_S = 86_400
SHOWN_FEATURES = 3


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "status",
        help="verdicts, evidence against the budget, and whether the promise holds",
        description="Says of each model which verdict stands, how much evidence there is, how "
        "the false-alarm budget is split, and whether traffic allows its promise. Exit codes: "
        "0 shown, 1 no such model, 4 no monitor answers.",
        parents=[common_options()],
    )
    parser.add_argument("model", nargs="?")
    add_url_option(parser)
    parser.set_defaults(run=run_status)


def run_status(args: argparse.Namespace) -> int:
    state = ask(base_url(args) + "/v1/state")
    models = state["models"]
    if args.model is not None:
        if args.model not in models:
            known = ", ".join(sorted(models)) or "none yet"
            raise CliError(f"the monitor watches no model {args.model}", f"watched: {known}")
        models = {args.model: models[args.model]}
    if args.output == "json":
        print(json.dumps(models))
    else:
        print("\n".join(line for name in sorted(models) for line in model_lines(models[name])))
    return Exit.OK


def model_lines(document: dict[str, Any]) -> list[str]:
    budget, promise = document["budget"], document["promise"]
    share = document["evidence_s"] / document["threshold_s"]
    lines = [
        f"{document['model']}: {document['verdict']} ({document['reason'] or 'nothing said yet'})",
        f"  evidence  {document['evidence_s']:.0f} s, {share:.2%} of what pages",
        f"  budget    pages {budget['page']}, warnings {budget['warn']}",
    ]
    for name, group in budget["groups"].items():
        found = document["groups_s"].get(name)
        held = "not watched now" if found is None else f"{found:.0f} s of {group['alone_s']:.0f} s"
        if name == "estimated" and found is not None:
            held = _estimated(document["estimated_loss"], held)
        lines.append(f"    {name:<12}{group['weight']:>5.0%}  {held}")
    if document["stable"] is not None:
        lines.append(f"  reference {_reference(document['stable']['reference'])}")
    if promise is not None:
        covered = "covered" if promise["covered"] else f"not covered: {promise['reason']}"
        lines.append(f"  promise   {covered}; blocks of {promise['block_s']:g} s")
    return lines


def _estimated(estimated: dict[str, Any] | None, held: str) -> str:
    if estimated is None:
        return "not watched: the loss has no bound"
    return f"withheld: {estimated['sentence']}" if estimated["reason"] else held


def _reference(reference: dict[str, Any]) -> str:
    warming = reference["warming_up"]
    if warming is not None:
        left_out = ", ".join(warming["left_out"])
        return f"{warming['reason']}{f'; too wide to watch: {left_out}' if left_out else ''}"
    if reference["from"] is None:
        return "none"
    rows, rolling = f"{reference['rows']:,} rows", reference["rolling"]
    if rolling is not None:
        return f"{_rolling(rolling)}, {rows}{_training(reference['training'])}"
    whose = "the version's first traffic" if reference["from"] == "warm-up" else "pushed"
    return f"{whose}, {rows}{_season(reference['season'])}"


def _rolling(rolling: dict[str, Any]) -> str:
    span, age = rolling["span_s"] / DAY_S, rolling["age_s"] / DAY_S
    said = f"rolling, its own traffic of {span:.1f} d that ended {age:.1f} d ago"
    if rolling["frozen"]:
        return f"{said} (frozen while the verdict stands)"
    at = datetime.fromtimestamp(rolling["next_ns"] / 1e9, UTC)
    return f"{said} (next {at:%Y-%m-%d %H:%M} UTC)"


def _training(training: dict[str, Any] | None) -> str:
    """The features that are farthest from the reference that was pushed."""
    if training is None:
        return ""
    most = [item for item in training["features"] if item["ks"] is not None][:SHOWN_FEATURES]
    named = ", ".join(f"{item['name']} KS {item['ks']:.2f}" for item in most)
    return f"; from the pushed one: {named}" if named else ""


def _season(season: dict[str, Any] | None) -> str:
    if season is None:
        return ""
    least, most = season["tolerance_least"], season["tolerance_most"]
    return (
        f"; by hour of the week: {season['hours']} of 168 hours, "
        f"{season['rows_least']:,} to {season['rows_most']:,} rows, "
        f"tolerance {least:.3f} to {most:.3f}"
    )
