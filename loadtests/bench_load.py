"""What loading a large model does to the predictions of another one beside it.

Pairs of windows alternate: in one of each a model of 200 MB is loaded and unloaded
again and again through the repository API. The median ratio of their p99 is reported with
its 95 % interval over the pairs, and the mean one beside it; nothing may fail. A pair in
which the generator was late itself says nothing and is measured again, as often as there
are pairs; the ratio with those pairs in it stands beside. Where too few are left, the run
is void and the ratio that of all.
"""

import http.client
import json
import os
import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from loadtests.arrivals import spaced
from loadtests.gateway import Gateway, running
from loadtests.intervals import median_ratio, ratio
from loadtests.model import FEATURES, dense, mlp
from loadtests.open_loop import LATE_S_MAX, Outcome, Request, drive, http_request

PER_S = 1000.0

Pair = tuple[Outcome, Outcome]  # quiet, and while it loads


def post(gateway: Gateway, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=120)
    connection.request("POST", path, b"{}")
    reply = connection.getresponse()
    text = reply.read()
    connection.close()
    if reply.status != 200:
        raise RuntimeError(f"{path}: {reply.status} {text.decode()}")


@contextmanager
def loading(gateway: Gateway, loads: list[str]) -> Iterator[None]:
    """Load and unload `big` until the end of the block."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for verb in ("load", "unload"):
                post(gateway, f"/v2/repository/models/big/{verb}")
                loads.append(verb)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(pairs: int, window_s: float, big_mb: int) -> dict[str, Any]:
    """Run the benchmark; returns the result as it is stored."""
    row = np.random.default_rng(1).normal(0.0, 1.0, (1, FEATURES)).round(4).tolist()
    tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}
    request = Request(http_request("bench", json.dumps({"inputs": [tensor]}).encode()))
    loads: list[str] = []

    def window(gateway: Gateway) -> Outcome:
        return drive(gateway.http_port, [request], spaced(PER_S, window_s))

    with running(
        mlp(), workers=0, core=None, beside={"big": dense(big_mb)}, on_demand=True
    ) as gateway:
        window(gateway)
        good: list[Pair] = []
        void: list[Pair] = []
        while len(good) < pairs and len(void) <= pairs:
            quiet = window(gateway)
            with loading(gateway, loads):
                busy = window(gateway)
            late_s = max(quiet.late_p99_s, busy.late_p99_s)
            (void if late_s > LATE_S_MAX else good).append((quiet, busy))
    measured = [*good, *void]
    counted = good if len(good) == pairs else measured
    change, with_void = median_ratio(_p99_ms(counted)), median_ratio(_p99_ms(measured))
    mean = ratio(_p99_ms(counted))
    windows = [window for pair in measured for window in pair]
    return {
        "benchmark": "load",
        "cores": os.cpu_count(),
        "big_mb": big_mb,
        "pairs": pairs,
        "loads": loads.count("load"),
        "failed": sum(window.failed for window in windows),
        "p99_ms_quiet": statistics.median(quiet.p99_ms for quiet, _ in counted),
        "p99_ms_loading": statistics.median(busy.p99_ms for _, busy in counted),
        "pairs_p99_ms": _p99_ms(counted),
        "ratio": change.median,
        "ratio_95": [change.low, change.high],
        "ratio_mean": mean.mean,
        "ratio_mean_95": [mean.low, mean.high],
        "void": counted is measured,
        "void_pairs": len(void),
        "ratio_with_void": with_void.median,
        "ratio_with_void_95": [with_void.low, with_void.high],
    }


def _p99_ms(pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    return [(quiet.p99_ms, busy.p99_ms) for quiet, busy in pairs]
