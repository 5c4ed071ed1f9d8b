"""What the prediction log costs, and whether those who read it keep up.

- The CPU that the log adds to a prediction: one gateway, one model logged and the same
  model in mode `off`, in alternating rounds of wrk; and what a `traceparent` in each
  request adds to that.
- What became of p99 when the broker is hurt: alternating windows, open loop. How to hurt
  a broker and how to heal it are two commands of the caller's; without them this part
  is left out.
- Rows per second of CPU that the shipper and the monitor take, one after the other: each
  is stopped (SIGSTOP) while one worker serves as fast as it can, and then let go.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import wrk
from loadtests.arrivals import spaced
from loadtests.bench_requests import machine
from loadtests.gateway import Gateway, free_ports, running
from loadtests.intervals import Interval, interval, median_ratio, ratio
from loadtests.model import FEATURES, mlp
from loadtests.open_loop import Outcome, Request, drive, http_request
from loadtests.process_tree import usage
from loadtests.rounds import SETTLE_S, http_round

PER_S = 1000.0
PATIENCE_S = 180.0
REFERENCE_ROWS = 20_000
SEED = 1
TRACED = {**wrk.JSON, "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
DRIFTGATE = (sys.executable, "-m", "driftgate")


@dataclass(frozen=True, slots=True)
class Setup:
    """seconds: of one round or window. kafka: address; hurt, heal: commands, both or none.

    hurt_only: leave out what is measured without them.
    """

    seconds: int = 4
    pairs: int = 10
    connections: int = 32
    kafka: str = ""
    hurt: tuple[str, ...] = ()
    heal: tuple[str, ...] = ()
    hurt_only: bool = False
    server_core: int = 0
    client_core: int = 1

    def core(self, number: int) -> int | None:
        return number if (os.cpu_count() or 1) > 1 else None


@dataclass(frozen=True, slots=True)
class Drained:
    """One reader of the log, at work on a backlog and on nothing else."""

    rows: int
    cpu_s: float
    wall_s: float

    @property
    def rows_per_cpu_s(self) -> float:
        return self.rows / self.cpu_s


def measure(setup: Setup) -> dict[str, Any]:
    """Run what can be run; returns the result as it is stored."""
    result: dict[str, Any] = {
        "benchmark": "log",
        "what": f"HTTP JSON, 1 row of {FEATURES} FP32 features a request",
        "setup": asdict(setup),
        "machine": machine(),
    }
    if setup.hurt_only:
        return {**result, "hurt": _hurt(setup)}
    result |= {"cost": _cost(setup), "monitor": _readers_rate(setup, "monitor")}
    if setup.kafka:
        result["shipper"] = _readers_rate(setup, "ship")
        result["together_rows_per_s"] = 1 / sum(
            1 / result[name]["rows_per_cpu_s"] for name in ("monitor", "shipper")
        )
        if setup.hurt:
            result["hurt"] = _hurt(setup)
    return result


def body() -> bytes:
    row = np.random.default_rng(SEED).normal(0.0, 1.0, FEATURES).round(4).tolist()
    tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}
    return json.dumps({"inputs": [tensor]}).encode()


def _cost(setup: Setup) -> dict[str, Any]:
    """CPU of worker and supervisor per prediction: logged, not logged, logged with its trace."""
    rounds: dict[str, list[dict[str, float]]] = {"bench": [], "quiet": [], "traced": []}
    with running(
        mlp(),
        workers=1,
        core=setup.core(setup.server_core),
        beside={"quiet": mlp()},
        push={"quiet": ("--log-mode", "off")},
    ) as gateway:
        for name in rounds:
            _round(gateway, setup, name)  # warm-up
        for index in range(setup.pairs):
            for name in list(rounds)[:: -1 if index % 2 else 1]:
                rounds[name].append(_round(gateway, setup, name))
    with_log = interval([on["requests_per_s"] for on in rounds["bench"]])
    return {
        "added_cpu_us": asdict(_added(rounds["bench"], rounds["quiet"])),
        "traceparent_cpu_us": asdict(_added(rounds["traced"], rounds["bench"])),
        "rows_per_s": with_log.mean,
        "rounds": rounds,
    }


def _added(those: Sequence[dict[str, float]], to: Sequence[dict[str, float]]) -> Interval:
    key = "cpu_us_per_request"
    return interval([more[key] - less[key] for more, less in zip(those, to, strict=True)])


def _round(gateway: Gateway, setup: Setup, name: str) -> dict[str, float]:
    """name: of the model; `traced` is `bench` with a traceparent in every request."""
    model, headers = (name, wrk.JSON) if name != "traced" else ("bench", TRACED)
    return http_round(
        gateway.pid, f"{gateway.url}/v2/models/{model}/infer", body(), headers,
        connections=setup.connections, seconds=setup.seconds, core=setup.core(setup.client_core),
    )  # fmt: skip


def _load(gateway: Gateway, setup: Setup) -> wrk.Run:
    url = f"{gateway.url}/v2/models/bench/infer"
    return wrk.run(
        url, body(), connections=setup.connections, seconds=setup.seconds,
        core=setup.core(setup.client_core),
    )  # fmt: skip


def _readers_rate(setup: Setup, command: str) -> dict[str, Any]:
    """command: `monitor`, of a log that stays here, or `ship`."""
    options = on_kafka(setup.kafka) if command == "ship" else ()
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.npz"
        rows = np.random.default_rng(SEED).normal(0.0, 1.0, (REFERENCE_ROWS, FEATURES))
        np.savez(reference, x=rows.astype(np.float32))
        with (
            running(
                mlp(),
                workers=1,
                core=setup.core(setup.server_core),
                push={"bench": ("--reference", str(reference))},
                options=options,
            ) as gateway,
            _reader(gateway, command, options, setup) as reader,
        ):
            drained = _drain(gateway, setup, reader)
    return {**asdict(drained), "rows_per_cpu_s": drained.rows_per_cpu_s}


@dataclass(frozen=True, slots=True)
class _Reader:
    """metric: rows it has taken, on `port`."""

    pid: int
    port: int
    metric: str

    @property
    def rows(self) -> float:
        return metric(self.port, self.metric)


@contextmanager
def _reader(
    gateway: Gateway, command: str, options: Sequence[str], setup: Setup
) -> Iterator[_Reader]:
    port, rows = gateway.metrics_port, "driftgate_shipper_rows_total"
    if command == "monitor":
        port, rows = free_ports(1)[0], "driftgate_monitor_rows_total"
        options = (*options, "--monitor-port", str(port))
    core = setup.core(setup.server_core)
    pin = [] if core is None else ["taskset", "-c", str(core)]
    words = [*pin, *DRIFTGATE, command, "--state-dir", str(gateway.state_dir), *options]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield _Reader(process.pid, port, rows)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(60)


def _drain(gateway: Gateway, setup: Setup, reader: _Reader) -> Drained:
    first = _load(gateway, setup)  # it has compiled, connected and read once
    until(lambda: reader.rows >= first.requests, "the reader has taken the first rows")
    os.kill(reader.pid, signal.SIGSTOP)
    served = _load(gateway, setup)
    time.sleep(SETTLE_S)
    total = metric(gateway.metrics_port, "driftgate_prediction_log_written_rows_total")
    before, began = usage(reader.pid).cpu_s, time.monotonic()
    os.kill(reader.pid, signal.SIGCONT)
    until(lambda: reader.rows >= total, "the reader has taken every row")
    cpu_s, wall_s = usage(reader.pid).cpu_s - before, time.monotonic() - began
    return Drained(served.requests, cpu_s, wall_s)


def _hurt(setup: Setup) -> dict[str, Any]:
    """p99 of predictions, the broker well and hurt in turn."""
    request = Request(http_request("bench", body()))
    pairs: list[tuple[Outcome, Outcome]] = []
    options = on_kafka(setup.kafka)
    with (
        running(mlp(), workers=1, core=None, options=options) as gateway,
        _reader(gateway, "ship", options, setup),
    ):

        def window() -> Outcome:
            time.sleep(SETTLE_S)  # what comes after a change of the broker's state is not its state
            return drive(gateway.http_port, [request], spaced(PER_S, setup.seconds))

        def is_well() -> bool:
            up = metric(gateway.metrics_port, "driftgate_shipper_up")
            return up == 1 and metric(gateway.metrics_port, "driftgate_shipper_lag_rows") == 0

        window()
        for index in range(setup.pairs):
            until(is_well, "the shipper has caught up")
            well = window() if index % 2 == 0 else None
            subprocess.run(setup.hurt, check=True)
            try:
                hurt = window()
            finally:
                subprocess.run(setup.heal, check=True)
            if well is None:
                until(is_well, "the shipper has caught up")
                well = window()
            pairs.append((well, hurt))
    p99_ms = [(well.p99_ms, hurt.p99_ms) for well, hurt in pairs]
    windows = [window for pair in pairs for window in pair]
    return {
        "command": list(setup.hurt),
        "p99_ratio": asdict(median_ratio(p99_ms)),
        "p99_ratio_mean": asdict(ratio(p99_ms)),
        "p99_ms_well": float(np.median([well.p99_ms for well, _ in pairs])),
        "p99_ms_hurt": float(np.median([hurt.p99_ms for _, hurt in pairs])),
        "failed": sum(window.failed for window in windows),
        "generator_late_p99_ms": 1e3 * max(window.late_p99_s for window in windows),
    }


def metric(port: int, name: str) -> float:
    """The sum over its labels; 0 while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
            text = reply.read().decode()
    except OSError:
        return 0.0
    samples = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in samples)


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.1)


def on_kafka(address: str) -> tuple[str, ...]:
    """Options for a gateway with topics of its own: all gateways of one namespace are alike."""
    namespace = f"driftgate-bench-{secrets.token_hex(4)}"
    options = ("--log-kafka", address, "--kafka-namespace", namespace)
    init = [*DRIFTGATE, "log", "init", *options]
    subprocess.run(init, check=True, stdout=subprocess.DEVNULL)
    return options
