"""`driftgate monitor backtest`: what the monitor would have said of rows in a file."""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.commands.times import seconds
from driftgate.config import Config, load_config
from driftgate.errors import CliError, Exit
from driftgate.progress import ProgressBar

if TYPE_CHECKING:
    from monitor.backtest import Result

BLOCK_S, WINDOW_S = 3600.0, 86_400.0
BLOCK_ROWS = 1000
REPORTS = (".html", ".json")
FEATURES_NAMED = 3


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "backtest",
        help="what it would have said of rows in a file, with no gateway",
        description="Runs the monitor's statistics and verdicts over a Parquet or CSV file, "
        "against the rows of another, and needs nothing else. Every column that is not named by "
        "an option is a feature. The settings of [monitor] count, but for the length of blocks. "
        "Exit codes: 0 done, whatever the verdicts; 1 a file cannot be used.",
        parents=[common_options()],
        conflict_handler="resolve",  # here --output may be a file too
    )
    parser.add_argument("data", type=Path, metavar="DATA", help=".parquet or .csv, sorted by time")
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="FILE", help="rows that are as they should"
    )
    parser.add_argument(
        "--predictions", metavar="COLUMN", help="what the model said: a class, or a fraction"
    )
    parser.add_argument("--labels", metavar="COLUMN", help="what was true; a null is no label yet")
    parser.add_argument(
        "--time", metavar="COLUMN", help="when; default: blocks of --block-rows rows each"
    )
    parser.add_argument(
        "--exclude", metavar="COLUMN", action="append", default=[], help="no feature; may repeat"
    )
    parser.add_argument(
        "--block", type=seconds, default=BLOCK_S, metavar="1h", help="length of a block"
    )
    parser.add_argument(
        "--block-rows", type=int, metavar="N", help=f"rows of a block without --time ({BLOCK_ROWS})"
    )
    parser.add_argument(
        "--window", type=seconds, default=WINDOW_S, metavar="24h", help="of live distributions"
    )
    parser.add_argument("--model", metavar="NAME", help="on the report; default: the file's name")
    parser.add_argument(
        "-o",
        "--output",
        default="table",
        metavar="table|json|FILE.html|FILE.json",
        help="print a table or JSON, or print the table and write a report",
    )
    parser.set_defaults(run=run_backtest)


def run_backtest(args: argparse.Namespace) -> int:
    output = _output(args.output)
    _check(args)
    config = load_config(args)
    # Before numba is imported: without a place to keep it, machine code is made each time.
    os.environ.setdefault("NUMBA_CACHE_DIR", str(_cache_dir()))
    from monitor.backtest import BacktestError

    try:
        result = _run(args, config)
    except BacktestError as error:
        raise CliError("the backtest cannot run", str(error), error.hint) from error
    if args.output == "json":
        print(json.dumps(_document(result)))
        return Exit.OK
    print("\n".join(_table(result)).replace("\u00a0", " "))  # which nobody types after grep
    if output is not None:
        _write(result, output)
        print(f"report: {output}")
    return Exit.OK


def _output(text: str) -> Path | None:
    """The file to write. Raises: CliError before anything is read for nothing."""
    if text in ("table", "json"):
        return None
    if Path(text).suffix.lower() not in REPORTS:
        hint = "name a file that ends in .html or .json, or say table or json"
        raise CliError(f"-o {text} is no output", None, hint, Exit.USAGE)
    return Path(text)


def _check(args: argparse.Namespace) -> None:
    rows = BLOCK_ROWS if args.block_rows is None else args.block_rows
    if args.block <= 0 or args.window <= 0 or rows < 1:
        sentence = "--block, --window and --block-rows must be above 0"
        raise CliError(sentence, code=Exit.USAGE)
    if args.time is not None and args.block_rows is not None:
        hint = "with --time a block is as long as --block says"
        raise CliError("--block-rows goes without --time", None, hint, Exit.USAGE)
    if args.labels is not None and args.predictions is None:
        raise CliError("--labels needs --predictions", code=Exit.USAGE)


def _cache_dir() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "driftgate" / "numba"


def _run(args: argparse.Namespace, config: Config) -> "Result":
    from monitor.backtest import Columns, backtest
    from monitor.service import core_settings

    window_blocks = max(round(args.window / args.block), 1)
    settings = replace(
        config.monitor,
        block_s=args.block,
        window_blocks=window_blocks,
        reference="pushed",  # the file's
        rolling_models=(),
        recent_change_s=0.0,  # a file begins when it begins; its version served before
    )
    with ProgressBar(f"reading {args.data.name}") as bar:
        return backtest(
            args.data,
            args.reference,
            Columns(args.labels, args.predictions, args.time, tuple(args.exclude)),
            core_settings(settings),
            model=args.model or args.data.stem,
            block_rows=args.block_rows or BLOCK_ROWS,
            continuous=settings.continuous,
            progress=bar,
        )


def _document(result: "Result") -> dict[str, Any]:
    return {
        "rows": result.rows,
        "blocks": result.blocks,
        "labelled": result.labelled,
        "raised": result.raised,
        "unwatched": list(result.unwatched),
        "state": dict(result.content.state),
        "verdicts": result.verdicts,
    }


def _table(result: "Result") -> list[str]:
    from driftgate.commands.tables import table
    from monitor.report.words import days

    content, state = result.content, result.content.state
    lines = [
        f"{result.rows:,} rows in {result.blocks:,} blocks, {result.labelled:,} with a label; "
        f"budget {days(state['threshold_s'])}"
    ]
    if result.unwatched:
        lines.append(f"not watched, since the reference lacks them: {', '.join(result.unwatched)}")
    if not result.verdicts:
        return [*lines, "no verdict was raised"]
    rows = [("time", "verdict", "evidence", "why")]
    for verdict in result.verdicts:
        when = content.clock.moment(verdict["block_end_ns"])
        why = str(verdict["reason"]) + _moved(verdict["features"])
        rows.append((when, verdict["kind"], days(verdict["evidence_s"]), why))
    lines += ["", *table(rows, left=(0, 1, 3))]
    earlier = result.raised - len(result.verdicts)
    if earlier:
        lines.append(f"and {earlier:,} earlier ones")
    return [*lines, "", f"at the end: {state['verdict']}, {state['reason']}"]


def _moved(features: list[str]) -> str:
    if not features:
        return ""
    rest = len(features) - FEATURES_NAMED
    return f" ({', '.join(features[:FEATURES_NAMED])}{f' and {rest} more' if rest > 0 else ''})"


def _write(result: "Result", path: Path) -> None:
    from monitor.report import render

    is_page = path.suffix.lower() == ".html"
    text = render(result.content) if is_page else json.dumps(_document(result), indent=2)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path} cannot be written", error.strerror or str(error)) from error
