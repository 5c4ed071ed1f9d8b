"""`driftgate status`: is the gateway well, and what serves.

Exit codes: 0 healthy, 1 degraded or no such model, 3 not healthy within --timeout,
4 no gateway answers.
"""

import argparse
import json
import time
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.times import seconds
from driftgate.errors import CliError, Exit

POLL_S = 0.5


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "status",
        help="workers, versions and weights; exit code 0 if healthy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
    )
    parser.add_argument("model", nargs="?")
    parser.add_argument(
        "-w", "--watch", action="store_true", help="print again whenever something changes"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="60s",
        help="wait this long for it to be healthy",
    )
    parser.set_defaults(run=run_status)


def run_status(args: argparse.Namespace) -> int:
    from driftgate.admin import admin
    from driftgate.config import load_config

    deadline = None if args.timeout is None else time.monotonic() + args.timeout
    config = load_config(args)
    shown = ""
    while True:
        unreachable: CliError | None = None
        status: dict[str, Any] = {}
        try:
            with admin(config) as client:
                status = client.status()
        except CliError as error:
            if deadline is None or error.code != Exit.UNREACHABLE:
                raise
            unreachable = error
        healthy = not unreachable and not _troubles(status, args.model)
        late = deadline is not None and time.monotonic() >= deadline
        last = healthy or late if deadline is not None else not args.watch
        if unreachable and late:
            raise unreachable
        if last and not unreachable and args.model and args.model not in status["models"]:
            raise _unknown(args.model, status, late=late)
        if not unreachable and (last or args.watch):
            shown = _show(status, args, shown)
        if last:
            return Exit.OK if healthy else Exit.TIMEOUT if late else Exit.FAILED
        time.sleep(POLL_S)


def _unknown(model: str, status: dict[str, Any], *, late: bool) -> CliError:
    known = ", ".join(sorted(status["models"])) or "nothing yet"
    return CliError(
        f"there is no deployment of {model}",
        f"this gateway serves {known}",
        "`driftgate model list` shows the registry; the alias champion says what is to serve",
        Exit.TIMEOUT if late else Exit.FAILED,
    )


def _troubles(status: dict[str, Any], model: str | None) -> list[str]:
    """What is wrong, one sentence each; of one model, if one is asked for."""
    if model is None:
        found = [] if status["ready"] else ["the gateway is not ready"]
        return found + list(status["degraded"])
    if model not in status["models"]:
        return [f"there is no deployment of {model}"]
    return [line for line in status["degraded"] if line.startswith(f"{model}: ")]


def _show(status: dict[str, Any], args: argparse.Namespace, shown: str) -> str:
    text = json.dumps(_of(status, args.model)) if args.output == "json" else _table(status, args)
    if text != shown:
        print(text, flush=True)
    return text


def _of(status: dict[str, Any], model: str | None) -> dict[str, Any]:
    if model is None:
        return status
    return {
        **status,
        "models": {name: item for name, item in status["models"].items() if name == model},
    }


def _table(status: dict[str, Any], args: argparse.Namespace) -> str:
    from driftgate.admin import describe

    troubles = _troubles(status, args.model)
    workers = status["workers"]
    ready = sum(worker["state"] == "ready" for worker in workers)
    lines = [
        f"{'degraded' if troubles else 'healthy'}: {ready} of {len(workers)} workers ready, "
        f"registry {'up' if status['registry']['up'] else 'down'}"
    ]
    lines += [f"  ! {line}" for line in troubles]
    for item in _of(status, args.model)["models"].values():
        deployment = item["deployment"]
        lines += describe(deployment)
        for version, loaded in sorted(item["loaded"].items()):
            lines.append(f"  version {version}: {loaded['state']} on {loaded['workers']} workers")
        left_s = int(deployment["hold_until_ns"]) / 1e9 - time.time()
        if left_s > 0:
            lines.append(f"  held by an operator for another {left_s / 60:.0f} min")
    return "\n".join(lines)
