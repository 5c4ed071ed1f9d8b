"""Spools for a shipper, the shipper as a process, and what has come of them in Kafka."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eventlog import (
    GapReason,
    Label,
    LedgerLine,
    LogSettings,
    RecordKind,
    SqliteLog,
    close_books,
    encode_labels,
    encode_predictions,
    fake_rows,
    ledger,
    parse_gap,
)
from eventlog.core.intervals import Intervals
from eventlog.core.kafka_message import is_copy
from eventlog.core.marks import end_record, gap_record
from eventlog.core.record import LABELS, PREDICTIONS, Record, runs_of
from eventlog.kafka.figures import read_figures
from eventlog.kafka.log import KafkaLog
from eventlog.log import scan
from eventlog.positions import SHIPPER_GROUP
from eventlog.settings import KafkaSettings
from tests.conftest import ROOT

MODELS = ("m0", "m1", "m2", "m3", "m4")  # of a few partitions
PATIENCE_S = 120.0
START_NS = time.time_ns() - 3_600_000_000_000  # not so old that a broker drops it


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Producer:
    """Writes rows of all models in turn, gaps, labels and heartbeats among them."""

    def __init__(self, directory: Path, name: str, **settings: Any) -> None:
        self.directory, self.name = directory, name
        self._log = SqliteLog(directory, producer=name, settings=LogSettings(**settings))
        self.rows = self.labels = 0
        self._now_ns = START_NS

    def write(self, records: int, rows: int = 20) -> None:
        for _ in range(records):
            self._log.append([self._next(rows)])

    def end(self) -> None:
        self._log.append([end_record(self.name, self.rows, self._now_ns, clean=True)])
        self.crash()

    def crash(self) -> None:
        self._log.close()
        close_books(self.directory, group=SHIPPER_GROUP)

    def _next(self, rows: int) -> Record:
        self._now_ns += 200_000_000
        first, watermark_ns = self.rows, self._now_ns
        number = self.rows // rows + self.labels
        model = MODELS[number % len(MODELS)]
        if number % 11 == 7:
            self.labels += 1
            labels = [Label("x.0", 0, watermark_ns, 1.0)]
            return encode_labels(
                model, labels, self.name, self.labels - 1, watermark_ns, arrived_ns=watermark_ns
            )
        self.rows += rows
        if number % 13 == 5:
            return gap_record(
                self.name, [(first, rows)], GapReason.OVERFLOW, watermark_ns=watermark_ns
            )
        made = fake_rows(first, rows, model=model, ts_ns=watermark_ns - 1)
        return encode_predictions(made, self.name, watermark_ns)


@dataclass
class Arrived:
    """What the topics hold of one producer, prediction rows by number.

    twice: rows that came more than once.
    """

    data: Intervals = field(default_factory=Intervals)
    gaps: dict[str, Intervals] = field(default_factory=dict)
    labels: Intervals = field(default_factory=Intervals)
    twice: int = 0
    ends: int = 0

    @property
    def accounted(self) -> Intervals:
        runs = [run for gap in self.gaps.values() for run in gap.runs()]
        return Intervals([*self.data.runs(), *runs])


def arrived(address: str, settings: KafkaSettings) -> dict[str, Arrived]:
    """Everything in the topics; asserts that first copies come in the order of their log."""
    found: dict[str, Arrived] = {}
    watermarks: dict[tuple[str, str], int] = {}
    log = KafkaLog(address, settings)
    try:
        for stored in scan(log, log.end()):
            record = stored.record
            mine = found.setdefault(record.producer, Arrived())
            key = stored.partition, record.producer
            is_new = record.watermark_ns > watermarks.get(key, -1)
            watermarks[key] = max(watermarks.get(key, -1), record.watermark_ns)
            if record.kind is RecordKind.END:
                mine.ends += 1
            elif record.kind is not RecordKind.HEARTBEAT and not is_copy(record):
                assert _take(mine, record) == 0 or is_new, "a row came behind its watermark"
    finally:
        log.close()
    return found


def _take(mine: Arrived, record: Record) -> int:
    """Returns how many of its rows are new."""
    if record.stream == LABELS:
        into = mine.labels
    elif record.kind is RecordKind.DATA:
        into = mine.data
    else:
        into = mine.gaps.setdefault(parse_gap(record).reason.label, Intervals())
    before = into.total
    into.update(runs_of(record))
    if record.stream == PREDICTIONS:
        mine.twice += record.rows - (into.total - before)
    return into.total - before


def document(state_dir: Path, settings: LogSettings, kafka: KafkaSettings) -> dict[str, Any]:
    return {"state_dir": str(state_dir), "log": asdict(settings), "kafka": asdict(kafka)}


class ShipperProcess:
    """`python -m eventlog.kafka` on one state directory; what it says is kept."""

    def __init__(
        self, state_dir: Path, address: str, kafka: KafkaSettings, gateway_url: str = ""
    ) -> None:
        self.state_dir, self.log_dir = state_dir, state_dir / "log"
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._document = document(state_dir, LogSettings(kafka=address), kafka)
        self._document["gateway_url"] = gateway_url
        self._output = state_dir.parent / f"{state_dir.name}-shipper.txt"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> str:
        return self._output.read_text()

    def start(self) -> "ShipperProcess":
        descriptor = os.memfd_create("config", 0)
        os.write(descriptor, json.dumps(self._document).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eventlog.kafka", "--config-fd", str(descriptor)],
                cwd=ROOT, pass_fds=(descriptor,), stdout=output, stderr=output,
            )  # fmt: skip
        os.close(descriptor)
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """What it ends with on SIGTERM, which it heeds from before it first publishes figures."""
        process = self.process
        assert process is not None
        run_dir = self.state_dir / "run"

        def heeds() -> bool:
            figures = read_figures(run_dir)
            return process.poll() is not None or (
                figures is not None and figures.pid == process.pid
            )

        eventually(heeds, "the shipper has started")
        process.terminate()
        return process.wait(60)

    def lines(self) -> Mapping[str, LedgerLine]:
        return {line.producer: line for line in ledger(self.log_dir, SHIPPER_GROUP)}

    def until_shipped(self, rows: Mapping[str, int]) -> None:
        """Until it has published that all of these are delivered or gaps."""
        eventually(lambda: self._shipped(rows), f"shipped: {self._shown()}; {self.said[-1000:]}")

    def _shipped(self, rows: Mapping[str, int]) -> bool:
        lines = self.lines()
        return all(
            lines[name].spooled == lines[name].unexplained == 0
            and lines[name].acknowledged == count
            for name, count in rows.items()
        )

    def _shown(self) -> str:
        return str(list(self.lines().values()))
