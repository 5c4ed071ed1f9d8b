"""`driftgate log`: the prediction log as an operator and a data scientist see it."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.commands import log_init, log_stats
from driftgate.commands.log_directory import check_directory, readable
from driftgate.commands.times import parse_time
from driftgate.config import Config, load_config
from driftgate.errors import CliError, Exit

if TYPE_CHECKING:
    from eventlog import PredictionIds, PredictionRows, StoredRecord
    from eventlog.sqlite_log import SqliteLog

FOLLOW_S = 0.2
FOLLOW_RECORDS = 32  # at a time: 24 MiB at most
# A row is logged once its request is over, so it may stand behind rows that came
# this much later: requests end within `limits.request_s_max`, 30 s by default.
LATE_NS = 600 * 10**9
OUTPUTS_WIDTH = 60


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("log", help="look at, balance and export the prediction log")
    verbs = parser.add_subparsers(metavar="verb", required=True)
    log_init.register(verbs)
    log_stats.register(verbs)
    tail = verbs.add_parser("tail", help="the last predictions", parents=[common_options()])
    tail.add_argument("--json", action="store_true", help="one JSON object per line, with inputs")
    tail.add_argument("--model", help="only this model")
    tail.add_argument("--follow", "-f", action="store_true", help="go on as they come")
    tail.add_argument("-n", type=int, default=10, metavar="ROWS", help="how many (default 10)")
    tail.set_defaults(run=run_tail)
    export = verbs.add_parser(
        "export",
        help="write predictions to a Parquet file",
        parents=[common_options()],
        conflict_handler="resolve",  # here --output is the file, and what is printed one line
    )
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.parquet")
    export.add_argument("--model", help="needed when the log has several")
    export.add_argument("--since", metavar="TIME", help="ISO time, or an age such as 90m, 6h, 7d")
    export.add_argument("--until", metavar="TIME", help="likewise; not included")
    export.add_argument("--labels", action="store_true", help="join the labels that have arrived")
    export.add_argument("--lists", action="store_true", help="one list column per tensor")
    export.set_defaults(run=run_export)


def run_tail(args: argparse.Namespace) -> int:
    from eventlog import SqliteLog

    config = load_config(args)
    check_directory(config)
    as_json = args.json or args.output == "json"
    ids = _ids(config)
    with readable(), closing(SqliteLog(config.log_dir, settings=config.log)) as log:
        position = log.end()
        for row in _last_rows(log, position, args.n, args.model, ids):
            _print_row(row, as_json=as_json)
        while args.follow:
            batch = log.read(position, FOLLOW_RECORDS)
            for stored in batch:
                position[stored.partition] = stored.offset
                for row in _rows(stored, args.model, ids):
                    _print_row(row, as_json=as_json)
            sys.stdout.flush()
            if not batch:
                time.sleep(FOLLOW_S)
    return Exit.OK


def run_export(args: argparse.Namespace) -> int:
    from eventlog import LogError, SqliteLog
    from eventlog.export import WIDE_MAX, Selection, export_parquet

    output = args.output
    if not output.name:
        raise CliError(f"--output {output} is not a file's name", code=Exit.USAGE)
    config = load_config(args)
    check_directory(config)
    ids = _ids(config)
    if ids is None:
        raise CliError(f"{config.state_dir / 'id.keys'} is missing", hint="no id can be written")
    selection = Selection(
        args.model,
        parse_time(args.since),
        parse_time(args.until),
        args.labels,
        0 if args.lists else WIDE_MAX,
    )
    try:
        with closing(SqliteLog(config.log_dir, settings=config.log)) as log:
            exported = export_parquet(log, output, selection, ids.codec)
    except (LogError, OSError) as error:
        raise CliError("nothing was exported", str(error)) from error
    print(f"{output}: {exported.rows} rows", end="")
    if args.labels:
        print(f", {exported.labelled} labelled, {exported.orphans} labels without a row", end="")
    print()
    return Exit.OK


def _ids(config: Config) -> "PredictionIds | None":
    from eventlog import PredictionIds
    from eventlog.ids import KEY_FILE

    # Only a gateway creates keys.
    if not (config.state_dir / KEY_FILE).exists():
        return None
    with readable():
        return PredictionIds.load(config.state_dir)


def _last_rows(
    log: "SqliteLog",
    end: Mapping[str, int],
    wanted: int,
    model: str | None,
    ids: "PredictionIds | None",
) -> list[dict[str, Any]]:
    """The last `wanted` rows and gaps by arrival, oldest first; no more are held at a time."""
    from eventlog import RecordKind

    best: list[dict[str, Any]] = []
    for producer, last in end.items() if wanted > 0 else ():
        for glance in log.backward(producer, last):
            oldest_ns = best[0]["ts_ns"] if len(best) == wanted else 0
            if glance.kind is RecordKind.DATA:
                if glance.newest_ns + LATE_NS < oldest_ns:
                    break
                if model not in (None, glance.model):
                    continue
            if glance.newest_ns < oldest_ns:
                continue
            stored = log.fetch(producer, glance.offset)
            found = _rows(stored, model, ids, oldest_ns, wanted) if stored else ()
            best = sorted((*found, *best), key=lambda row: row["ts_ns"])[-wanted:]
    return best


def _rows(
    stored: "StoredRecord",
    model: str | None,
    ids: "PredictionIds | None",
    since_ns: int = 0,
    wanted: int | None = None,
) -> Iterator[dict[str, Any]]:
    """What tail prints of a record: its predictions, or its gap.

    Of predictions, the last `wanted` of those that arrived at `since_ns` or later.
    """
    from eventlog import PREDICTIONS, RecordKind, decode_predictions, parse_gap

    record = stored.record
    if record.stream != PREDICTIONS:
        return
    if record.kind is RecordKind.GAP:
        gap = parse_gap(record)
        if model in (None, gap.model):
            yield {
                "kind": "gap",
                "ts_ns": record.watermark_ns,
                "producer": record.producer,
                "model": gap.model,
                "reason": gap.reason.label,
                "rows": gap.rows,
            }
    elif record.kind is RecordKind.DATA and model in (None, record.headers["model"]):
        rows = decode_predictions(record)
        order = [i for i in rows.ts_ns.argsort(kind="stable").tolist() if rows.ts_ns[i] >= since_ns]
        chosen = sorted(order[-wanted:] if wanted else order)
        yield from _predictions(rows, chosen, record.producer, ids)


def _predictions(
    rows: "PredictionRows", chosen: Sequence[int], producer: str, ids: "PredictionIds | None"
) -> Iterator[dict[str, Any]]:
    from eventlog.core.rows_json import request_ids, row_documents

    names = request_ids(rows, producer, ids.codec) if ids else None
    if names is None:
        names = [f"{producer}/{number}" for number in rows.sequences().tolist()]
    return row_documents(rows, chosen, names)


def _print_row(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        import orjson  # writes NaN as null, which JSON has no word for

        print(orjson.dumps(row).decode())
        return
    when = datetime.fromtimestamp(row["ts_ns"] / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3]
    if row["kind"] == "gap":
        print(f"{when}  gap: {row['rows']} rows, {row['reason']}  {row['producer']} {row['model']}")
        return
    outputs = " ".join(f"{name}={_short(value)}" for name, value in row["outputs"].items())
    print(
        f"{when}  {row['prediction_id']}.{row['row']}"
        f"  {row['model']} {row['version']} {row['role']}"
        f"  {row['status']}  {row['latency_ms']:.2f} ms  {_clipped(outputs)}".rstrip()
    )


def _clipped(text: str) -> str:
    return text if len(text) <= OUTPUTS_WIDTH else text[: OUTPUTS_WIDTH - 1] + "…"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ",".join(_short(item) for item in value) + "]"
    return str(value)
