"""`driftgate audit`: who changed what, why, and what came of it.

Exit codes: 0, 1 if --verify finds the chain broken, 4 no gateway answers.
"""

import argparse
import json
import time
from datetime import UTC, datetime
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.times import seconds
from driftgate.errors import CliError, Exit

PAGE = 1000


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "audit",
        help="the hash-chained log of every command and effect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options()],
    )
    parser.add_argument("model", nargs="?", default="")
    parser.add_argument("--since", type=seconds, metavar="24h", help="only what is younger")
    parser.add_argument(
        "--verify", action="store_true", help="check the chain; needs no running gateway"
    )
    parser.set_defaults(run=run_audit)


def run_audit(args: argparse.Namespace) -> int:
    from driftgate.config import load_config

    config = load_config(args)
    if args.verify:
        return _verify(args, config)
    since_ns = 0 if args.since is None else time.time_ns() - int(args.since * 1e9)
    found = [item for item in _entries(config, args.model) if int(item["ts_ns"]) >= since_ns]
    if args.output == "json":
        print(json.dumps(found))
    else:
        for item in found:
            print(_line(item))
    return Exit.OK


def _entries(config: Any, model: str) -> list[dict[str, Any]]:
    from driftgate.admin import admin

    found: list[dict[str, Any]] = []
    with admin(config) as client:
        after = 0
        while page := client.audit(model, after, PAGE):
            found += page
            after = page[-1]["sequence"]
    return found


def _verify(args: argparse.Namespace, config: Any) -> int:
    """Of the files themselves: a gateway is not asked about its own honesty."""
    from serving.store.audit import verify_audit

    try:
        count, problems = verify_audit(config.state_dir)
    except OSError as error:
        raise CliError("the audit log cannot be read", str(error)) from error
    if args.output == "json":
        print(json.dumps({"ok": not problems, "entries": count, "problems": problems}))
    else:
        for problem in problems:
            print(f"! {problem}")
        print(f"{count} entries, {'the chain is broken' if problems else 'the chain is whole'}")
    return Exit.FAILED if problems else Exit.OK


def _line(entry: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(int(entry["ts_ns"]) / 1e9, UTC)
    return (
        f"{entry['sequence']:>6}  {when:%Y-%m-%d %H:%M:%S}Z  {entry['kind']:12}  "
        f"{entry['model'] or '-':16}  {_what(entry)}"
    )


def _what(entry: dict[str, Any]) -> str:
    body = entry["body"]
    command = body.get("command")
    if command is None:
        return _effect(entry["kind"], body)
    who = f"{command.get('actor', '?')} ({command.get('origin', '?')})"
    what = _verb(command["verb"])
    if entry["kind"] == "refused":
        return f"{who} {what}: {body['sentence']}"
    reason = f": {command['reason']}" if command.get("reason") else ""
    return f"{who} {what}{reason}; generation {body['generation']}"


def _verb(name: str) -> str:
    """As an operator types it."""
    return name.lower().replace("_", "-")


def _effect(kind: str, body: dict[str, Any]) -> str:
    """What came of a command, or what happened to the log itself."""
    if kind == "live":
        return (
            f"generation {body['generation']} ({_verb(body['verb'])}) live on {body['workers']} "
            f"worker{'s' * (body['workers'] != 1)} after {body['after_ms']:.1f} ms"
        )
    return "; ".join(
        f"{key.replace('_', ' ')}: {value}"
        for key, value in body.items()
        if value not in ("", None)
    )
