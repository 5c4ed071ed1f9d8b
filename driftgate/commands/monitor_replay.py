"""`driftgate monitor replay`: whether the stored verdicts come out of the log again."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.commands.log_directory import check_directory, readable
from driftgate.commands.times import parse_time
from driftgate.config import Config, load_config, setting_options
from driftgate.errors import CliError, Exit

if TYPE_CHECKING:
    from eventlog import Log
    from monitor.core.settings import CoreSettings
    from monitor.replay import Replayed

PROGRESS_S = 5.0


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "replay",
        help="build the statistics from the log again, and compare every verdict bit for bit",
        description="Reads the log from its beginning, decides everything again, and says of "
        "each stored verdict whether it comes out the same: kind, reason, evidence, features, "
        "block. Nothing is written, and the monitor may run meanwhile. A verdict whose evidence "
        "is older than what is kept of the log cannot be replayed, which is said. Exit codes: "
        "0 all the same, 1 something differs, 6 nothing differs but not all could be replayed.",
        parents=[common_options(), setting_options()],
    )
    parser.add_argument("--model", metavar="M", help="this one's verdicts alone")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--verdict", metavar="ID", help="this one alone")
    which.add_argument(
        "--since", metavar="TIME", help="verdicts since then: ISO time, or an age such as 90m, 6h"
    )
    parser.add_argument("--until", metavar="TIME", help="verdicts before then")
    parser.set_defaults(run=run_replay)


def run_replay(args: argparse.Namespace) -> int:
    config = load_config(args)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(config.state_dir / "cache" / "numba"))
    found = [_replay(place, args, config) for place in _places(config)]
    findings = [asdict(finding) for item in found for finding in item.findings]
    states = {
        model: fate.value
        for item in found
        for model, fate in item.states.items()
        if args.model in (None, model)
    }
    if args.verdict is not None and not findings:
        raise CliError(f"no verdict {args.verdict!r} is stored, and the log gives none")
    fates = [*(finding["fate"] for finding in findings), *states.values()]
    whole_from_ns = max((item.log_from_ns for item in found), default=-inf)
    document = {
        "verdicts": sorted(findings, key=lambda item: (item["block_start_ns"], item["id"])),
        "states": states,
        "log_from_ns": None if whole_from_ns == -inf else int(whole_from_ns),
    }
    if args.output == "json":
        print(json.dumps(document))
    else:
        print("\n".join(_told(document)))
    if "different" in fates:
        return Exit.FAILED
    return Exit.PARTLY if "gone" in fates else Exit.OK


@dataclass(frozen=True, slots=True)
class Place:
    """A monitor's database, and how to open the part of the log that it is about."""

    database: Path
    open_log: "Callable[[], Log]"
    settings: "CoreSettings"
    partitions: tuple[str, ...] = ()


def _places(config: Config) -> list[Place]:
    """Where this state directory's monitor stored something; with Kafka by partition.

    Raises: CliError if it did nowhere.
    """
    home = config.state_dir / "monitor"
    places = list(_on_kafka(config, home) if config.log.kafka else _here(config, home))
    if not places:
        raise CliError(
            f"no monitor has stored anything in {config.state_dir}",
            hint="name the state directory of one that has run: --state-dir DIR",
        )
    return places


def _here(config: Config, home: Path) -> Iterator[Place]:
    from eventlog import SqliteLog
    from monitor.service import core_settings

    check_directory(config)
    if (home / "monitor.db").is_file():
        yield Place(
            home / "monitor.db",
            lambda: SqliteLog(config.log_dir, settings=config.log),
            core_settings(config.monitor),
        )


def _on_kafka(config: Config, home: Path) -> Iterator[Place]:
    from eventlog import LABELS, PREDICTIONS
    from eventlog.kafka.log import KafkaLog
    from monitor.kafka.compose import PARTITIONS, shared_settings
    from monitor.kafka.group_monitor import DATABASE_FILE

    def opener(number: int) -> "Callable[[], Log]":
        return lambda: KafkaLog(config.log.kafka, config.kafka, only={number})

    folders = [path for path in (home / PARTITIONS).glob("*") if path.name.isdecimal()]
    for folder in sorted(folders, key=lambda path: int(path.name)):
        if (folder / DATABASE_FILE).is_file():
            number = int(folder.name)
            yield Place(
                folder / DATABASE_FILE,
                opener(number),
                shared_settings(config.monitor),
                (f"{PREDICTIONS}/{number}", f"{LABELS}/{number}"),
            )


def _replay(place: Place, args: argparse.Namespace, config: Config) -> "Replayed":
    from monitor.kafka.shared_ids import SharedIds
    from monitor.replay import CannotReplay, read_stored, replay

    since_ns, until_ns = parse_time(args.since) or 0, parse_time(args.until)

    def chosen(verdict: Mapping[str, Any]) -> bool:
        return (
            args.model in (None, verdict["model"])
            and args.verdict in (None, verdict["id"])
            and verdict["block_start_ns"] >= since_ns
        )

    with readable():
        try:
            stored = read_stored(place.database, place.settings)
        except CannotReplay as error:
            raise CliError("there is nothing to compare with", str(error)) from error
        with closing(place.open_log()) as log:
            return replay(
                log,
                SharedIds(config.state_dir).decode,
                stored,
                place.settings,
                partitions=place.partitions,
                chosen=chosen,
                until_ns=until_ns,
                on_progress=_progress(stored.frontier_ns),
            )


def _progress(end_ns: int) -> "Callable[[int], None]":
    """Says on standard error, now and then, how far it has come."""
    next_s = time.monotonic() + PROGRESS_S

    def say(at_ns: int) -> None:
        nonlocal next_s
        if at_ns and time.monotonic() >= next_s:
            print(f"at {_when(at_ns)} of {_when(end_ns)}", file=sys.stderr)
            next_s = time.monotonic() + PROGRESS_S

    return say


def _told(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for item in document["verdicts"]:
        what = {"gone": "cannot be replayed"}.get(item["fate"], item["fate"])
        lines.append(f"{what:18}  {_when(item['block_start_ns'])}  {item['id']}")
        if item["difference"]:
            lines.append(f"{'':18}  {item['difference']}")
    if document["log_from_ns"] is not None:
        lines.append(
            f"the log is kept since {_when(document['log_from_ns'])}; evidence that began "
            "earlier cannot be built again"
        )
    lines += [f"state of {model}: {fate}" for model, fate in sorted(document["states"].items())]
    fates = [item["fate"] for item in document["verdicts"]]
    numbers = (fates.count(fate) for fate in ("same", "different", "gone"))
    lines.append("{} the same, {} different, {} cannot be replayed".format(*numbers))
    return lines


def _when(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S}Z"
