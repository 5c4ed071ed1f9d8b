"""`driftgate monitor drift`: how far a model's features are from their reference."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from driftgate.cli import common_options
from driftgate.config import Config, load_config, reachable
from driftgate.errors import CliError, Exit

if TYPE_CHECKING:
    from urllib.error import HTTPError

TIMEOUT_S = 30.0
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
    parser.add_argument(
        "--url", metavar="URL", help="of the monitor; default: the one of this state directory"
    )
    parser.set_defaults(run=run_drift)


def run_drift(args: argparse.Namespace) -> int:
    query = "" if args.feature is None else "?" + urlencode({"feature": args.feature})
    path = f"/v1/models/{quote(args.model, safe='')}/drift{query}"
    document = _ask((args.url or _monitor_url(load_config(args))).rstrip("/") + path)
    if args.output == "json":
        print(json.dumps(document))
    else:
        print("\n".join(_of_model(document) if args.feature is None else _of_feature(document)))
    return Exit.OK


def _monitor_url(config: Config) -> str:
    """Where the monitor said that it listens, else where it would."""
    try:
        address = (config.state_dir / "monitor" / "address").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return config.monitor_url
    host, _, port = address.rpartition(":")
    return f"http://{reachable(host)}:{port}"


def _ask(url: str) -> dict[str, Any]:
    """Raises: CliError for a refusal, a silence, or what is no monitor."""
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=TIMEOUT_S) as reply:
            found: dict[str, Any] = json.load(reply)
            return found
    except HTTPError as error:
        with error:
            raise CliError("the monitor has no answer", _sentence(error)) from error
    except (OSError, ValueError) as error:
        hint = "start one with `driftgate up` or `driftgate monitor`, or name its --url"
        cause = f"{url}: {getattr(error, 'reason', error)}"
        raise CliError("no monitor answers", cause, hint, Exit.UNREACHABLE) from error


def _sentence(error: "HTTPError") -> str:
    try:
        return str(json.load(error)["error"])
    except (OSError, ValueError, LookupError, TypeError):
        return f"it says {error.code}"


def _of_model(document: dict[str, Any]) -> list[str]:
    shown = [*document["features"], *document["predictions"]]
    if not shown:
        return [f"{document['model']} has no reference, so there is nothing to compare with"]
    names = ("ks", "psi", "js", "wasserstein")
    rows = [("feature", "kind", "rows", *names, "moved")]
    rows += [
        (
            item["name"],
            item["kind"],
            str(item["rows"]),
            *(_number(item["statistics"][name]) for name in COLUMNS),
            "yes" if item["named"] else "",
        )
        for item in shown
    ]
    lines = _table(rows, left=2)
    if document["features_left_out"]:
        lines.append(f"and {document['features_left_out']} features with less evidence")
    return lines


def _of_feature(document: dict[str, Any]) -> list[str]:
    lines = [
        f"{document['name']} ({document['kind']}): {document['rows']} live rows "
        f"against {document['reference_rows']} of the reference"
    ]
    if document["summary"]:
        sides = document["summary"]
        rows = [("", *sides["live"])]
        rows += [(side, *map(_number, sides[side].values())) for side in ("reference", "live")]
        lines += ["", *_table(rows, left=1)]
    head = ("statistic", "effect", "by chance", f"{document['level']:.0%} interval", "p", "from")
    rows = [head, *(_row(item) for item in document["statistics"])]
    return [*lines, "", *_table(rows, left=1)]


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


def _table(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Columns under each other, the first `left` of them set to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
