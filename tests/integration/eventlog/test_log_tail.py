"""`driftgate log tail` on logs with idle, dead and busy workers, odd tensors and damage."""

import json
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.errors import CliError
from eventlog import (
    GapReason,
    LogSettings,
    PredictionIds,
    PredictionRows,
    PredictionWriter,
    Record,
    SqliteLog,
    close_books,
    encode_predictions,
    fake_rows,
)
from eventlog.core.marks import gap_record, heartbeat_record
from tests.integration.eventlog.log_commands import run

OLD, NEW = "aaaaaa", "bbbbbb"
SECOND_NS = 10**9
TS_NS = 1_700_000_000 * SECOND_NS
MIB = 1024 * 1024


def write(state_dir: Path, producer: str, records: Iterable[Record], **settings: Any) -> None:
    PredictionIds.load(state_dir)
    log = SqliteLog(state_dir / "log", producer=producer, settings=LogSettings(**settings))
    for record in records:
        log.append([record])
    log.close()


def data(producer: str, first: int, second: float, count: int = 1, **made: Any) -> Record:
    rows = fake_rows(first, count, ts_ns=TS_NS + int(second * SECOND_NS), **made)
    return encode_predictions(rows, producer, 0)


def tail(state_dir: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    capsys.readouterr()
    assert run(state_dir, "tail", "--json", *words) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def outputs(rows: list[Any]) -> list[float]:
    return [row["outputs"]["y"] for row in rows]


def test_rows_of_a_worker_that_idles_come_before_older_ones_of_a_dead_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, OLD, [data(OLD, i, i) for i in range(20)])
    idle = [heartbeat_record(NEW, 5, TS_NS + i * SECOND_NS) for i in range(300)]
    write(tmp_path, NEW, [data(NEW, 100 + i, 100 + i) for i in range(5)] + idle)
    assert outputs(tail(tmp_path, capsys, "-n", "5")) == [100, 101, 102, 103, 104]
    assert outputs(tail(tmp_path, capsys, "-n", "7")) == [18, 19, 100, 101, 102, 103, 104]


def test_a_slow_batch_does_not_hide_what_was_logged_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, OLD, [data(OLD, i, 100 + i) for i in range(3)])
    slow = data(NEW, 200, 60)  # it arrived first and took 45 s
    write(tmp_path, NEW, [data(NEW, 103 + i, 103 + i) for i in range(3)] + [slow])
    assert outputs(tail(tmp_path, capsys, "-n", "4")) == [2, 103, 104, 105]


@pytest.mark.parametrize("segment_bytes", [1, 1 << 30])
def test_the_last_rows_are_those_of_every_segment_and_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], segment_bytes: int
) -> None:
    records = [data(OLD, i, i, model="rare" if i == 1 else "often") for i in range(12)]
    write(tmp_path, OLD, records, segment_bytes=segment_bytes)
    assert outputs(tail(tmp_path, capsys, "-n", "100")) == list(range(12))
    assert outputs(tail(tmp_path, capsys, "--model", "rare")) == [1]
    assert tail(tmp_path, capsys, "--model", "nobody") == []
    assert tail(tmp_path, capsys, "-n", "0") == []


def test_gaps_stand_where_their_producer_had_come_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gap = gap_record(
        OLD, [(2, 3)], GapReason.OVERFLOW, model="m", watermark_ns=TS_NS + 3 * SECOND_NS // 2
    )
    write(tmp_path, OLD, [data(OLD, 0, 0), data(OLD, 1, 1), gap, data(OLD, 5, 5)])
    kinds = [row["kind"] for row in tail(tmp_path, capsys, "-n", "3")]
    assert kinds == ["prediction", "gap", "prediction"]


def test_a_few_rows_of_large_records_take_little_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = {"x": np.zeros((4096, 32), np.float32)}
    for producer in (OLD, NEW):
        records = [data(producer, 4096 * i, i, 4096, inputs=inputs) for i in range(12)]
        write(tmp_path, producer, records)
        del records
    tracemalloc.start()
    rows = tail(tmp_path, capsys, "-n", "3")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) == 3
    assert peak < 8 * MIB


def odd(first: int) -> PredictionRows:
    inputs = {
        "brain": np.array([0x3F80], np.uint16),
        "large": np.ones((1, 3000), np.float32),
        "none": np.zeros((1, 0), np.float32),
        "words": np.array([[b"cat", b"\xff"]], dtype=np.object_),
        "huge": np.array([2**64 - 1], np.uint64),
        "nan": np.array([np.nan], np.float32),
    }
    return replace(
        fake_rows(first, 1, ts_ns=TS_NS, inputs=inputs), datatypes={"input:brain": "BF16"}
    )


def test_odd_tensors_are_shown_by_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PredictionIds.load(tmp_path)
    writer = PredictionWriter(tmp_path / "log", OLD, LogSettings(record_bytes_max=4096))
    writer.offer(odd(writer.assign(1)))
    assert writer.close(30)
    (row,) = tail(tmp_path, capsys)
    large = row["inputs"].pop("large")
    assert large.startswith("sha256:")
    assert len(large) == len("sha256:") + 64
    assert row["inputs"] == {
        "brain": 1.0, "none": [],
        "words": ["cat", {"base64": "/w=="}], "huge": 2**64 - 1, "nan": None,
    }  # fmt: skip


@pytest.mark.parametrize("verb", ["tail", "stats"])
def test_a_log_that_cannot_be_read_is_one_error(tmp_path: Path, verb: str) -> None:
    write(tmp_path, OLD, [data(OLD, 0, 0)])
    (tmp_path / "id.keys").write_text("no key")
    (tmp_path / "log" / "positions").mkdir()
    (tmp_path / "log" / "positions" / "monitor.json").write_text("no position")
    with pytest.raises(CliError, match="prediction log cannot be read") as caught:
        run(tmp_path, verb)
    assert ("id.keys" if verb == "tail" else "monitor.json") in str(caught.value)


def test_what_is_left_of_a_damaged_log_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, OLD, [data(OLD, i, i) for i in range(8)], segment_bytes=1)
    close_books(tmp_path / "log")
    victim = sorted((tmp_path / "log").glob(f"{OLD}-*.db"))[3]
    victim.write_bytes(b"\xde\xad" * (victim.stat().st_size // 2))
    rows = tail(tmp_path, capsys, "-n", "100")
    assert outputs([row for row in rows if row["kind"] == "prediction"]) == [0, 1, 2, 4, 5, 6, 7]
