"""Cost per request: one worker on one core, wrk on another, everything switched on.

Beside it: what a client alone waits, over ONNX Runtime's own run, and how much more two
workers can do than one.
"""

import http.client
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import h2load, wrk
from loadtests.gateway import Gateway, running
from loadtests.intervals import ratio
from loadtests.model import FEATURES, mlp
from loadtests.peers.requests import Row, v2_grpc
from loadtests.process_tree import usage
from loadtests.rounds import grpc_round, http_round, medians

PACKAGES = ("onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "orjson", "pyarrow")
TOLERANCE = 1e-5
ALONE_RUNS = 2000
# Channels, and calls of each at a time: few that are busy, and many that are not.
GRPC_LOADS = ((4, 16), (64, 1))


@dataclass(frozen=True, slots=True)
class Setup:
    """rounds of `seconds` each; the median of the rounds is the result."""

    connections: int = 32
    seconds: int = 5
    rounds: int = 5
    grpc_engines: tuple[str, ...] = ("auto",)
    server_core: int = 0
    client_core: int = 1


def measure(setup: Setup) -> dict[str, Any]:
    """Run the benchmark; returns the result as it is stored."""
    rng = np.random.default_rng(1)
    row = rng.normal(0.0, 1.0, (1, FEATURES)).round(4).astype(np.float32)
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32",
                     "data": [round(float(v), 4) for v in row[0]]}]}
    ).encode()  # fmt: skip
    pinned = (os.cpu_count() or 1) > 1
    model = mlp()
    with running(model, workers=1, core=setup.server_core if pinned else None) as gateway:
        check_answer(gateway, body, model, row)
        wrk_core = setup.client_core if pinned else None
        load = partial(_http, gateway, body, core=wrk_core)
        load(setup.connections, 2)  # warm-up
        rounds = [load(setup.connections, setup.seconds) for _ in range(setup.rounds)]
        check_answer(gateway, body, model, row)
        alone = _alone(gateway, load, model, row, setup, wrk_core)
        workers = _two_workers(gateway, body, model, setup) if pinned else None
        rss_mib = usage(gateway.pid).rss_bytes / 2**20
    return {
        "benchmark": "requests",
        "what": "HTTP JSON, 1 row of 30 FP32 features a request; log and metrics on",
        "setup": asdict(setup) | {"pinned": pinned},
        "median": medians(rounds),
        "rounds": rounds,
        "alone": alone,
        "two_workers": workers,
        "grpc": _grpc(model, row, setup) if h2load.installed() else [],
        "rss_mib": rss_mib,
        "machine": machine(),
    }


def _http(
    gateway: Gateway, body: bytes, connections: int, seconds: int, *, core: int | None
) -> dict[str, float]:
    url = f"{gateway.url}/v2/models/bench/infer"
    return http_round(
        gateway.pid, url, body, wrk.JSON, connections=connections, seconds=seconds, core=core
    )


def _alone(
    gateway: Gateway,
    load: Callable[[int, int], dict[str, float]],
    model: bytes,
    row: Row,
    setup: Setup,
    core: int | None,
) -> dict[str, float]:
    """Means in ms of one client that waits for each reply, and of the run in it."""
    import onnxruntime

    http = [load(1, setup.seconds)["requests_per_s"] for _ in range(setup.rounds)]
    found = {"http_ms": 1e3 / statistics.median(http)}
    if h2load.installed():
        request = v2_grpc(gateway.grpc_port, row)
        reply = request.ask()
        grpc = [
            h2load.run(
                request.url, request.body, channels=1, calls=1, seconds=setup.seconds, core=core,
                reply_bytes=len(reply) + h2load.PREFIX_BYTES,
            ).requests_per_s
            for _ in range(setup.rounds)
        ]  # fmt: skip
        found["grpc_ms"] = 1e3 / statistics.median(grpc)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    took = []
    for _ in range(ALONE_RUNS):
        began = time.perf_counter()
        session.run(None, {"x": row})
        took.append(time.perf_counter() - began)
    found["run_ms"] = 1e3 * statistics.median(took)
    return found


def _two_workers(one: Gateway, body: bytes, model: bytes, setup: Setup) -> dict[str, Any]:
    """CPU per request of one worker and of two with twice the connections, in turn.

    The client shares a core with them, so that CPU says what two workers could do.
    """
    with running(model, workers=2, core=None) as two:
        pairs = []
        for _ in range(max(2, setup.rounds)):
            alone = _http(one, body, setup.connections, setup.seconds, core=setup.client_core)
            both = _http(two, body, 2 * setup.connections, setup.seconds, core=None)
            pairs.append((both["cpu_us_per_request"], alone["cpu_us_per_request"]))
    times = ratio(pairs)
    return {
        "cpu_us_per_request": statistics.median(both for both, _ in pairs),
        "times_one": {name: 2 * value for name, value in asdict(times).items()},
    }


def _grpc(model: bytes, row: Row, setup: Setup) -> list[dict[str, Any]]:
    """The same row over gRPC, as raw bytes: each engine, with each of GRPC_LOADS."""
    pinned = (os.cpu_count() or 1) > 1
    found = []
    for engine in setup.grpc_engines:
        options = ("--grpc-engine", engine)
        core = setup.server_core if pinned else None
        with running(model, workers=1, core=core, options=options) as gateway:
            for channels, calls in GRPC_LOADS:
                rounds = _grpc_rounds(gateway, row, setup, channels, calls)
                found.append(
                    {
                        "engine": engine,
                        "channels": channels,
                        "calls": calls,
                        "median": medians(rounds),
                        "rounds": rounds,
                    }
                )
    return found


def _grpc_rounds(
    gateway: Gateway, row: Row, setup: Setup, channels: int, calls: int
) -> list[dict[str, float]]:
    core = setup.client_core if (os.cpu_count() or 1) > 1 else None
    request = v2_grpc(gateway.grpc_port, row)
    reply = request.ask()
    return [
        grpc_round(
            gateway.pid, request.url, request.body, reply_bytes=len(reply),
            channels=channels, calls=calls, seconds=setup.seconds, core=core,
        )
        for _ in range(setup.rounds)
    ]  # fmt: skip


def check_answer(gateway: Gateway, body: bytes, model: bytes, row: Row) -> None:
    """Hold one reply against ONNX Runtime's own answer; a fast wrong server is no server."""
    import onnxruntime

    expected = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(
        None, {"x": row}
    )[0]
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=10)
    connection.request("POST", "/v2/models/bench/infer", body)
    reply: Mapping[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    got = np.array(reply["outputs"][0]["data"], np.float32).reshape(expected.shape)
    if not np.allclose(got, expected, atol=TOLERANCE):
        raise AssertionError(f"the gateway answered {got}, ONNX Runtime {expected}")


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _commit() -> str:
    """Of a checkout; empty for an installed package, or one that was changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    with suppress(OSError, subprocess.CalledProcessError):
        changed = subprocess.check_output([*git, "status", "--porcelain", "--untracked-files=no"])
        head = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True)
        return "" if changed else head.strip()
    return ""
