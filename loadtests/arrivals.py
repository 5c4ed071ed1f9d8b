"""When requests come: due times in seconds from the begin, rising.

A generator that keeps to them, whatever the server does, is an open loop: a slow
reply holds no later request back.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Times: TypeAlias = NDArray[np.float64]

# Bursts: this many times the quiet rate for a tenth of the time, in spells of 50 ms.
BURST_FACTOR = 8.0
BURST_SHARE = 0.1
BURST_S = 0.05


def spaced(per_s: float, seconds: float) -> Times:
    """As a clock ticks."""
    return np.arange(int(per_s * seconds)) / per_s


def poisson(per_s: float, seconds: float, random: np.random.Generator) -> Times:
    """Independent clients."""
    return _uniform(int(random.poisson(per_s * seconds)), 0.0, seconds, random)


def bursty(per_s: float, seconds: float, random: np.random.Generator) -> Times:
    """Two Poisson rates that take turns for spells of random length; `per_s` on average."""
    quiet_per_s = per_s / (1 + BURST_SHARE * (BURST_FACTOR - 1))
    spells, at, burst = [], 0.0, False
    while at < seconds:
        mean_s = BURST_S if burst else BURST_S * (1 - BURST_SHARE) / BURST_SHARE
        end = min(at + float(random.exponential(mean_s)), seconds)
        rate = quiet_per_s * (BURST_FACTOR if burst else 1.0)
        spells.append(_uniform(int(random.poisson(rate * (end - at))), at, end, random))
        at, burst = end, not burst
    return np.concatenate(spells)


def replay(file: Path) -> Times:
    """Recorded times, one a line, in seconds of any epoch. Raises: ValueError."""
    times: Times = np.sort(np.loadtxt(file, dtype=np.float64, ndmin=1))
    if not times.size or not np.all(np.isfinite(times)):
        raise ValueError(f"{file}: expected one time in seconds a line")
    times -= times[0]
    return times


def _uniform(count: int, start: float, end: float, random: np.random.Generator) -> Times:
    """The arrivals of a Poisson process, given how many there are."""
    return np.sort(random.uniform(start, end, count))


ARRIVALS: Mapping[str, Callable[[float, float, np.random.Generator], Times]] = {
    "constant": lambda per_s, seconds, _: spaced(per_s, seconds),
    "poisson": poisson,
    "bursty": bursty,
}
