"""`driftgate log init`: the topics of the prediction log on Kafka."""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.config import load_config, setting_options
from driftgate.errors import CliError, Exit

if TYPE_CHECKING:
    from eventlog.kafka.admin import TopicReport

_SHOWN = ("retention.ms", "cleanup.policy", "min.insync.replicas")


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "init",
        help="make the topics on Kafka, and compare those that are there",
        description="Make the topics of [kafka] namespace that are missing. Those that are there "
        "are compared with the configuration and left as they are.",
        parents=[common_options(), setting_options()],
    )
    parser.add_argument("--json", action="store_true", help="as -o json")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    parser.add_argument(
        "--alter", action="store_true", help="also set what differs, but for partitions"
    )
    parser.set_defaults(run=run_init)


def run_init(args: argparse.Namespace) -> int:
    from eventlog import LogError
    from eventlog.kafka.admin import init_topics

    config = load_config(args)
    if not config.log.kafka:
        raise CliError(
            "log.kafka is not set",
            hint='name the brokers: [log] kafka = "host:9092", or --log-kafka host:9092',
            code=Exit.USAGE,
        )
    try:
        reports = asyncio.run(
            init_topics(config.log.kafka, config.kafka, alter=args.alter, dry_run=args.dry_run)
        )
    except LogError as error:
        raise CliError("the topics could not be made", str(error)) from error
    if args.json or args.output == "json":
        print(json.dumps({"dry_run": args.dry_run, "topics": _documents(reports)}, indent=2))
    else:
        print("\n".join(line for report in reports for line in _lines(report)))
        if args.dry_run:
            print("nothing was changed (--dry-run)")
    return Exit.OK


def _documents(reports: "Sequence[TopicReport]") -> list[Mapping[str, Any]]:
    return [
        {
            "topic": report.name,
            "did": report.did.value,
            "partitions": report.plan.partitions,
            "configs": dict(report.plan.configs),
            "differences": [
                {"setting": item.setting, "found": item.found, "wanted": item.wanted}
                for item in report.differences
            ],
        }
        for report in reports
    ]


def _lines(report: "TopicReport") -> list[str]:
    plan = report.plan
    count = f"{plan.partitions} partition{'s' * (plan.partitions != 1)}"
    shown = [f"{key}={plan.configs[key]}" for key in _SHOWN if key in plan.configs]
    lines = [f"{report.did.value:<8} {report.name}  {', '.join((count, *shown))}"]
    for item in report.differences:
        hint = "" if item.is_alterable else "; it cannot be changed in place"
        lines.append(f"           {item}{hint}")
    return lines
