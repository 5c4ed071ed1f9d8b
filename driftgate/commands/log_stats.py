"""`driftgate log stats`: the ledger of every worker, and the whole log held against it."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.commands.log_directory import check_directory, readable
from driftgate.config import Config, load_config, setting_options
from driftgate.errors import Exit

if TYPE_CHECKING:
    from eventlog.balance import LedgerLine
    from eventlog.core.verification import Verdict

RUNS_SHOWN = 5  # of missing rows, per incarnation
# Key in JSON and heading, of rows per incarnation; each is a number or a table of reasons.
LEDGER = ("acknowledged", "delivered", "elsewhere", "spooled", "gaps", "unexplained")
WITH_MONITORS = (*LEDGER[:2], "consumed", *LEDGER[2:])
VERDICT = (
    "acknowledged",
    "found",
    "gaps",
    "spooled",
    "earlier",
    "expired",
    "duplicates",
    "missing",
)

Row = Mapping[str, Any]


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    stats = verbs.add_parser(
        "stats",
        help="acknowledged, delivered, in spool and lost rows of every worker",
        description="Delivered means read by the monitor or, where log.kafka is set, acknowledged "
        "by Kafka. Elsewhere are rows that went to Kafka before log.kafka was unset. Exit codes: "
        "0 done, 1 rows are not accounted for.",
        parents=[common_options(), setting_options()],
    )
    stats.add_argument(
        "--verify",
        action="store_true",
        help="read the whole log, on Kafka the topic; exit 1 unless every row is there or in a gap",
    )
    stats.set_defaults(run=run_stats)


def run_stats(args: argparse.Namespace) -> int:
    from eventlog import delivery_group, ledger

    config = load_config(args)
    check_directory(config)
    with readable():
        lines = ledger(config.log_dir, delivery_group(config.log))
    books = [_of_line(line) for line in lines]
    columns: tuple[str, ...] = LEDGER
    if args.verify and config.log.kafka and (consumed := _consumed(config)) is not None:
        columns = WITH_MONITORS
        books = [book | {"consumed": consumed.get(book["producer"], 0)} for book in books]
    document: dict[str, Any] = {"incarnations": books, "total": _total(books, columns)}
    # Of a living worker some rows are always on their way; verifying waits for those.
    unexplained = sum(line.unexplained for line in lines if not line.live)
    if args.verify:
        verdicts = [_of_verdict(verdict) for verdict in _verify(config)]
        document["verified"] = {"incarnations": verdicts, "total": _total(verdicts, VERDICT)}
        unexplained = max(unexplained, _wrong(verdicts, config))
    if args.output == "json":
        print(json.dumps(document))
    else:
        _print(document, columns)
    if args.verify and unexplained:
        print(f"error: {unexplained} rows are not accounted for", file=sys.stderr)
        return Exit.FAILED
    return Exit.OK


def _consumed(config: Config) -> Mapping[str, int] | None:
    """What the monitors say; None, with the reason told, if they cannot be asked."""
    from eventlog import LogError
    from monitor.kafka.consumed import consumed_rows

    try:
        return consumed_rows(config.log.kafka, config.kafka)
    except LogError as error:
        print(f"what the monitors have consumed is not known: {error}", file=sys.stderr)
        return None


def _verify(config: Config) -> "list[Verdict]":
    from eventlog.verify import verify_spool, verify_topic

    with readable():
        if not config.log.kafka:
            return verify_spool(config.log_dir, config.log)
        from eventlog.kafka.log import KafkaLog

        with closing(KafkaLog(config.log.kafka, config.kafka)) as log:
            return verify_topic(config.log_dir, config.log, log)


def _wrong(verdicts: Sequence[Row], config: Config) -> int:
    """Rows that are nowhere and, in a log that is written once, those that are there twice."""
    missing: int = sum(verdict["missing"] for verdict in verdicts)
    twice = 0 if config.log.kafka else sum(verdict["duplicates"] for verdict in verdicts)
    return missing + twice


def _of_line(line: "LedgerLine") -> dict[str, Any]:
    return {**asdict(line), "gaps": dict(line.gaps), "unexplained": line.unexplained}


def _of_verdict(verdict: "Verdict") -> dict[str, Any]:
    runs = [[first, count] for first, count in verdict.missing]
    return {
        **asdict(verdict),
        "gaps": dict(verdict.gaps),
        "missing": verdict.unexplained,
        "missing_runs": runs,
    }


def _total(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for name in names:
        if name != "gaps":
            total[name] = sum(row[name] for row in rows)
            continue
        gaps = total["gaps"] = {}
        for row in rows:
            for reason, count in row["gaps"].items():
                gaps[reason] = gaps.get(reason, 0) + count
    return total


def _print(document: Mapping[str, Any], columns: Sequence[str]) -> None:
    shown = [name for name in columns if name != "elsewhere" or document["total"][name]]
    print(_table(document["incarnations"], document["total"], shown))
    verified = document.get("verified")
    if not verified:
        return
    print("\nin the log, read from its beginning:")
    print(_table(verified["incarnations"], verified["total"], VERDICT))
    for verdict in verified["incarnations"]:
        if verdict["missing_runs"]:
            print(f"missing of {verdict['producer']}: {_shown(verdict['missing_runs'])}")


def _shown(runs: Sequence[Sequence[int]]) -> str:
    shown = [
        f"{first}" if count == 1 else f"{first} to {first + count - 1}"
        for first, count in runs[:RUNS_SHOWN]
    ]
    more = len(runs) - RUNS_SHOWN
    return ", ".join(shown) + (f", and {more} runs more" if more > 0 else "")


def _table(rows: Sequence[Row], total: Row, names: Sequence[str]) -> str:
    cells = [("incarnation", *names)]
    for row in rows:
        flags = [name for name in ("live", "uncertain") if row.get(name)]
        cells.append((" ".join((row["producer"], *flags)), *_cells(row, names)))
    cells.append(("total", *_cells(total, names)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = {0, 1 + names.index("gaps")}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _cells(values: Row, names: Sequence[str]) -> list[str]:
    return [_reasons(values["gaps"]) if name == "gaps" else str(values[name]) for name in names]


def _reasons(gaps: Mapping[str, int]) -> str:
    return " ".join(f"{reason}={rows}" for reason, rows in sorted(gaps.items())) or "0"
