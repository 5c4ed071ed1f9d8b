"""`driftgate demo`: the whole story on real data, in two minutes, checked."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftgate.errors import CliError, Exit

ROWS_PER_S = 1000.0
UNITS = {
    "p50_ms": "ms",
    "p99_ms": "ms",
    "detection_s": "s",
    "rollback_s": "s",
    "operator_rollback_s": "s",
    "worker_restart_s": "s",
}


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "demo",
        help="serve real predictions, see them drift, roll back, retrain",
        description="Plays the whole story on scikit-learn's digits and checks each step; "
        "exits with 1 when one does not happen, with 130 on Ctrl-C.",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as one JSON object, last line"
    )
    parser.add_argument(
        "--report", type=Path, default=Path("demo-report"), help="folder of the HTML report"
    )
    parser.add_argument(
        "--rows-per-s", type=float, default=ROWS_PER_S, help="rate of the replayed traffic"
    )
    parser.add_argument("--keep", action="store_true", help="keep the state directory")
    parser.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    _require_the_extra()
    from driftgate.story.pictures import write_report
    from driftgate.story.story import Story
    from driftgate.story.system import StepFailed, System

    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    with _state(say, keep=args.keep) as state_dir, System(state_dir, args.rows_per_s) as system:
        story = Story(system, say)
        try:
            story.play()
            story.summary["report"] = str(write_report(story, args.report.absolute()))
        except StepFailed as failure:
            log = _tail(system.log_path)
            raise CliError("the story did not happen as told", str(failure), log) from failure
    print_summary(story.summary, as_json=args.json)
    return Exit.OK


@contextmanager
def _state(say: Callable[[str], None], *, keep: bool) -> Iterator[Path]:
    """A state directory that is gone afterwards, however the story ends, unless it is kept."""
    state_dir = Path(tempfile.mkdtemp(prefix="driftgate-demo-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"state in {state_dir}")
    try:
        yield state_dir
    finally:
        if keep:
            say(f"state kept in {state_dir}")
        else:
            shutil.rmtree(state_dir, ignore_errors=True)


def _require_the_extra() -> None:
    import importlib.util

    missing = [
        m for m in ("sklearn", "skl2onnx", "tritonclient") if not importlib.util.find_spec(m)
    ]
    if missing:
        raise CliError(
            f"the demo needs {', '.join(missing)}",
            hint='pip install "driftgate[cpu,demo]"',
            code=Exit.USAGE,
        )


def _tail(path: Path) -> str:
    """The last lines of the processes' own output."""
    if not path.exists():
        return "the processes said nothing"
    return "the processes said:\n" + "\n".join(path.read_text().splitlines()[-20:])


def print_summary(summary: dict[str, Any], *, as_json: bool) -> None:
    """The figures as a table; with `as_json` also as the last line of the output."""
    width = max(map(len, summary))
    print()
    for key, value in summary.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        print(f"{key:<{width}}  {shown} {UNITS.get(key, '')}".rstrip())
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
