"""One round of load against a server, and what its whole process tree spent on it.

CPU per request is user + system time over the requests answered: it is steadier
than throughput, which the client's core bounds too.
"""

import statistics
import time
from collections.abc import Mapping, Sequence

from loadtests import h2load, wrk
from loadtests.process_tree import usage

SETTLE_S = 0.5  # what the log still writes belongs to the requests before


def http_round(
    pid: int,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    connections: int,
    seconds: int,
    core: int | None,
) -> dict[str, float]:
    """Raises: wrk.WrkError, also when a single reply was not 2xx."""
    before = usage(pid).cpu_s
    run = wrk.run(url, body, headers, connections=connections, seconds=seconds, core=core)
    time.sleep(SETTLE_S)
    return {
        "cpu_us_per_request": (usage(pid).cpu_s - before) / run.requests * 1e6,
        "requests_per_s": run.requests_per_s,
        "p50_ms": run.p50_ms,
        "p99_ms": run.p99_ms,
    }


def grpc_round(
    pid: int,
    url: str,
    message: bytes,
    *,
    reply_bytes: int,
    channels: int,
    calls: int,
    seconds: int,
    core: int | None,
) -> dict[str, float]:
    """reply_bytes: of a good reply's message. Raises: h2load.H2loadError."""
    before = usage(pid).cpu_s
    run = h2load.run(
        url, message, channels=channels, calls=calls, seconds=seconds, core=core,
        reply_bytes=reply_bytes + h2load.PREFIX_BYTES,
    )  # fmt: skip
    time.sleep(SETTLE_S)
    return {
        "cpu_us_per_request": (usage(pid).cpu_s - before) / run.requests * 1e6,
        "requests_per_s": run.requests_per_s,
    }


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each figure over the rounds."""
    return {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
