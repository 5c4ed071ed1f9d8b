"""What loading a large model does to the predictions of another one beside it.

Pairs of windows alternate: in one of each a model of 200 MB is loaded and unloaded
again and again through the repository API. The ratio of their p99 is reported with
a 95 % interval over the pairs; nothing may fail.
"""

import http.client
import json
import os
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from loadtests.gateway import Gateway, running
from loadtests.intervals import ratio
from loadtests.model import FEATURES, dense, mlp
from loadtests.pace import Paced, http_request, pace

PER_S = 1000.0


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
    request = http_request("bench", json.dumps({"inputs": [tensor]}).encode())
    loads: list[str] = []

    def window(gateway: Gateway) -> Paced:
        return pace(gateway.http_port, request, PER_S, window_s)

    with running(
        mlp(), workers=0, core=None, beside={"big": dense(big_mb)}, on_demand=True
    ) as gateway:
        window(gateway)
        quiet, busy = [], []
        for _ in range(pairs):
            quiet.append(window(gateway))
            with loading(gateway, loads):
                busy.append(window(gateway))
    change = ratio([(p99(q), p99(b)) for q, b in zip(quiet, busy, strict=True)])
    return {
        "benchmark": "load",
        "cores": os.cpu_count(),
        "big_mb": big_mb,
        "pairs": pairs,
        "loads": loads.count("load"),
        "failed": sum(window.failed for window in (*quiet, *busy)),
        "p99_ms_quiet": statistics.median(1e3 * p99(window) for window in quiet),
        "p99_ms_loading": statistics.median(1e3 * p99(window) for window in busy),
        "ratio": change.mean,
        "ratio_95": [change.low, change.high],
        "generator_late_p99_ms": 1e3 * max(quantile(window.late_s) for window in (*quiet, *busy)),
    }


def p99(window: Paced) -> float:
    return quantile(window.latency_s)


def quantile(values: list[float]) -> float:
    return float(np.quantile(values, 0.99))
