"""How soon a loss that rises is found, beside river's detectors on the same streams.

Losses of 0 and 1 whose mean goes from .10 to .20. Ours know the mean before from a
reference sample alone, its error included, and page falsely once in a million rows
(or blocks) on average: a promise, not a tuning. What alarms always has the least
delay of all, so a delay is worth what is known of the false alarms beside it.
"""

import io
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from monitor.core.bins import AnyArray, Floats
from monitor.core.evidence import Bets, mean_bets
from monitor.core.profile import LossReference, ReferenceProfile
from monitor.core.watched import loss_bound

BEFORE, AFTER = 0.10, 0.20
REFERENCE_ROWS = 50_000
BUDGET = 1e6  # rows in row mode, blocks in block mode
CHANGE, ROWS = 5000, 10_000
BLOCK_ROWS = 25
STREAMS = 500
SEED = 20261128


@dataclass(frozen=True, slots=True)
class Outcome:
    """delays: to the first alarm after the change, None without one; false: streams with
    an alarm before it."""

    unit: str
    streams: int
    false: int
    delays: Sequence[int | None]

    @property
    def median(self) -> float | None:
        """Streams without an alarm count as the longest delays."""
        middle = median(float("inf") if delay is None else delay for delay in self.delays)
        return None if middle == float("inf") else middle


def measure(
    streams: int = STREAMS, river: tuple[Path, Path] | None = None, seed: int = SEED
) -> dict[str, Any]:
    """river: the Python that has it, and the script that it runs; None: ours alone."""
    random = np.random.default_rng(seed)
    losses = random.random((streams, ROWS)) < np.where(np.arange(ROWS) < CHANGE, BEFORE, AFTER)
    bounds = np.array([_bound(random) for _ in range(streams)])
    outcomes = {"driftgate, rows": ours(losses, bounds, 1)}
    outcomes["driftgate, blocks"] = ours(losses, bounds, BLOCK_ROWS)
    if river is not None:
        outcomes |= theirs(losses, *river)
    outcomes["always"] = Outcome("rows", streams, streams, [1] * streams)
    return {
        "what": f"losses from {BEFORE} to {AFTER} at row {CHANGE}, {streams} streams, seed {seed}",
        "detectors": {
            name: {
                "unit": found.unit,
                "streams": found.streams,
                "median_delay": found.median,
                "found_share": sum(d is not None for d in found.delays) / found.streams,
                "false_alarm_share": found.false / found.streams,
            }
            for name, found in outcomes.items()
        },
        "text": _text(outcomes),
    }


def _bound(random: np.random.Generator) -> float:
    """The mean loss that a reference sample allows, by the rule of the monitor; no tolerance."""
    losses = random.random(REFERENCE_ROWS) < BEFORE
    error = float(losses.std(ddof=1)) / REFERENCE_ROWS**0.5
    loss = LossReference(float(losses.mean()), error, REFERENCE_ROWS)
    bound = loss_bound(ReferenceProfile(REFERENCE_ROWS, (), loss=loss), 0.0)
    assert bound is not None
    return bound


def ours(losses: AnyArray, bounds: Floats, block_rows: int) -> Outcome:
    """All streams at once; blocks of one row are bet on as rows, others as block means."""
    streams, rows = losses.shape
    bets = mean_bets(bounds, 1.0, BUDGET)
    assert bets.size % streams == 0
    m, change = bets.start(), CHANGE // block_rows
    early = np.zeros(streams, dtype=np.bool_)
    delays: list[int | None] = [None] * streams
    for block in range(rows // block_rows):
        own = losses[:, block * block_rows : (block + 1) * block_rows].sum(axis=1)
        if block_rows == 1:
            m = bets.step_rows(m, own, np.ones(streams), 1.0)
        else:
            m = bets.step(m, own / block_rows, 1.0)
        alarms = _evidence(bets, m, streams) >= BUDGET
        if block < change:
            early |= alarms
            continue
        for stream in np.flatnonzero(alarms):
            if delays[stream] is None:
                delays[stream] = block - change + 1
        if None not in delays:
            break
    return Outcome("rows" if block_rows == 1 else "blocks", streams, int(early.sum()), delays)


def _evidence(bets: Bets, m: Floats, streams: int) -> Floats:
    """Of each stream on its own: the streams share the weight of `bets` evenly."""
    own = np.bincount(bets.event, m * bets.weight, minlength=streams)
    return own.astype(np.float64) * streams


def theirs(losses: AnyArray, python: Path, script: Path) -> dict[str, Outcome]:
    """Raises: CalledProcessError when the script fails, OSError when there is none."""
    data = io.BytesIO()
    np.save(data, losses.astype(np.int8))
    argv = [str(python), str(script), str(CHANGE)]
    done = subprocess.run(argv, input=data.getvalue(), stdout=subprocess.PIPE, check=True)
    return {
        name: Outcome("rows", found["streams"], found["false"], found["delays"])
        for name, found in json.loads(done.stdout).items()
    }


def _text(outcomes: Mapping[str, Outcome]) -> str:
    lines = [
        f"{'':20}{'median delay':>16}{'found':>8}{'streams with a false alarm':>28}",
    ]
    for name, found in outcomes.items():
        delay = "never" if found.median is None else f"{found.median:.0f} {found.unit}"
        share = sum(item is not None for item in found.delays) / found.streams
        false = found.false / found.streams
        lines.append(f"{name:<20}{delay:>16}{share:>8.0%}{false:>20.1%} of {found.streams}")
    lines += [
        f"before the change {CHANGE} rows; a block is {BLOCK_ROWS} rows; ours page falsely once in",
        f"{BUDGET:.0e} rows (blocks) on average, whatever the stream; the others promise no rate",
    ]
    return "\n".join(lines)
