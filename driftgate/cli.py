"""The frame of the command line: the parser, the options every verb has, errors.

A command module defines `register(subparsers)` and imports what is heavy inside
its functions, so that `driftgate --help` stays quick.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from driftgate import __version__
from driftgate.errors import CliError, Exit

# In the order of `driftgate --help`: first what a newcomer types.
COMMANDS = (
    *("demo", "up", "serve", "ship", "monitor"),
    *("model", "status", "explain", "report", "rollout", "audit"),
    *("label", "log", "doctor", "config", "bench"),
)

EPILOG = """\
examples:
  driftgate demo                          the whole story on real data, in two minutes
  driftgate up                            gateway and monitor, left running
  driftgate model push fraud fraud.onnx --alias champion
  driftgate rollback fraud --reason "complaints"

Every key of driftgate.toml is also a flag of up, serve, ship, monitor and config
(--gateway-http-port 9000) and a variable (DRIFTGATE_GATEWAY__HTTP_PORT=9000);
`driftgate config show` lists them.
exit codes: 0 ok, 1 refused or failed, 2 usage, 3 timeout, 4 no gateway answers,
            5 cannot start (a port or the state directory is taken),
            6 nothing wrong, but not all could be checked
"""


def common_options() -> argparse.ArgumentParser:
    """The options that stand on every leaf: where state lives, and how to print."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--state-dir", type=Path, help="where everything durable lives")
    parent.add_argument("--config", type=Path, help="default: driftgate.toml, if there is one")
    parent.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="how to print"
    )
    return parent


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="driftgate",
        description="Serve ONNX fast, watch it drift, roll it back.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"driftgate {__version__}")
    subparsers = parser.add_subparsers(metavar="command", required=True)
    for name in COMMANDS:
        importlib.import_module(f"driftgate.commands.{name}").register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        try:
            args = build_parser().parse_args(argv)
            return int(args.run(args))
        finally:
            sys.stdout.flush()  # here, where a reader that has left can be told from a fault
    except CliError as error:
        print(error, file=sys.stderr)
        return int(error.code)
    except BrokenPipeError:  # `driftgate log tail | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return 130
