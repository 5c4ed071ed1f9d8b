"""kill -9 of a writing process at random moments: every acknowledged row is accounted for."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eventlog import (
    ConsumedTally,
    LogSettings,
    RecordKind,
    SqliteLog,
    allocate_incarnation,
    close_books,
    decode_predictions,
    enforce_retention,
    ledger,
    publish_position,
)
from eventlog.core.intervals import Intervals
from eventlog.core.record import PREDICTIONS, runs_of

# Journals every acknowledged row to stdout after `assign`, as a client would.
WORKER = """
import sys, random
from pathlib import Path
import numpy as np
from eventlog import GapReason, LogSettings, PredictionWriter, fake_rows
directory, producer, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
settings = LogSettings(flush_ms=3, segment_bytes=60_000, segment_s=0.2, heartbeat_ms=10)
writer = PredictionWriter(directory, producer, settings)
chance = random.Random(seed)
late = []
while True:
    count = chance.randrange(1, 40)
    first = writer.assign(count)
    sys.stdout.write(f"{first} {count}\\n"); sys.stdout.flush()
    kind = chance.random()
    model = chance.choice("mn")
    if kind < 0.1:
        writer.skip(first, count, GapReason.SAMPLED, model)
    elif kind < 0.3:
        late.append((first, count, model))
    else:
        writer.offer(fake_rows(first, count, model=model))
    if len(late) > 5:
        first, count, model = late.pop(chance.randrange(len(late)))
        writer.offer(fake_rows(first, count, model=model))
"""


def run_and_kill(directory: Path, seed: int, seconds: float) -> tuple[str, Intervals]:
    """One incarnation, killed. Returns its name and what it had told its client."""
    producer = allocate_incarnation(directory)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory), producer, str(seed)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    journal = process.stdout.readline()  # it writes: the random time starts now
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            journal += process.stdout.read1(65_536)
    finally:
        process.kill()
        journal += process.stdout.read()
        process.wait()
        process.stdout.close()
    told = Intervals()
    for line in journal.decode().splitlines(keepends=True):
        if line.endswith("\n"):
            first, count = line.split()
            told.add(int(first), int(count))
    return producer, told


def consume(directory: Path, tally: ConsumedTally, seen: dict[str, Intervals]) -> None:
    """Read everything, checking that no row comes twice and each is what was sent."""
    log = SqliteLog(directory)
    try:
        while batch := log.read(tally.consumed().position, 50):
            for stored in batch:
                tally.add(stored)
                record = stored.record
                if record.stream != PREDICTIONS:
                    continue
                rows = seen.setdefault(record.producer, Intervals())
                before = rows.total
                rows.update(runs_of(record))
                assert rows.total == before + record.rows, "a row came twice"
                if record.kind is RecordKind.DATA:
                    decoded = decode_predictions(record)
                    assert decoded.outputs["y"].tolist() == decoded.sequences().tolist()
    finally:
        log.close()
    publish_position(directory, "monitor", tally.consumed())


def scenario(directory: Path, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    tally, seen = ConsumedTally(), dict[str, Intervals]()
    for _ in range(kills):
        producer, told = run_and_kill(directory, seed, chance.uniform(0.0, 0.4))
        if chance.random() < 0.5:
            consume(directory, tally, seen)  # also between the death and the closing
        (closed,) = close_books(directory)
        assert closed.producer == producer
        assert not closed.damaged
        assert not closed.uncertain
        assert closed.acknowledged >= told.end
        if chance.random() < 0.5:
            consume(directory, tally, seen)
        if chance.random() < 0.3:
            enforce_retention(directory, LogSettings(retention_bytes=200_000), time.time_ns())
        for line in ledger(directory):
            assert line.unexplained == 0, line
    consume(directory, tally, seen)
    for line in ledger(directory):
        assert (line.unexplained, line.spooled) == (0, 0)
        assert line.acknowledged == line.delivered + sum(line.gaps.values())
        assert seen[line.producer].runs() == ((0, line.acknowledged),)
    print(json.dumps({line.producer: dict(line.gaps) for line in ledger(directory)}))


def test_the_ledger_is_exact_after_kills_at_random_moments(tmp_path: Path) -> None:
    scenario(tmp_path, kills=4)


@pytest.mark.ci
def test_the_ledger_is_exact_after_many_kills(tmp_path: Path) -> None:
    scenario(tmp_path, kills=40)
