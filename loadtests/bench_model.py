"""Cost per request: one worker on one core, wrk on another, everything switched on."""

import http.client
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import h2load, wrk
from loadtests.gateway import Gateway, running
from loadtests.model import FEATURES, mlp
from loadtests.peers.requests import Row, v2_grpc
from loadtests.process_tree import usage
from loadtests.rounds import grpc_round, http_round, medians

PACKAGES = ("onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "orjson", "pyarrow")
TOLERANCE = 1e-5
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
        load = partial(
            http_round, gateway.pid, f"{gateway.url}/v2/models/bench/infer", body, wrk.JSON,
            connections=setup.connections, core=wrk_core,
        )  # fmt: skip
        load(seconds=2)  # warm-up
        rounds = [load(seconds=setup.seconds) for _ in range(setup.rounds)]
        check_answer(gateway, body, model, row)
        rss_mib = usage(gateway.pid).rss_bytes / 2**20
    return {
        "benchmark": "model",
        "what": "HTTP JSON, 1 row of 30 FP32 features a request; log and metrics on",
        "setup": asdict(setup) | {"pinned": pinned},
        "median": medians(rounds),
        "rounds": rounds,
        "grpc": _grpc(model, row, setup) if h2load.installed() else [],
        "rss_mib": rss_mib,
        "machine": machine(),
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
        "packages": {name: version(name) for name in PACKAGES},
    }
