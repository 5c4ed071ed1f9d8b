"""`driftgate serve`: the gateway alone, in the foreground."""

import argparse

from driftgate.cli import common_options
from driftgate.config import gateway_options, load_config, setting_options
from driftgate.processes import become, gateway_document, require_runtime


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "serve",
        help="the gateway alone, in the foreground",
        description="Run the gateway. It ends on SIGTERM after a drain and replaces "
        "itself and its workers on SIGHUP without closing its listeners. Exit codes: 0 told to "
        "stop, 2 bad configuration, 5 a port or the state directory cannot be had.",
        parents=[common_options(), setting_options(), gateway_options()],
    )
    parser.set_defaults(run=run_serve)


def run_serve(args: argparse.Namespace) -> int:
    config = load_config(args)
    require_runtime()
    return become("serving", gateway_document(config))
