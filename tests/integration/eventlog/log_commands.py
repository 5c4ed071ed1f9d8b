"""`driftgate log` as typed, in this process."""

import argparse
from pathlib import Path

from driftgate.commands import log as log_command


def run(state_dir: Path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    log_command.register(parser.add_subparsers())
    args = parser.parse_args(["log", words[0], "--state-dir", str(state_dir), *words[1:]])
    return int(args.run(args))
