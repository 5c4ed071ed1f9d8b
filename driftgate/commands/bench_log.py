"""`driftgate bench log` and `control`: what the log costs, how soon a rollback is everywhere."""

import argparse
import json
import shlex
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.bench_shared import require
from driftgate.errors import CliError, Exit


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    log = verbs.add_parser(
        "log",
        help="CPU that the prediction log adds, and how fast it is read (needs wrk)",
        description="Prints the CPU that the log, and a traceparent in it, add to a prediction and "
        "the rows per second of CPU that the monitor takes; with --kafka also those of the "
        "shipper; with --hurt and --heal, two commands that take a broker away and bring it back, "
        "what that does to p99.",
        parents=[common_options()],
    )
    log.add_argument("--seconds", type=int, default=4, help="of one round")
    log.add_argument("--pairs", type=int, default=10, help="of rounds, with the log and without")
    log.add_argument("--connections", type=int, default=32)
    _broker_options(log)
    log.add_argument(
        "--hurt-only", action="store_true", help="p99 alone; for many short pairs of rounds"
    )
    log.set_defaults(run=run_log)

    control = verbs.add_parser(
        "control",
        help="how soon a rollback reaches two gateways that share control on Kafka",
        description="Prints how long a rollback that is sent to one gateway takes until it and "
        "another one answer with the version before, and how long a gateway and a shipper take to "
        "end after SIGTERM; with --hurt and --heal, also while the broker is away.",
        parents=[common_options()],
    )
    control.add_argument("--rollbacks", type=int, default=50)
    _broker_options(control, required=True)
    control.set_defaults(run=run_control)


def _broker_options(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    topics = "makes topics of its own there"
    parser.add_argument("--kafka", default="", metavar="HOST:PORT", help=topics, required=required)
    parser.add_argument("--hurt", default="", metavar="COMMAND", help="as: docker pause broker")
    parser.add_argument("--heal", default="", metavar="COMMAND", help="as: docker unpause broker")


def _hurt_and_heal(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if bool(args.hurt) != bool(args.heal) or (args.hurt and not args.kafka):
        raise CliError("--hurt and --heal go together, and with --kafka", code=Exit.USAGE)
    return tuple(shlex.split(args.hurt)), tuple(shlex.split(args.heal))


def run_log(args: argparse.Namespace) -> int:
    if args.pairs < 2:
        raise CliError("--pairs must be 2 or more", code=Exit.USAGE)
    hurt, heal = _hurt_and_heal(args)
    if args.hurt_only and not hurt:
        raise CliError("--hurt-only goes with --hurt and --heal", code=Exit.USAGE)
    require(args)
    from loadtests.bench_log import Setup, measure
    from loadtests.wrk import WrkError

    setup = Setup(
        args.seconds, args.pairs, args.connections, args.kafka, hurt, heal, args.hurt_only
    )
    try:
        result = measure(setup)
    except (WrkError, TimeoutError) as error:
        raise CliError("the benchmark did not finish", str(error)) from error
    print(json.dumps(result, indent=2) if args.output == "json" else _log_text(result))
    return 0


def _log_text(result: dict[str, Any]) -> str:
    lines = [f"{result['what']}, one worker on one core"]
    if "cost" in result:
        cost = result["cost"]
        added, trace = cost["added_cpu_us"], cost["traceparent_cpu_us"]
        lines += [
            f"  the log adds     {added['mean']:8.1f} µs of CPU per prediction"
            f" ({added['low']:.1f} to {added['high']:.1f}, 95 %)",
            f"  a traceparent    {trace['mean']:8.1f} µs more"
            f" ({trace['low']:.1f} to {trace['high']:.1f}, 95 %)",
            f"  one worker       {cost['rows_per_s']:8.0f} rows/s served, log on",
        ]
    for name in ("shipper", "monitor"):
        if name in result:
            rate = result[name]["rows_per_cpu_s"]
            lines.append(f"  {name:<17}{rate:8.0f} rows per second of CPU")
    if "together_rows_per_s" in result:
        lines.append(f"  both on one core {result['together_rows_per_s']:8.0f} rows/s")
    if "hurt" in result:
        hurt, change = result["hurt"], result["hurt"]["p99_ratio"]
        mean = hurt["p99_ratio_mean"]
        lines += [
            f"  p99, broker well {hurt['p99_ms_well']:8.2f} ms at 1,000 predictions/s",
            f"  p99, broker hurt {hurt['p99_ms_hurt']:8.2f} ms, {hurt['failed']} failed",
            f"  ratio, median    {change['median']:8.2f}"
            f" ({change['low']:.2f} to {change['high']:.2f}, 95 %)",
            f"  ratio, mean      {mean['mean']:8.2f}"
            f" ({mean['low']:.2f} to {mean['high']:.2f}, 95 %)",
            f"  generator, late  {hurt['generator_late_p99_ms']:8.2f} ms"
            " (p99 of the worst round; above 1 it is void)",
        ]
    return "\n".join(lines)


def run_control(args: argparse.Namespace) -> int:
    if args.rollbacks < 1:
        raise CliError("--rollbacks must be 1 or more", code=Exit.USAGE)
    hurt, heal = _hurt_and_heal(args)
    require(args, ())
    from loadtests.bench_control import Setup, measure

    try:
        result = measure(Setup(args.kafka, args.rollbacks, hurt, heal))
    except (RuntimeError, TimeoutError) as error:
        raise CliError("the benchmark did not finish", str(error)) from error
    print(json.dumps(result, indent=2) if args.output == "json" else _control_text(result))
    return 0


def _control_text(result: dict[str, Any]) -> str:
    rollback = result["rollback"]
    lines = [f"{result['what']}, {result['setup']['rollbacks']} rollbacks sent to the first"]
    for name, where in (("here_ms", "on that gateway"), ("both_ms", "on both")):
        times = rollback[name]
        lines.append(f"  {where:<17}{times['median']:8.0f} ms, {times['max']:.0f} ms at most")
    for name, broker in (("exit_well_s", "well"), ("exit_hurt_s", "hurt")):
        if name in result:
            gateway, shipper = result[name]["gateway"], result[name]["shipper"]
            lines.append(
                f"  SIGTERM to the end, broker {broker}: gateway {gateway:.1f} s, "
                f"shipper {shipper:.1f} s"
            )
    return "\n".join(lines)
