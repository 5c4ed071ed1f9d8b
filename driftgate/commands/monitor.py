"""`driftgate monitor`: the sidecar alone; its verbs ask it, or let it act again."""

import argparse

from driftgate.cli import common_options
from driftgate.commands import (
    monitor_approve,
    monitor_backtest,
    monitor_drift,
    monitor_fairness,
    monitor_outliers,
    monitor_performance,
    monitor_replay,
    monitor_slices,
    monitor_status,
    monitor_trigger,
)
from driftgate.config import load_config, setting_options
from driftgate.processes import become, monitor_document

APPLY_S = 30.0


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "monitor",
        help="the monitor alone, in the foreground",
        description="Run the monitor beside a gateway that runs already. It reads the gateway's "
        "log, and may be stopped or killed at any time: it goes on where it was. With log.kafka "
        "it may run on any machine, and is one of a group that shares the models.",
        parents=[common_options(), setting_options()],
    )
    parser.set_defaults(run=run_monitor)
    verbs = parser.add_subparsers(metavar="verb")
    monitor_backtest.register(verbs)
    monitor_drift.register(verbs)
    monitor_performance.register(verbs)
    monitor_fairness.register(verbs)
    monitor_slices.register(verbs)
    monitor_outliers.register(verbs)
    monitor_replay.register(verbs)
    monitor_approve.register(verbs)
    monitor_trigger.register(verbs)
    monitor_status.register(verbs)
    unfreeze = verbs.add_parser(
        "unfreeze",
        help="let automation act again after it stopped itself",
        description="Automation stops itself after too many actions within a day, or when its "
        "actions were undone. This forgives what happened so far. Exit codes: 0 done, "
        "1 refused, 4 no gateway answers.",
        parents=[common_options()],
    )
    unfreeze.add_argument("model")
    unfreeze.add_argument("--reason", default="", help="kept in the audit log")
    unfreeze.add_argument("--dry-run", action="store_true", help="say what would happen")
    unfreeze.add_argument(
        "--if-generation", type=int, metavar="N", help="refuse at any other generation"
    )
    unfreeze.set_defaults(run=run_unfreeze)


def run_monitor(args: argparse.Namespace) -> int:
    return become("monitor", monitor_document(load_config(args)))


def run_unfreeze(args: argparse.Namespace) -> int:
    from driftgate.commands.rollout import run_verb

    args.timeout = APPLY_S
    args.fields = lambda _: {"verb": "UNFREEZE"}
    return run_verb(args)
