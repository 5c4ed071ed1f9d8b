"""The batcher beside fixed delays and a regression, in virtual time.

Every policy sees the same arrivals and the same run times, and nothing depends on
the machine: the table is the same everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving.core.latency import LatencyProfile
from serving.core.simulate import (
    Arrival,
    FixedDelay,
    Ours,
    Outcome,
    Policy,
    Regression,
    simulate,
)

ROWS_MAX = 32
BASE_NS, ROW_NS = 2_000_000, 100_000  # of a run: 6,154 rows/s in full batches
JITTER = 0.1  # sigma of the log of a run's time
PATIENCE_NS = 50_000_000
SEED = 6
CAPACITY_PER_S = ROWS_MAX * 1e9 / (BASE_NS + ROWS_MAX * ROW_NS)

LOADS = (0.3, 0.7, 0.95, 1.3, 3.0, 10.0)
BURST_S = 0.1  # bursty traffic is twice the rate for so long on average, then none


def _constant(rate: float, count: int, _: np.random.Generator) -> Any:
    return np.arange(count) / rate


def _poisson(rate: float, count: int, chance: np.random.Generator) -> Any:
    return np.cumsum(chance.exponential(1 / rate, count))


def _bursty(rate: float, count: int, chance: np.random.Generator) -> Any:
    """Poisson at twice the rate, with silences between that are as long as the bursts."""
    busy_s = np.cumsum(chance.exponential(1 / (2 * rate), count))
    ends_s = np.cumsum(chance.exponential(BURST_S, count))
    silences_s = np.concatenate([[0.0], np.cumsum(chance.exponential(BURST_S, count))])
    return busy_s + silences_s[np.searchsorted(ends_s, busy_s)]


ARRIVALS: dict[str, Callable[[float, int, np.random.Generator], Any]] = {
    "constant": _constant,
    "Poisson": _poisson,
    "bursty": _bursty,
}


def _profile() -> LatencyProfile:
    """As measured at load: every power of two, a few times."""
    sizes = [1 << index for index in range(ROWS_MAX.bit_length())]
    return LatencyProfile((rows, BASE_NS + rows * ROW_NS) for rows in sizes for _ in range(3))


POLICIES: dict[str, Callable[[], Policy]] = {
    "delay 0": lambda: FixedDelay(ROWS_MAX, 0),
    "delay 1 ms": lambda: FixedDelay(ROWS_MAX, 1_000_000),
    "delay 5 ms": lambda: FixedDelay(ROWS_MAX, 5_000_000),
    "delay 10 ms": lambda: FixedDelay(ROWS_MAX, 10_000_000),
    "regression": lambda: Regression(ROWS_MAX),
    "ours": lambda: Ours(ROWS_MAX, _profile()),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One policy at one load. goodput: answers in time, as a share of the capacity."""

    arrivals: str
    load: float
    policy: str
    goodput: float
    in_time: float  # share of the requests
    p50_ms: float  # of the answers, late ones included
    p99_ms: float
    batch_rows: float
    refused: float  # share of the requests, at once or after a wait


def run_times(chance: np.random.Generator) -> Callable[[int, int], int]:
    """A run's time by its number and rows."""
    jitter = np.exp(chance.normal(0.0, JITTER, 65_536)).tolist()
    return lambda number, rows: int((BASE_NS + rows * ROW_NS) * jitter[number % len(jitter)])


def traffic(kind: str, load: float, seconds: float) -> list[Arrival]:
    """Requests of one row each."""
    rate = load * CAPACITY_PER_S
    chance = np.random.default_rng([SEED, int(load * 100), list(ARRIVALS).index(kind)])
    times_s = ARRIVALS[kind](rate, int(rate * seconds), chance)
    return [Arrival(int(at_s * 1e9), PATIENCE_NS) for at_s in times_s]


def judge(arrivals: Sequence[Arrival], outcome: Outcome) -> tuple[int, Any]:
    """(answers in time, milliseconds of all answers)."""
    took = np.array([ns for _, ns in outcome.answers] or [0], float)
    in_time = sum(ns <= arrivals[index].patience_ns for index, ns in outcome.answers)
    return in_time, took / 1e6


def measure(seconds: float, loads: Sequence[float] = LOADS) -> dict[str, Any]:
    """seconds: of virtual traffic in each case."""
    rows = []
    for kind in ARRIVALS:
        for load in loads:
            arrivals = traffic(kind, load, seconds)
            span_s = max(arrivals[-1].at_ns * 1e-9, 1e-9)
            for name, policy in POLICIES.items():
                outcome = simulate(arrivals, policy(), run_times(np.random.default_rng(SEED)))
                in_time, took_ms = judge(arrivals, outcome)
                rows.append(
                    Row(
                        kind,
                        load,
                        name,
                        in_time / span_s / CAPACITY_PER_S,
                        in_time / len(arrivals),
                        float(np.percentile(took_ms, 50)),
                        float(np.percentile(took_ms, 99)),
                        float(np.mean(outcome.batches)),
                        (len(outcome.refused) + len(outcome.expired)) / len(arrivals),
                    )
                )
    return {
        "benchmark": "batching",
        "what": f"virtual time: a run of n rows takes {BASE_NS / 1e6:g} + {ROW_NS / 1e6:g} n ms, "
        f"n up to {ROWS_MAX}; requests of one row, {PATIENCE_NS // 1_000_000} ms to their deadline",
        "capacity_rows_per_s": CAPACITY_PER_S,
        "seconds": seconds,
        "rows": [asdict(row) for row in rows],
    }


def as_text(result: dict[str, Any]) -> str:
    """The table."""
    lines = [
        result["what"],
        f"load 1 is {result['capacity_rows_per_s']:.0f} rows/s; goodput counts answers in time",
        f"{'arrivals':10}{'load':>6}  {'policy':12}{'goodput':>8}{'in time':>9}{'p50':>11}"
        f"{'p99':>12}{'rows':>7}{'refused':>9}",
    ]
    lines += [
        f"{row['arrivals']:10}{row['load']:6.2f}  {row['policy']:12}{row['goodput']:8.2f}"
        f"{row['in_time']:9.1%}{row['p50_ms']:8.1f} ms{row['p99_ms']:9.1f} ms"
        f"{row['batch_rows']:7.1f}{row['refused']:9.1%}"
        for row in result["rows"]
    ]
    return "\n".join(lines)
