"""`driftgate bench`: what requests cost, here and elsewhere, monitors take, loads disturb."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from driftgate.cli import common_options
from driftgate.errors import CliError, Exit


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("bench", help="measure this machine")
    verbs = parser.add_subparsers(metavar="verb", required=True)
    model = verbs.add_parser(
        "model",
        help="CPU per HTTP JSON request (needs wrk) and per gRPC call (needs h2load)",
        parents=[common_options()],
    )
    model.add_argument("--seconds", type=int, default=5, help="of one round")
    model.add_argument("--rounds", type=int, default=5)
    model.add_argument("--connections", type=int, default=32)
    model.set_defaults(run=run_model)
    peers = verbs.add_parser(
        "peers",
        help="driftgate beside other servers, in one run (needs wrk, h2load, two cores)",
        description="Each folder of --envs is a virtual environment named like its server: "
        "triton, mlserver, kserve, litserve, bentoml. `make bench-peers` makes them.",
        parents=[common_options()],
    )
    peers.add_argument("--envs", type=Path, default=Path(".venv-peers"), metavar="FOLDER")
    peers.add_argument("--only", action="append", metavar="SERVER", help="of those; may repeat")
    peers.add_argument("--seconds", type=int, default=3, help="of one round")
    peers.add_argument("--rounds", type=int, default=5, help="2 or more")
    peers.set_defaults(run=run_peers)
    log = verbs.add_parser(
        "log",
        help="CPU that the prediction log adds, and how fast it is read (needs wrk)",
        description="Prints the CPU that the log adds to a prediction and the rows per second of "
        "CPU that the monitor takes; with --kafka also those of the shipper; with --hurt and "
        "--heal, two commands that take a broker away and bring it back, what that does to p99.",
        parents=[common_options()],
    )
    log.add_argument("--seconds", type=int, default=4, help="of one round")
    log.add_argument("--pairs", type=int, default=10, help="of rounds, with the log and without")
    log.add_argument("--connections", type=int, default=32)
    log.add_argument(
        "--kafka", default="", metavar="HOST:PORT", help="makes topics of its own there"
    )
    log.add_argument("--hurt", default="", metavar="COMMAND", help="as: docker pause broker")
    log.add_argument("--heal", default="", metavar="COMMAND", help="as: docker unpause broker")
    log.set_defaults(run=run_log)

    monitor = verbs.add_parser(
        "monitor",
        help="values per second that the monitor counts, by distribution and end to end",
        parents=[common_options()],
    )
    monitor.add_argument("--seconds", type=float, default=1.0, help="of one case")
    monitor.add_argument("--features", type=int, default=100)
    monitor.add_argument("--rows", type=int, default=1800, help="of a record")
    monitor.set_defaults(run=run_monitor)

    load = verbs.add_parser(
        "load",
        help="p99 of predictions while a large model is loaded beside them",
        parents=[common_options()],
    )
    load.add_argument("--pairs", type=int, default=10, help="of windows, 2 to 10")
    load.add_argument("--seconds", type=float, default=4.0, help="of one window")
    load.add_argument("--megabytes", type=int, default=200, help="of the large model")
    load.set_defaults(run=run_load)


PROGRAMS = {"wrk": "apt-get install wrk", "taskset": "apt-get install util-linux"}


def _require(args: argparse.Namespace) -> None:
    """Say what is missing before a gateway is started for nothing. Raises: CliError."""
    import importlib.util
    import shutil

    for name in ("seconds", "rounds", "connections"):
        if getattr(args, name, 1) < 1:
            raise CliError(f"--{name} must be 1 or more", code=Exit.USAGE)
    for program, hint in PROGRAMS.items():
        if shutil.which(program) is None:
            raise CliError("the benchmark did not run", f"{program} is not installed", hint)
    if importlib.util.find_spec("onnx") is None:
        hint = 'pip install "driftgate[cpu,demo]"'
        raise CliError("the benchmark did not run", "the package onnx is not installed", hint)


def run_model(args: argparse.Namespace) -> int:
    _require(args)
    from loadtests.bench_model import Setup, measure
    from loadtests.h2load import H2loadError
    from loadtests.wrk import WrkError
    from serving.grpc_engine import choose_engine

    engines = tuple(dict.fromkeys((choose_engine("auto").name, "grpcio")))
    try:
        result = measure(Setup(args.connections, args.seconds, args.rounds, engines))
    except (WrkError, H2loadError) as error:
        raise CliError("the benchmark did not run", str(error)) from error
    if args.output == "json":
        print(json.dumps(result, indent=2))
    else:
        _print_model(result)
    return 0


def _print_model(result: dict[str, Any]) -> None:
    setup, median, machine = result["setup"], result["median"], result["machine"]
    where = "server and client on a core each" if setup["pinned"] else "one shared core"
    print(f"{result['what']}")
    print(
        f"{setup['connections']} connections, 1 worker, {where}, "
        f"median of {setup['rounds']} rounds of {setup['seconds']} s; {machine['cpu']}"
    )
    print(f"  CPU per request  {median['cpu_us_per_request']:8.1f} µs")
    print(f"  requests/s       {median['requests_per_s']:8.0f}")
    print(f"  latency p50      {median['p50_ms']:8.2f} ms")
    print(f"  latency p99      {median['p99_ms']:8.2f} ms")
    if not result["grpc"]:
        print("  gRPC: not measured, for lack of h2load (Debian: apt-get install nghttp2-client)")
    for load in result["grpc"]:
        figures, calls = load["median"], load["calls"]
        print(
            f"  gRPC on {load['engine']}, {load['channels']} channels with "
            f"{calls} call{'s' * (calls > 1)} each: {figures['cpu_us_per_request']:.1f} µs, "
            f"{figures['requests_per_s']:.0f}/s"
        )
    print(f"  memory           {result['rss_mib']:8.0f} MiB")


def run_peers(args: argparse.Namespace) -> int:
    _require(args)
    from loadtests.bench_peers import Setup, measure
    from loadtests.h2load import H2loadError
    from loadtests.peers.servers import PEERS
    from loadtests.wrk import WrkError

    if args.rounds < 2:
        raise CliError("--rounds must be 2 or more", code=Exit.USAGE)
    if unknown := set(args.only or ()) - set(PEERS):
        known = ", ".join(PEERS)
        raise CliError(f"no server is named {min(unknown)}; known are {known}", code=Exit.USAGE)
    environments = {name: args.envs / name for name in args.only or PEERS}
    there = {name: env for name, env in environments.items() if (env / "bin").is_dir()}
    if not there or (args.only and there != environments):
        missing = ", ".join(sorted(environments.keys() - there.keys()))
        raise CliError(
            "the benchmark did not run", f"no environment: {missing}", "make bench-peers"
        )
    try:
        result = measure(there, Setup(seconds=args.seconds, rounds=args.rounds))
    except (WrkError, H2loadError, RuntimeError) as error:
        raise CliError("the benchmark did not finish", str(error)) from error
    print(json.dumps(result, indent=2) if args.output == "json" else _peers_text(result))
    return 0


def _peers_text(result: dict[str, Any]) -> str:
    setup = result["setup"]
    lines = [
        f"{result['what']}; {result['machine']['cpu']}",
        f"median of {setup['rounds']} rounds of {setup['seconds']} s in turn; HTTP: "
        f"{setup['connections']} connections, gRPC: {setup['channels']} channels with "
        f"{setup['calls']} calls each",
        f"{'':11}{'':13}{'CPU/request':>12}{'requests/s':>12}{'p99':>10}  CPU, ours = 1",
    ]
    for form in result["forms"]:
        median, times = form["median"], form.get("times_ours")
        p99 = f"{median['p99_ms']:.2f} ms" if "p99_ms" in median else ""
        line = (
            f"{form['peer']:11}{form['form']:13}{median['cpu_us_per_request']:9.1f} µs"
            f"{median['requests_per_s']:12.0f}{p99:>10}"
        )
        if times:
            line += f"  {times['mean']:.1f} ({times['low']:.1f} to {times['high']:.1f}, 95 %)"
        lines.append(line)
        if "front_end_cpu_us" in median:
            alone = f"{median['front_end_cpu_us']:9.1f} µs"
            lines.append(f"{'':11}{'  its C++ alone':13}".ljust(24) + alone.rjust(14))
    lines += [f"{peer['name']}: {peer['what']}" for peer in result["peers"]]
    return "\n".join(lines)


def run_log(args: argparse.Namespace) -> int:
    if args.pairs < 2:
        raise CliError("--pairs must be 2 or more", code=Exit.USAGE)
    if bool(args.hurt) != bool(args.heal) or (args.hurt and not args.kafka):
        raise CliError("--hurt and --heal go together, and with --kafka", code=Exit.USAGE)
    _require(args)
    from loadtests.bench_log import Setup, measure
    from loadtests.wrk import WrkError

    setup = Setup(
        args.seconds,
        args.pairs,
        args.connections,
        args.kafka,
        tuple(shlex.split(args.hurt)),
        tuple(shlex.split(args.heal)),
    )
    try:
        result = measure(setup)
    except (WrkError, TimeoutError) as error:
        raise CliError("the benchmark did not finish", str(error)) from error
    print(json.dumps(result, indent=2) if args.output == "json" else _log_text(result))
    return 0


def _log_text(result: dict[str, Any]) -> str:
    added = result["cost"]["added_cpu_us"]
    lines = [
        f"{result['what']}, one worker on one core",
        f"  the log adds     {added['mean']:8.1f} µs of CPU per prediction"
        f" ({added['low']:.1f} to {added['high']:.1f}, 95 %)",
        f"  one worker       {result['cost']['rows_per_s']:8.0f} rows/s served, log on",
    ]
    for name in ("shipper", "monitor"):
        if name in result:
            rate = result[name]["rows_per_cpu_s"]
            lines.append(f"  {name:<17}{rate:8.0f} rows per second of CPU")
    if "together_rows_per_s" in result:
        lines.append(f"  both on one core {result['together_rows_per_s']:8.0f} rows/s")
    if "hurt" in result:
        hurt, change = result["hurt"], result["hurt"]["p99_ratio"]
        lines += [
            f"  p99, broker well {hurt['p99_ms_well']:8.2f} ms at 1,000 predictions/s",
            f"  p99, broker hurt {hurt['p99_ms_hurt']:8.2f} ms, {hurt['failed']} failed",
            f"  ratio            {change['mean']:8.2f}"
            f" ({change['low']:.2f} to {change['high']:.2f}, 95 %)",
        ]
    return "\n".join(lines)


def run_monitor(args: argparse.Namespace) -> int:
    if args.seconds <= 0 or args.features < 1 or args.rows < 1:
        raise CliError("--seconds is above 0, --features and --rows 1 or more", code=Exit.USAGE)
    from monitor.bench import measure
    from monitor.bench_statistics import measure as measure_statistics

    result = measure(args.seconds, args.features, args.rows)
    result["statistics"] = measure_statistics()
    text = f"{result.pop('text')}\n{result['statistics'].pop('text')}"
    print(json.dumps(result, indent=2) if args.output == "json" else text)
    return 0


def run_load(args: argparse.Namespace) -> int:
    if not 2 <= args.pairs <= 10 or args.seconds <= 0 or args.megabytes < 1:
        raise CliError("--pairs is 2 to 10, --seconds and --megabytes above 0", code=Exit.USAGE)
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
    print(f"  ratio            {result['ratio']:8.2f} ({low:.2f} to {high:.2f}, 95 %)")
    return 0
