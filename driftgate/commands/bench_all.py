"""`driftgate bench all`: every benchmark that fits into a coffee break, one after the other."""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from driftgate.cli import common_options
from driftgate.errors import CliError, Exit


@dataclass(frozen=True, slots=True)
class Part:
    """A benchmark, and its options in full and quickly."""

    verb: str
    full: tuple[str, ...]
    quick: tuple[str, ...]
    envs: str = ""  # the option that takes a folder of environments, without which it is left out

    def argv(self, args: argparse.Namespace) -> list[str]:
        """Of `driftgate`."""
        options = self.quick if args.quick else self.full
        beside = (self.envs, str(args.envs)) if self.envs else ()
        return ["bench", self.verb, *options, *beside, "--output", args.output]


# What is asked about most comes first; together some 20 minutes, and 3 if quick.
PARTS = (
    Part("requests", ("--seconds", "4"), ("--seconds", "1", "--rounds", "2")),
    Part(
        "peers", ("--rounds", "3", "--seconds", "2"), ("--rounds", "2", "--seconds", "1"), "--envs"
    ),
    Part("log", ("--pairs", "10", "--seconds", "3"), ("--pairs", "3", "--seconds", "1")),
    Part("load", ("--pairs", "10"), ("--pairs", "2", "--seconds", "3")),
    Part("scenario", (), ("--quick", "baseline", "swap")),
    Part("lengths", ("--seconds", "2"), ("--seconds", "1", "--rounds", "2")),
    Part("monitor", (), ("--seconds", "0.1")),
    Part("delay", (), ("--streams", "50")),
    Part("batching", (), ("--seconds", "0.5")),
)


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "all",
        help="all of the others that need no Kafka and no model of yours: some 20 minutes",
        description="Nothing else should run on the machine meanwhile. Other servers are "
        "measured beside driftgate where --envs names their environments (`make bench-peers` "
        "makes them). With -o json a stream of documents. Exit code 1 if a benchmark did not "
        "finish, 6 if one was left out.",
        parents=[common_options()],
    )
    parser.add_argument("--quick", action="store_true", help="some 3 minutes; looser figures")
    parser.add_argument("--envs", type=Path, metavar="FOLDER", help="of other servers")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.envs is not None and not args.envs.is_dir():
        raise CliError(f"{args.envs} is no folder", hint="make bench-peers", code=Exit.USAGE)
    failed, left_out = [], []
    began = time.monotonic()
    aside = sys.stderr if args.output == "json" else sys.stdout
    for part in PARTS:
        if part.envs and args.envs is None:
            left_out.append(part.verb)
            continue
        print(f"== {part.verb}", file=aside, flush=True)
        since = time.monotonic()
        command = [sys.executable, "-m", "driftgate", *part.argv(args)]
        if subprocess.run(command, check=False).returncode:
            failed.append(part.verb)
        print(f"   ({time.monotonic() - since:.0f} s)\n", file=aside, flush=True)
    print(f"{time.monotonic() - began:.0f} s in all", file=aside)
    if left_out:
        what = ", ".join(left_out)
        print(f"not measured: {what}; --envs FOLDER, see `make bench-peers`", file=aside)
    if failed:
        print(f"did not finish: {', '.join(failed)}", file=aside)
        return Exit.FAILED
    return Exit.PARTLY if left_out else Exit.OK
