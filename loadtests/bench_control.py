"""How soon a rollback reaches every gateway, and how soon a gateway is gone when told to stop.

- Two gateways share control on Kafka. A rollback is sent to the first one again and
  again; the time runs until replies of each of them name the version before.
- A gateway and a shipper get SIGTERM while rows wait, the broker well, and hurt where
  the caller says how; the time runs until the process is gone.
"""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from loadtests.bench_log import DRIFTGATE, body, metric, on_kafka, until
from loadtests.bench_requests import machine
from loadtests.gateway import Gateway, running
from loadtests.model import mlp

BEFORE, AFTER = "1", "2"
HURT_S = 2.0  # until it is noticed that the broker does not answer
EXIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Setup:
    """kafka: address; hurt, heal: commands, both or none."""

    kafka: str
    rollbacks: int = 50
    hurt: tuple[str, ...] = ()
    heal: tuple[str, ...] = ()


def measure(setup: Setup) -> dict[str, Any]:
    """Run the benchmark; returns the result as it is stored."""
    result: dict[str, Any] = {
        "benchmark": "control",
        "what": "two gateways of one worker each on one control topic",
        "setup": asdict(setup),
        "machine": machine(),
        "rollback": _rollbacks(setup),
        "exit_well_s": _exits(setup, hurt=False),
    }
    if setup.hurt:
        result["exit_hurt_s"] = _exits(setup, hurt=True)
    return result


def _rollbacks(setup: Setup) -> dict[str, Any]:
    options = on_kafka(setup.kafka)
    with ExitStack() as stack:
        one = stack.enter_context(running(mlp(), workers=1, core=None, options=options))
        _push_another(one)
        two = stack.enter_context(
            running(mlp(), workers=1, core=None, options=options, sharing=one)
        )
        watches = [_Watch(gateway.http_port) for gateway in (one, two)]
        times = [_roll_back(one, watches) for _ in range(setup.rollbacks)]
    here, both = [first for first, _ in times], [max(pair) for pair in times]
    return {"here_ms": _summary(here), "both_ms": _summary(both)}


def _summary(times_s: Sequence[float]) -> dict[str, float]:
    return {"median": 1e3 * float(np.median(times_s)), "max": 1e3 * max(times_s)}


def _push_another(gateway: Gateway) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "another.onnx"
        path.write_bytes(mlp(seed=1))
        words = ["model", "push", "bench", str(path), "--state-dir", str(gateway.state_dir)]
        subprocess.run([*DRIFTGATE, *words], check=True, stdout=subprocess.DEVNULL)


def _roll_back(gateway: Gateway, watches: "Sequence[_Watch]") -> tuple[float, ...]:
    """Seconds until each gateway answers with the version before."""
    start = {"verb": "START", "version": {"version": AFTER}, "steps": [100], "force": True}
    gateway.tell(start, wait_ms=0)
    for watch in watches:
        watch.until(AFTER)
    found = [0.0 for _ in watches]

    def look(index: int) -> None:
        found[index] = watches[index].until(BEFORE)

    threads = [threading.Thread(target=look, args=(index,)) for index in range(len(watches))]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    gateway.tell({"verb": "ROLLBACK"}, wait_ms=0)
    for thread in threads:
        thread.join()
    return tuple(moment - began for moment in found)


class _Watch:
    """Which version a gateway answers with."""

    def __init__(self, port: int) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._body = body()

    def until(self, version: str) -> float:
        """The moment of the first reply that names it."""
        deadline = time.perf_counter() + 60.0
        while time.perf_counter() < deadline:
            self._link.request("POST", "/v2/models/bench/infer", self._body)
            answer = json.loads(self._link.getresponse().read())
            if answer["model_version"] == version:
                return time.perf_counter()
        raise TimeoutError(f"version {version} never answered")


def _exits(setup: Setup, *, hurt: bool) -> dict[str, float]:
    """Seconds from SIGTERM to the end of a gateway, and of a shipper."""
    options = on_kafka(setup.kafka)
    with running(mlp(), workers=1, core=None, options=options) as gateway:
        words = [*DRIFTGATE, "ship", "--state-dir", str(gateway.state_dir), *options]
        shipper = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            watch = _Watch(gateway.http_port)
            watch.until(BEFORE)
            rows = "driftgate_shipper_rows_total"
            until(lambda: metric(gateway.metrics_port, rows) > 0, "the shipper takes rows")
            with _hurting(setup) if hurt else nullcontext():
                watch.until(BEFORE)  # a row that waits
                return {
                    "gateway": _seconds_to_end(gateway.pid),
                    "shipper": _seconds_to_end(shipper.pid),
                }
        finally:
            shipper.kill()
            shipper.wait()


@contextmanager
def _hurting(setup: Setup) -> Iterator[None]:
    subprocess.run(setup.hurt, check=True)
    try:
        time.sleep(HURT_S)
        yield
    finally:
        subprocess.run(setup.heal, check=True)


def _seconds_to_end(child: int) -> float:
    """From SIGTERM on; whoever started it still learns of its end."""
    began = time.perf_counter()
    os.kill(child, signal.SIGTERM)
    ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
    while os.waitid(os.P_PID, child, ended) is None:
        if time.perf_counter() - began > EXIT_S:
            raise TimeoutError(f"process {child} did not end within {EXIT_S:.0f} s of SIGTERM")
        time.sleep(0.005)
    return time.perf_counter() - began
