"""What the verbs of `driftgate bench` share."""

import argparse
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftgate.errors import CliError, Exit

PROGRAMS = {"wrk": "apt-get install wrk", "taskset": "apt-get install util-linux"}


def require(args: argparse.Namespace, programs: Iterable[str] = PROGRAMS) -> None:
    """Say what is missing before a gateway is started for nothing. Raises: CliError."""
    import importlib.util
    import shutil

    for name in ("seconds", "rounds", "connections"):
        if getattr(args, name, 1) < 1:
            raise CliError(f"--{name} must be 1 or more", code=Exit.USAGE)
    for program in programs:
        if shutil.which(program) is None:
            why = f"{program} is not installed"
            raise CliError("the benchmark did not run", why, PROGRAMS[program])
    if importlib.util.find_spec("onnx") is None:
        hint = 'pip install "driftgate[cpu,demo]"'
        raise CliError("the benchmark did not run", "the package onnx is not installed", hint)


def keep(folder: Path | None, name: str, result: dict[str, Any]) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


@contextmanager
def client_on(core: int | None) -> Iterator[None]:
    """This process on a core that is not the server's."""
    before = os.sched_getaffinity(0)
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})
        yield
    finally:
        os.sched_setaffinity(0, before)
