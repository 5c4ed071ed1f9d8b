"""`driftgate bench monitor` and `delay`: how fast the monitor counts, and how soon it finds."""

import argparse
import json
from pathlib import Path
from typing import Any

from driftgate.cli import common_options
from driftgate.errors import CliError, Exit


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    monitor = verbs.add_parser(
        "monitor",
        help="values per second that the monitor counts, by distribution and end to end",
        parents=[common_options()],
    )
    monitor.add_argument("--seconds", type=float, default=1.0, help="of one case")
    monitor.add_argument("--features", type=int, default=100)
    monitor.add_argument("--rows", type=int, default=1800, help="of a record")
    monitor.add_argument(
        "--envs",
        type=Path,
        metavar="FOLDER",
        help="of virtual environments named evidently and nannyml, which are measured beside "
        "ours; `make bench-monitor` makes them",
    )
    monitor.set_defaults(run=run_monitor)
    delay = verbs.add_parser(
        "delay",
        help="how soon a loss that rises is found, beside river's drift detectors",
        description="--env is a virtual environment with river; `make bench-delay` makes it. "
        "Without one, ours are measured alone.",
        parents=[common_options()],
    )
    delay.add_argument("--streams", type=int, default=500)
    delay.add_argument("--env", type=Path, metavar="FOLDER")
    delay.set_defaults(run=run_delay)


def run_monitor(args: argparse.Namespace) -> int:
    if args.seconds <= 0 or args.features < 1 or args.rows < 1:
        raise CliError("--seconds is above 0, --features and --rows 1 or more", code=Exit.USAGE)
    environments = None if args.envs is None else _environments(args.envs)
    from monitor.bench import measure
    from monitor.bench_statistics import measure as measure_statistics

    result = measure(args.seconds, args.features, args.rows)
    result["statistics"] = measure_statistics()
    text = f"{result.pop('text')}\n{result['statistics'].pop('text')}"
    if environments is not None:
        result["peers"] = _beside_monitors(environments)
        text += f"\n{result['peers'].pop('text')}"
    print(json.dumps(result, indent=2) if args.output == "json" else text)
    return 0


MONITORS = ("evidently", "nannyml")


def _environments(folder: Path) -> dict[str, Path]:
    """Raises: CliError where there is none."""
    found = {name: folder / name for name in MONITORS}
    found = {name: env for name, env in found.items() if (env / "bin" / "python").exists()}
    if not found:
        error = f"{folder} holds no environment of {' or '.join(MONITORS)}"
        raise CliError(error, hint="`make bench-monitor` makes them")
    return found


def _beside_monitors(environments: dict[str, Path]) -> dict[str, Any]:
    from loadtests.peers.servers import SCRIPTS
    from monitor.bench_peers import PeerError, measure

    try:
        return measure(environments, SCRIPTS)
    except (OSError, PeerError) as error:
        raise CliError("the monitors beside ours did not run", str(error)) from error


def run_delay(args: argparse.Namespace) -> int:
    if args.streams < 1:
        raise CliError("--streams must be 1 or more", code=Exit.USAGE)
    from subprocess import CalledProcessError

    from loadtests.peers.servers import SCRIPTS
    from monitor.bench_delay import measure

    script = SCRIPTS / "river_detectors.py"
    river = None if args.env is None else (args.env / "bin" / "python", script)
    try:
        result = measure(args.streams, river)
    except (OSError, CalledProcessError) as error:
        raise CliError("river did not run", str(error), "make bench-delay") from error
    print(json.dumps(result, indent=2) if args.output == "json" else result["text"])
    return 0
