"""`driftgate bench load`, `scenario`, `lengths`, `batching`: what traffic of many kinds meets."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.bench_shared import client_on, keep, require
from driftgate.errors import CliError, Exit


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    load = verbs.add_parser(
        "load",
        help="p99 of predictions while a large model is loaded beside them",
        parents=[common_options()],
    )
    load.add_argument("--pairs", type=int, default=10, help="of windows, 2 or more")
    load.add_argument("--seconds", type=float, default=4.0, help="of one window")
    load.add_argument("--megabytes", type=int, default=200, help="of the large model")
    load.set_defaults(run=run_load)
    scenario = verbs.add_parser(
        "scenario",
        help="an open loop against a gateway: baseline, sweep, overload, swaps",
        description="Requests come when they are due, whether or not the server keeps up, and "
        "every reply is checked. Without names all that fit into some minutes.",
        parents=[common_options()],
    )
    scenario.add_argument("names", nargs="*", metavar="NAME")
    scenario.add_argument("--quick", action="store_true", help="a quarter of the time")
    scenario.add_argument("--list", action="store_true", help="say which there are")
    scenario.add_argument("--results", type=Path, metavar="FOLDER", help="keep them as JSON there")
    scenario.set_defaults(run=run_scenario)
    lengths = verbs.add_parser(
        "lengths",
        help="a transformer and requests of mixed lengths, padded and not, beside ONNX Runtime",
        parents=[common_options()],
    )
    lengths.add_argument("--layers", type=int, default=2)
    lengths.add_argument("--hidden", type=int, default=128, help="a multiple of 4")
    lengths.add_argument("--connections", type=int, default=32)
    lengths.add_argument("--seconds", type=float, default=4.0, help="of one round")
    lengths.add_argument("--rounds", type=int, default=3, help="2 or more")
    lengths.add_argument("--results", type=Path, metavar="FOLDER", help="keep them as JSON there")
    lengths.set_defaults(run=run_lengths)
    batching = verbs.add_parser(
        "batching",
        help="the batcher beside fixed delays and a regression, in virtual time",
        description="Simulates the code that serves, so the table is the same on every machine. "
        "Goodput is what is answered before its deadline, as a share of the capacity.",
        parents=[common_options()],
    )
    batching.add_argument(
        "--seconds", type=float, default=2.0, help="of virtual traffic in each case"
    )
    batching.add_argument(
        "--load", type=float, action="append", metavar="SHARE", help="of capacity; may repeat"
    )
    batching.set_defaults(run=run_batching)


def run_load(args: argparse.Namespace) -> int:
    if args.pairs < 2 or args.seconds <= 0 or args.megabytes < 1:
        raise CliError("--pairs is 2 or more, --seconds and --megabytes above 0", code=Exit.USAGE)
    from loadtests.bench_load import measure

    result = measure(args.pairs, args.seconds, args.megabytes)
    if args.output == "json":
        print(json.dumps(result, indent=2))
        return 0
    low, high = result["ratio_95"]
    print(f"1,000 predictions/s, {result['loads']} loads of {result['big_mb']} MB beside them")
    print(f"  failed           {result['failed']:8d}")
    print(f"  p99, quiet       {result['p99_ms_quiet']:8.2f} ms")
    print(f"  p99, loading     {result['p99_ms_loading']:8.2f} ms")
    print(f"  ratio, median    {result['ratio']:8.2f} ({low:.2f} to {high:.2f}, 95 %)")
    low, high = result["ratio_mean_95"]
    print(f"  ratio, mean      {result['ratio_mean']:8.2f} ({low:.2f} to {high:.2f}, 95 %)")
    low, high = result["ratio_with_void_95"]
    print(
        f"  void pairs       {result['void_pairs']:8d}, the generator was late itself; with them "
        f"{result['ratio_with_void']:.2f} ({low:.2f} to {high:.2f})"
    )
    if result["void"]:
        print("  VOID: too few pairs in which it was not")
    return 0


def run_scenario(args: argparse.Namespace) -> int:
    require(args, ["taskset"])
    from loadtests.bench_requests import machine
    from loadtests.scenario import measure, scenarios

    known = scenarios()
    if args.list:
        for name, scenario in known.items():
            print(f"{name:10} {scenario.what}{' (only if named)' if scenario.long else ''}")
        return 0
    if unknown := set(args.names) - set(known):
        raise CliError(
            f"no scenario is named {min(unknown)}; known are {', '.join(known)}", code=Exit.USAGE
        )
    names = args.names or [name for name, scenario in known.items() if not scenario.long]
    pinned = (os.cpu_count() or 1) > 1
    for name in names:
        scenario = known[name]
        core = 0 if pinned and scenario.workers == 1 else None
        with client_on(1 if core == 0 else None):
            result = measure(scenario, core, quick=args.quick)
        result |= {"pinned": core == 0, "quick": args.quick, "machine": machine()}
        keep(args.results, name, result)
        if args.output == "json":
            print(json.dumps(result, indent=2))
        else:
            _print_scenario(result)
    return 0


def _print_scenario(result: dict[str, Any]) -> None:
    capacity = result["capacity_per_s"]
    most = f"; it can take {capacity:,.0f}/s" if capacity else ""
    print(f"{result['scenario']}: {result['what']}{most}")
    print(
        f"  {'phase':32} {'offered/s':>9} {'good/s':>9} {'good':>8} {'p50 ms':>7} {'p99 ms':>8} "
        f"{'refused':>8} {'in ms':>6} {'wrong':>5} {'lost':>5} {'CPU us':>7}"
    )
    for phase in result["phases"]:
        void = "  VOID: the generator was late" if phase["void"] else ""
        print(
            f"  {phase['phase']:32} {phase['offered_per_s']:9,.0f} {phase['good_per_s']:9,.0f} "
            f"{phase['good_share']:8.3%} {_ms(phase['p50_ms']):>7} {_ms(phase['p99_ms']):>8} "
            f"{phase['refused']:8} {_ms(phase['refused_p99_ms']):>6} {phase['wrong']:5} "
            f"{phase['unanswered']:5} {phase['cpu_us_per_request']:7.1f}{void}"
        )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def run_lengths(args: argparse.Namespace) -> int:
    if args.layers < 1 or args.hidden < 4 or args.hidden % 4 or args.rounds < 2:
        raise CliError(
            "--layers is 1 or more, --hidden a multiple of 4, --rounds 2 or more", code=Exit.USAGE
        )
    require(args, ["taskset"])
    from loadtests.bench_lengths import Setup, as_text, measure

    setup = Setup(args.layers, args.hidden, args.connections, args.seconds, args.rounds)
    result = measure(setup)
    keep(args.results, "lengths", result)
    print(json.dumps(result, indent=2) if args.output == "json" else as_text(result))
    return 0


def run_batching(args: argparse.Namespace) -> int:
    from serving.bench_batching import LOADS, as_text, measure

    loads = tuple(args.load or LOADS)
    if args.seconds <= 0 or min(loads) <= 0:
        raise CliError("--seconds and --load are above 0", code=Exit.USAGE)
    result = measure(args.seconds, loads)
    print(json.dumps(result, indent=2) if args.output == "json" else as_text(result))
    return 0
