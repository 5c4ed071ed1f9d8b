"""`driftgate label`: truth that is known in bulk, from a file to a gateway."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.config import load_config
from driftgate.errors import CliError, Exit
from driftgate.monitor_client import ask, monitor_url
from driftgate.progress import ProgressBar

if TYPE_CHECKING:
    from driftgate.labelling.sender import Sender

WAIT_S = 15.0
LOOK_S = 0.5
REASONS_SHOWN = 5


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("label", help="send labels that are known in bulk")
    verbs = parser.add_subparsers(metavar="verb", required=True)
    imported = verbs.add_parser(
        "import",
        help="send the labels of a Parquet or CSV file",
        description="Sends the labels of a file to the gateway, as POST /v2/models/MODEL/labels "
        "takes them. Rows without a label are passed over. It may be run again over the same "
        "file: what was sent before is counted as a duplicate and changes nothing. Exit codes: "
        "0 all were taken, 1 some were refused or the file cannot be used, 4 no gateway answers.",
        parents=[common_options()],
    )
    imported.add_argument("file", type=Path, metavar="FILE", help=".parquet or .csv")
    imported.add_argument("model")
    imported.add_argument(
        "--id", default="prediction_id", metavar="COLUMN", help="ID or ID.row (prediction_id)"
    )
    imported.add_argument(
        "--row", metavar="COLUMN", help="the row within its request, if the id does not say"
    )
    imported.add_argument("--label", default="label", metavar="COLUMN", help="the truth (label)")
    imported.add_argument("--time", metavar="COLUMN", help="when the truth became known")
    imported.add_argument("--skip", type=int, default=0, metavar="ROWS", help="pass over the first")
    imported.add_argument(
        "--wait", type=float, default=WAIT_S, metavar="S", help="for what becomes of them (15)"
    )
    imported.add_argument("--url", metavar="URL", help="of the gateway's HTTP port")
    imported.set_defaults(run=run_import)


def run_import(args: argparse.Namespace) -> int:
    from driftgate.labelling.label_file import LabelColumns, LabelFileError
    from driftgate.labelling.sender import Sender

    if args.skip < 0 or args.wait < 0:
        raise CliError("--skip and --wait are 0 or more", code=Exit.USAGE)
    config = load_config(args)
    monitor = monitor_url(config)
    before = _fates(monitor, args.model)
    own = "" if args.url else config.gateway.tls.certificate_file
    sender = Sender((args.url or config.http_url).rstrip("/"), args.model, own)
    columns = LabelColumns(args.id, args.label, args.row, args.time)
    try:
        document = _send(args, columns, sender)
    except LabelFileError as error:
        raise CliError("the file cannot be used", str(error), error.hint) from error
    document["fates"] = _became(monitor, args.model, before, sender.taken, args.wait)
    print(json.dumps(document) if args.output == "json" else "\n".join(_lines(document)))
    unfinished = document["stopped"] or document["unusable"] or document["refused"]
    return Exit.FAILED if unfinished else Exit.OK


def _send(args: argparse.Namespace, columns: Any, sender: "Sender") -> dict[str, Any]:
    from driftgate.labelling.label_file import read_labels
    from driftgate.labelling.sender import TooManyRefused

    unusable: list[tuple[int, str]] = []
    unlabelled, read, stopped = 0, args.skip, ""
    with ProgressBar(f"sending {args.file.name}") as bar:
        for batch in read_labels(args.file, columns, args.skip):
            try:
                sender.send(batch.entries)
            except TooManyRefused as error:
                stopped = str(error)
                break
            except CliError as error:
                again = f"go on with --skip {read}"
                error.hint = f"{error.hint}; then {again}" if error.hint else again
                raise
            unusable += batch.unusable
            unlabelled += batch.unlabelled
            read += batch.rows
            bar(batch.done)
    return {
        "rows": read,
        "taken": sender.taken,
        "unlabelled": unlabelled,
        "unusable": len(unusable),
        "refused": len(sender.refused),
        "stopped": stopped,
        "reasons": [
            {"row": row, "reason": reason}
            for row, reason in sorted([*unusable, *sender.refused])[:REASONS_SHOWN]
        ],
    }


def _fates(monitor: str, model: str) -> dict[str, int] | None:
    """What became of the model's labels until now; None: no monitor says."""
    try:
        models = ask(f"{monitor}/v1/state")["models"]
    except CliError:
        return None
    fates: dict[str, int] = models.get(model, {}).get("labels", {})
    return fates


def _became(
    monitor: str, model: str, before: dict[str, int] | None, taken: int, wait_s: float
) -> dict[str, int] | None:
    """By what became of the labels that the monitor has joined since the import began.

    Others may have sent some too; nobody can tell those apart.
    """
    if before is None:
        return None
    until = time.monotonic() + wait_s
    while True:
        now = _fates(monitor, model) or {}
        new = {fate: count - before.get(fate, 0) for fate, count in sorted(now.items())}
        found = {fate: count for fate, count in new.items() if count > 0}
        if sum(found.values()) >= taken or time.monotonic() >= until:
            return found
        time.sleep(LOOK_S)


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [f"{document['taken']} labels taken, {document['unlabelled']} rows without one"]
    for name, word in (("unusable", "cannot be labels"), ("refused", "were refused")):
        if document[name]:
            lines.append(f"{document[name]} rows {word}")
    lines += [f"  row {item['row']}: {item['reason']}" for item in document["reasons"]]
    if document["stopped"]:
        lines.append(
            f"stopped: {document['stopped']}; --skip {document['rows']} goes on from there"
        )
    fates = document["fates"]
    if fates is None:
        lines.append("no monitor answers, so what became of them is not known")
        return lines
    told = ", ".join(f"{count} {fate}" for fate, count in fates.items()) or "none joined yet"
    lines.append(f"the monitor: {told}")
    waiting = document["taken"] - sum(fates.values())
    if waiting > 0:
        lines.append(f"{waiting} not seen by it yet; `GET /v1/state` of the monitor counts them")
    return lines
