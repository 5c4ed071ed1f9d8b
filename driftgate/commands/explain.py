"""`driftgate explain MODEL`: what the gateway's batchers do with a model, and why.

Exit codes: 0 told, 1 no such model, 4 no gateway answers.
"""

import argparse
import json

from driftgate.cli import common_options
from driftgate.errors import CliError, Exit


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "explain",
        help="what the running batcher does with a model, and why",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
    )
    parser.add_argument("model", metavar="MODEL")
    parser.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    from driftgate.admin import admin
    from driftgate.commands.explain_words import as_lines
    from driftgate.config import load_config

    with admin(load_config(args)) as client:
        document = client.batching(args.model)
        if document is None:
            known = ", ".join(sorted(client.status()["models"])) or "nothing yet"
            raise CliError(
                f"there is no deployment of {args.model}",
                f"this gateway serves {known}",
                "`driftgate status` says what serves, `driftgate model list` what could",
            )
    print(
        json.dumps(document, indent=2) if args.output == "json" else "\n".join(as_lines(document))
    )
    return Exit.OK
