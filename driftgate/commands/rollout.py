"""`driftgate rollout` and `driftgate rollback`: change which version serves.

Every verb prints the resulting deployment, how long the change took to be live on
all workers, and the command that undoes it. Exit codes: 0 done, 1 refused, 3
accepted but not live in time, 4 no gateway answers.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.commands.times import seconds
from driftgate.errors import CliError, Exit

if TYPE_CHECKING:
    from serving.admin_client import AdminClient

WAIT_S = 30.0  # a large model takes seconds to load; beyond this the change goes on without us
HOLD_S = 3600.0
AGAIN_S = 1.0
Fields = Callable[[argparse.Namespace], dict[str, Any]]


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "rollout",
        help="start, steer and look back on rollouts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
    )
    verbs = parser.add_subparsers(metavar="verb", required=True)
    start = _verb(verbs, "start", "begin a canary of a version", _start)
    start.add_argument("version", help="a number, or @alias")
    start.add_argument("--steps", help="weights in percent, rising to 100, as 5,25,100")
    start.add_argument("--force", action="store_true", help="although it is quarantined")
    _verb(verbs, "pause", "stay at this weight; automation waits", lambda _: {"verb": "PAUSE"})
    _verb(verbs, "resume", "go on; automation takes over again", lambda _: {"verb": "RESUME"})
    promote = _verb(verbs, "promote", "to the next step", _promote)
    promote.add_argument("--full", action="store_true", help="all the way, skipping the steps")
    weight = _verb(verbs, "set-weight", "send this share to the candidate", _set_weight)
    weight.add_argument("weight", type=int, metavar="PERCENT")
    _verb(verbs, "abort", "all traffic back to stable", lambda _: {"verb": "ABORT"})
    _verb(verbs, "undo", "reverse the last change of what serves", lambda _: {"verb": "UNDO"})
    hold = _verb(verbs, "hold", "let automation only advise for a while", _hold)
    hold.add_argument("--for", dest="hold_s", type=seconds, default=HOLD_S, metavar="60m")
    release = _verb(verbs, "release", "end a hold, or lift a version's quarantine", _release)
    release.add_argument("version", nargs="?")
    history = verbs.add_parser(
        "history", help="what served, since when, by whom", parents=[common_options()]
    )
    history.add_argument("model")
    history.set_defaults(run=run_history)
    _verb(
        subparsers,
        "rollback",
        "take the candidate away, or go back to the previous version",
        lambda _: {"verb": "ROLLBACK"},
    )


def _verb(verbs: Any, name: str, text: str, fields: Fields) -> argparse.ArgumentParser:
    leaf: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, parents=[common_options()]
    )
    leaf.add_argument("model")
    leaf.add_argument("--reason", default="", help="kept in the audit log")
    leaf.add_argument("--dry-run", action="store_true", help="say what would happen, do nothing")
    leaf.add_argument(
        "--if-generation",
        type=int,
        metavar="N",
        help="refuse unless the deployment is at this generation",
    )
    leaf.add_argument(
        "--timeout",
        type=seconds,
        default=WAIT_S,
        help="how long to wait for all workers (default 30s)",
    )
    leaf.set_defaults(run=run_verb, fields=fields)
    return leaf


def _start(args: argparse.Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "verb": "START",
        "version": {"version": args.version},
        "force": args.force,
    }
    if args.steps is not None:
        try:
            fields["steps"] = [int(step) for step in args.steps.split(",")]
        except ValueError as error:
            raise CliError(f"--steps {args.steps}: not numbers", code=Exit.USAGE) from error
    return fields


def _promote(args: argparse.Namespace) -> dict[str, Any]:
    return {"verb": "PROMOTE" if args.full else "ADVANCE"}


def _set_weight(args: argparse.Namespace) -> dict[str, Any]:
    if not 0 <= args.weight <= 100:
        raise CliError(f"a weight is 0 to 100 percent, not {args.weight}", code=Exit.USAGE)
    return {"verb": "SET_WEIGHT", "weight": args.weight}


def _hold(args: argparse.Namespace) -> dict[str, Any]:
    return {"verb": "HOLD", "hold_until_ns": time.time_ns() + int(args.hold_s * 1e9)}


def _release(args: argparse.Namespace) -> dict[str, Any]:
    version = {"version": {"version": args.version}} if args.version else {}
    return {"verb": "RELEASE", **version}


def run_verb(args: argparse.Namespace) -> int:
    import getpass
    import uuid

    from driftgate.admin import admin
    from driftgate.config import load_config

    command = {
        "id": uuid.uuid4().hex,
        "origin": "cli",
        "actor": getpass.getuser(),
        "model": args.model,
        "reason": args.reason,
        **args.fields(args),
    }
    if args.if_generation is not None:
        command["expected_generation"] = args.if_generation
    with admin(load_config(args)) as client:
        result = _apply(client, command, args)
    if args.output == "json":
        print(json.dumps(result))
    if not result["accepted"]:
        raise CliError(
            f"{args.model} is as it was",
            result["error"],
            f"`driftgate status {args.model}` and `driftgate rollout history {args.model}` show it",
        )
    if args.output != "json":
        print("\n".join(_told(result)))
    late = not args.dry_run and not int(result["applied_ns"])
    return Exit.TIMEOUT if late else Exit.OK


def _apply(client: "AdminClient", command: dict[str, Any], args: argparse.Namespace) -> Any:
    """Sent again, under the same id, while it is not known whether it was taken."""
    from serving.admin_client import AdminError, AdminUnreachableError

    deadline = time.monotonic() + args.timeout
    unknown: AdminError | None = None
    while True:
        wait_ms = min(60_000, max(0, int((deadline - time.monotonic()) * 1000)))
        try:
            return client.apply(command, dry_run=args.dry_run, wait_ms=wait_ms)
        except (AdminError, AdminUnreachableError) as error:
            if isinstance(error, AdminError) and error.unknown:
                unknown = error
            elif unknown is None or (
                not isinstance(error, AdminUnreachableError) and error.status != 503
            ):
                raise
            # Away, or its log is: that says nothing of what became of an earlier try.
            if time.monotonic() + AGAIN_S > deadline:
                raise unknown from None
        time.sleep(AGAIN_S)


def _told(result: dict[str, Any]) -> list[str]:
    from driftgate.admin import describe

    lines = describe(result["after"])
    if result["dry_run"]:
        return ["dry run: nothing was changed; it would be", *lines]
    if result["duplicate"]:
        lines.insert(0, "this command was applied before")
    if result.get("diverged"):
        lines.append(
            "diverged: Kafka is out of reach, so this gateway did it alone; "
            "the others follow when it is back"
        )
    applied_ns, accepted_ns = int(result["applied_ns"]), int(result["accepted_ns"])
    if applied_ns:
        took_ms = (applied_ns - accepted_ns) / 1e6
        lines.append(f"live on all {result['workers']} workers after {took_ms:.1f} ms")
    else:
        lines.append(f"accepted, and not yet live on all workers ({result['workers']} so far)")
    if result["undo"]:
        lines.append(f"undo with: {result['undo']}")
    return lines


def run_history(args: argparse.Namespace) -> int:
    from driftgate.admin import admin
    from driftgate.config import load_config

    with admin(load_config(args)) as client:
        deployment = client.deployment(args.model)
    if deployment is None:
        hint = "`driftgate status` lists what serves"
        raise CliError(f"there is no deployment of {args.model}", hint=hint)
    if args.output == "json":
        print(json.dumps(deployment["history"]))
        return Exit.OK
    print(f"{'GEN':>4}  {'WHEN':20}  {'VERB':10}  {'STABLE':8}  {'CANDIDATE':12}  WHO, WHY")
    for revision in reversed(deployment["history"]):
        print(_revision(revision))
    return Exit.OK


def _revision(revision: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(int(revision["ts_ns"]) / 1e9, UTC)
    stable = revision.get("stable", {}).get("version", "-")
    candidate = revision.get("candidate", {}).get("version", "")
    share = f"{candidate} {revision['weight']} %" if candidate else "-"
    return (
        f"{revision['generation']:>4}  {when:%Y-%m-%d %H:%M:%S}Z  "
        f"{revision['verb'].lower().replace('_', '-'):10}  {stable:8}  {share:12}  "
        f"{revision['actor']}: {revision['reason'] or '-'}"
    )
