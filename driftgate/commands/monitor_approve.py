"""`driftgate monitor approve` and `deny`: an operator's word on what waits for it."""

import argparse
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.config import Config, load_config
from driftgate.errors import CliError, Exit

if TYPE_CHECKING:
    from monitor.action_store import ActionRow


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for name, what in (("approve", "let it be done"), ("deny", "leave it undone")):
        parser = verbs.add_parser(
            name,
            help=f"an action of monitor.approve that waits: {what}",
            description="With monitor.approve set, the monitor asks before it acts. Without an ID "
            "this lists what waits. The answer is given on the machine of the monitor that asks, "
            "which heeds it within a second and writes it into the audit log. Exit codes: 0 "
            "answered, or listed; 1 nothing of that ID waits.",
            parents=[common_options()],
        )
        parser.add_argument("id", nargs="?", metavar="ID", help="of the action, as it is listed")
        parser.add_argument("--reason", default="", help="kept in the audit log")
        parser.set_defaults(run=run_answer, answer=name)


def run_answer(args: argparse.Namespace) -> int:
    import getpass

    from monitor.action_store import answer_waiting

    config = load_config(args)
    waiting = list(_waiting(config))
    if args.id is None:
        _list([row for _, row in waiting], as_json=args.output == "json")
        return Exit.OK
    answer: dict[str, Any] = {
        "answer": args.answer,
        "answered_by": getpass.getuser(),
        "answered_ns": time.time_ns(),
        "why": args.reason,
    }
    paths = [path for path, row in waiting if row.key == args.id]
    if not any(answer_waiting(path, args.id, answer) for path in paths):
        raise CliError(
            f"nothing waits for approval as {args.id!r}",
            "it was answered, has expired, or is asked for by a monitor elsewhere",
            "`driftgate monitor approve` lists what waits",
        )
    done = {"id": args.id, **answer}
    word = {"approve": "approved", "deny": "denied"}[args.answer]
    print(json.dumps(done) if args.output == "json" else f"{word}: {args.id}")
    return Exit.OK


def _waiting(config: Config) -> Iterator[tuple[Path, "ActionRow"]]:
    import sqlite3

    from monitor.action_store import ACTIONS_FILE, read_waiting

    home = config.state_dir / "monitor"
    for path in (home / ACTIONS_FILE, *sorted(home.glob(f"partitions/*/{ACTIONS_FILE}"))):
        if not path.is_file():
            continue
        try:
            yield from ((path, row) for row in read_waiting(path))
        except sqlite3.Error as error:
            raise CliError(f"{path} cannot be read", str(error)) from error


def _list(rows: "list[ActionRow]", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_document(row) for row in rows]))
        return
    for row in rows:
        until = datetime.fromtimestamp(row.data["waits_until_ns"] / 1e9, UTC)
        print(f"{row.model}: {row.action.value}, until {until:%Y-%m-%d %H:%M:%S}Z\n  {row.key}")
    if not rows:
        print("nothing waits for approval")


def _document(row: "ActionRow") -> dict[str, Any]:
    return {
        "id": row.key,
        "model": row.model,
        "action": row.action.value,
        "asked_ns": row.at_ns,
        "waits_until_ns": row.data["waits_until_ns"],
        "verdict": row.verdict,
    }
