"""`driftgate bench requests` and `peers`: what a request costs, here and beside other servers."""

import argparse
import json
from pathlib import Path
from typing import Any

from driftgate.cli import common_options
from driftgate.commands.bench_shared import keep, require
from driftgate.errors import CliError, Exit


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    requests = verbs.add_parser(
        "requests",
        help="CPU per HTTP JSON request (needs wrk) and per gRPC call (needs h2load)",
        parents=[common_options()],
    )
    requests.add_argument("--seconds", type=int, default=5, help="of one round")
    requests.add_argument("--rounds", type=int, default=5)
    requests.add_argument("--connections", type=int, default=32)
    requests.set_defaults(run=run_requests)
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
    peers.add_argument("--results", type=Path, metavar="FOLDER", help="keep them as JSON there")
    peers.set_defaults(run=run_peers)


def run_requests(args: argparse.Namespace) -> int:
    require(args)
    from loadtests.bench_requests import Setup, measure
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
        _print_requests(result)
    return 0


def _print_requests(result: dict[str, Any]) -> None:
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
    alone = result["alone"]
    waits = [f"HTTP {alone['http_ms']:.2f} ms"]
    waits += [f"gRPC {alone['grpc_ms']:.2f} ms"] if "grpc_ms" in alone else []
    print(f"  a client alone   {', '.join(waits)}, of which the run {alone['run_ms']:.2f} ms")
    if two := result["two_workers"]:
        times = two["times_one"]
        print(
            f"  two workers      {two['cpu_us_per_request']:8.1f} µs: {times['mean']:.2f} times "
            f"what one can do ({times['low']:.2f} to {times['high']:.2f}, 95 %)"
        )
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
    require(args)
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
    keep(args.results, "peers", result)
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
