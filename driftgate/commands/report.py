"""`driftgate report`: a page about a model, in one file that opens anywhere."""

import argparse
import sys
from pathlib import Path
from urllib.parse import quote

from driftgate.cli import common_options
from driftgate.commands.times import seconds
from driftgate.errors import CliError, Exit
from driftgate.monitor_client import add_url_option, base_url, fetch

WINDOW_S = 86_400.0
TIMEOUT_S = 120.0  # other reports may be made before this one


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "report",
        help="a page about a model: verdict, evidence, loss, distributions",
        description="Asks the monitor for a report and writes it as one HTML file, which loads "
        "nothing and runs no script. Exit codes: 0 written, 1 no such model or no place to write, "
        "4 no monitor answers.",
        parents=[common_options()],
        conflict_handler="resolve",  # here --output is the file
    )
    parser.add_argument("model")
    parser.add_argument(
        "--window", type=seconds, default=WINDOW_S, metavar="24h", help="how far back it looks"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="default: report-MODEL.html; - is standard output"
    )
    add_url_option(parser)
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    window_s = round(args.window)
    if window_s < 1:
        raise CliError("--window must be a second or more", code=Exit.USAGE)
    base = base_url(args)
    path = f"/v1/models/{quote(args.model, safe='')}/report?window_s={window_s}"
    page = fetch(base + path, TIMEOUT_S)
    if args.output == "-":
        sys.stdout.buffer.write(page)
        return Exit.OK
    file = Path(args.output or f"report-{args.model}.html")
    try:
        file.write_bytes(page)
    except OSError as error:
        raise CliError(f"{file} cannot be written", error.strerror or str(error)) from error
    print(file)
    return Exit.OK
