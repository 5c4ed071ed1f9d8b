"""Scenarios: what the server is given, phase by phase, by an open loop; read from files.

A phase's rate is given by itself (`per_s`) or as a multiple of what the server can
take (`load`), which is measured first, with as many requests under way as there are
connections. Each reply is held against the model's own answer; with two versions, a
reply that names one and answers by the other is wrong.
"""

import json
import math
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.arrivals import ARRIVALS, Times
from loadtests.gateway import Gateway, free_ports, running
from loadtests.model import FEATURES, chain, mlp
from loadtests.open_loop import CONNECTIONS, LATE_S_MAX, Outcome, Request, drive, http_request
from loadtests.process_tree import usage

FOLDER = Path(__file__).with_name("scenarios")
SEED = 20261128
ROWS = 16  # different rows, so that a reply cannot be right by chance
CAPACITY_S = 3.0
SETTLE_S = 1.0
QUICK = 4.0  # times shorter
REFERENCE_ROWS = 20_000
MODELS = {"mlp": cache(lambda: mlp(whole=True)), "chain": cache(chain)}


@dataclass(frozen=True, slots=True)
class Phase:
    """every_s: how often the model is rolled back and forth; 0: never."""

    name: str
    seconds: float
    arrivals: str = "poisson"
    load: float = 0.0
    per_s: float = 0.0
    every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """rows: of a request, with the share of requests that have so many."""

    name: str
    what: str
    phases: tuple[Phase, ...]
    models: dict[str, str] = field(default_factory=lambda: {"bench": "mlp"})
    rows: tuple[tuple[int, float], ...] = ((1, 1.0),)
    workers: int = 1
    connections: int = CONNECTIONS
    deadline_ms: float = 0.0
    log_mode: str = "async"
    two_versions: bool = False
    monitor: bool = False
    long: bool = False  # runs only if named


def load(path: Path) -> Scenario:
    """Raises: ValueError with what is wrong in the file."""
    try:
        document = tomllib.loads(path.read_text())
        phases = tuple(Phase(**phase) for phase in document.pop("phases"))
        rows = tuple((int(count), float(share)) for count, share in document.pop("rows", [[1, 1]]))
        scenario = Scenario(path.stem, phases=phases, rows=rows, **document)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    for phase in phases:
        if phase.arrivals not in ARRIVALS or (phase.load > 0) == (phase.per_s > 0):
            raise ValueError(
                f"{path}: phase '{phase.name}' needs one of load and per_s, and arrivals of "
                f"{', '.join(ARRIVALS)}"
            )
    if unknown := set(scenario.models.values()) - set(MODELS):
        raise ValueError(f"{path}: no model is named {min(unknown)}")
    return scenario


def scenarios() -> dict[str, Scenario]:
    return {path.stem: load(path) for path in sorted(FOLDER.glob("*.toml"))}


def measure(scenario: Scenario, core: int | None, *, quick: bool = False) -> dict[str, Any]:
    """Run a scenario; core: the server's, None where it has all."""
    random = np.random.default_rng(SEED)
    with _serving(scenario, core) as gateway:
        asked, which = _asked(scenario, random)
        capacity = None
        if any(phase.load for phase in scenario.phases):
            unhurried = [item.request(0.0) for item in asked]
            capacity = _capacity(gateway, unhurried, which, scenario.connections)
        requests = [item.request(scenario.deadline_ms) for item in asked]
        phases = []
        for phase in scenario.phases:
            seconds = phase.seconds / QUICK if quick else phase.seconds
            rate = phase.per_s or phase.load * (capacity or 0.0)
            due_s = ARRIVALS[phase.arrivals](rate, seconds, random)
            phases.append(_run(gateway, scenario, phase, requests, which, due_s))
    return {
        "scenario": scenario.name,
        "what": scenario.what,
        "workers": scenario.workers,
        "connections": scenario.connections,
        "deadline_ms": scenario.deadline_ms,
        "capacity_per_s": capacity,
        "phases": phases,
    }


@contextmanager
def _serving(scenario: Scenario, core: int | None) -> Iterator[Gateway]:
    models = {name: MODELS[kind]() for name, kind in scenario.models.items()}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        push = ["--log-mode", scenario.log_mode]
        if scenario.monitor:
            reference = Path(folder) / "reference.npz"
            x = np.random.default_rng(SEED).integers(-9, 10, (REFERENCE_ROWS, FEATURES))
            np.savez(reference, x=x.astype(np.float32))
            push += ["--reference", str(reference)]
        gateway = stack.enter_context(
            running(
                models.pop("bench"),
                workers=scenario.workers,
                core=core,
                beside=models,
                push={"bench": push},
            )
        )
        if scenario.two_versions:
            _second_version(gateway)
        if scenario.monitor:
            stack.enter_context(_watched(gateway))
        yield gateway


def _second_version(gateway: Gateway) -> None:
    state = ["--state-dir", str(gateway.state_dir)]
    path = gateway.state_dir.parent / "second.onnx"
    path.write_bytes(mlp(1, whole=True))
    command = [sys.executable, "-m", "driftgate", "model", "push", "bench", str(path), *state]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    _command(gateway, {"verb": "START", "version": {"version": "2"}, "steps": [100]})


def _command(gateway: Gateway, fields: dict[str, Any]) -> None:
    """Live on all workers when this returns."""
    gateway.tell({"id": f"bench-{time.monotonic_ns()}", **fields}, wait_ms=10_000)


@contextmanager
def _watched(gateway: Gateway) -> Iterator[None]:
    """A monitor beside the gateway."""
    (port,) = free_ports(1)
    words = ["--state-dir", str(gateway.state_dir), "--monitor-port", str(port)]
    with (gateway.state_dir.parent / "monitor.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "driftgate", "monitor", *words], stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """x: (rows, FEATURES) for `model`; answers: of its versions, as `Request` has them."""

    model: str
    x: Any
    answers: tuple[tuple[bytes, ...], ...]

    def request(self, deadline_ms: float) -> Request:
        return Request(http_request(self.model, _body(self.x, deadline_ms)), self.answers)


def _asked(
    scenario: Scenario, random: np.random.Generator
) -> tuple[list[_Asked], np.ndarray[Any, np.dtype[np.float64]]]:
    """Everything that the scenario asks, and how often each, as shares."""
    asked, shares = [], []
    for name, kind in scenario.models.items():
        versions = [_session(MODELS[kind]())]
        if scenario.two_versions:
            versions.append(_session(mlp(1, whole=True)))
        for rows, share in scenario.rows:
            for _ in range(ROWS):
                x = random.integers(-9, 10, (rows, FEATURES)).astype(np.float32)
                answers = tuple(
                    (f'"model_version":"{number}"'.encode(), _answer(session, x))
                    for number, session in enumerate(versions, 1)
                )
                asked.append(_Asked(name, x, answers))
                shares.append(share / ROWS / len(scenario.models))
    return asked, np.array(shares) / sum(shares)


def _body(x: Any, deadline_ms: float) -> bytes:
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.tolist()}
    document: dict[str, Any] = {"inputs": [tensor]}
    if deadline_ms:
        document["parameters"] = {"timeout": int(1000 * deadline_ms)}  # in microseconds
    return json.dumps(document, separators=(",", ":")).encode()


def _session(model: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _answer(session: Any, x: Any) -> bytes:
    values = session.run(None, {"x": x})[0].reshape(-1).tolist()
    return ('"data":' + json.dumps(values, separators=(",", ":"))).encode()


def _capacity(
    gateway: Gateway, requests: Sequence[Request], shares: Any, connections: int
) -> float:
    """Requests a second with every connection busy."""
    count = 4 * CONNECTIONS
    rate = 0.0
    for seconds in (CAPACITY_S / 3, CAPACITY_S, 0.0):
        which = _choose(requests, shares, count)
        began = time.perf_counter()
        outcome = drive(
            gateway.http_port, requests, np.zeros(count), which, min(connections, CONNECTIONS)
        )
        rate = count / (time.perf_counter() - began)
        if outcome.failed:
            raise RuntimeError(f"{outcome.failed} of {count} requests failed without any hurry")
        if not seconds:
            break
        count = max(int(rate * seconds), count)
    return rate


def _choose(requests: Sequence[Request], shares: Any, count: int) -> list[int]:
    random = np.random.default_rng(SEED)
    found: list[int] = random.choice(len(requests), count, p=shares).tolist()
    return found


def _run(
    gateway: Gateway,
    scenario: Scenario,
    phase: Phase,
    requests: Sequence[Request],
    shares: Any,
    due_s: Times,
) -> dict[str, Any]:
    which = _choose(requests, shares, len(due_s))
    time.sleep(SETTLE_S)  # what is left of the phase before
    before = usage(gateway.pid)
    changing: AbstractContextManager[list[int]] = (
        _changing(gateway, phase.every_s) if phase.every_s else nullcontext([])
    )
    with changing as changes:
        outcome = drive(gateway.http_port, requests, due_s, which, scenario.connections)
    after = usage(gateway.pid)
    return {
        "phase": phase.name,
        "arrivals": phase.arrivals,
        "load": phase.load or None,
        "changes": len(changes),
        **figures(outcome, scenario.deadline_ms),
        "cpu_us_per_request": 1e6 * (after.cpu_s - before.cpu_s) / max(len(due_s), 1),
        "rss_mib_before": before.rss_bytes / 2**20,
        "rss_mib_after": after.rss_bytes / 2**20,
    }


@contextmanager
def _changing(gateway: Gateway, every_s: float) -> Iterator[list[int]]:
    """Roll back and forth until the end of the block; yields when, in ns."""
    stop, changes = threading.Event(), list[int]()

    def work() -> None:
        while not stop.wait(every_s):
            _command(gateway, {"verb": "UNDO" if len(changes) % 2 else "ROLLBACK"})
            changes.append(time.monotonic_ns())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield changes
    finally:
        stop.set()
        thread.join()


def figures(outcome: Outcome, deadline_ms: float) -> dict[str, Any]:
    """A phase in numbers. good: right, and within the deadline where there is one."""
    ms = 1e3 * outcome.latency_s
    good = outcome.right & ((ms <= deadline_ms) if deadline_ms else np.isfinite(ms))
    refused = outcome.status >= 400
    wrong = (outcome.status == 200) & ~outcome.right
    seconds = float(outcome.due_s[-1]) if outcome.due_s.size > 1 else math.nan
    late_s = outcome.late_p99_s
    return {
        "requests": int(outcome.due_s.size),
        "offered_per_s": outcome.due_s.size / seconds,
        "good_per_s": int(np.count_nonzero(good)) / seconds,
        "good_share": float(np.mean(good)),
        "wrong": int(np.count_nonzero(wrong)),
        "refused": int(np.count_nonzero(refused)),
        "unanswered": int(np.count_nonzero(outcome.status == 0)),
        **quantiles("", ms[outcome.right]),
        **quantiles("refused_", ms[refused]),
        "late_p99_ms": 1e3 * late_s,
        "void": late_s > LATE_S_MAX,
    }


def quantiles(prefix: str, ms: Any) -> dict[str, float | None]:
    names = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    return {
        f"{prefix}{name}": float(np.quantile(ms, q)) if ms.size else None
        for name, q in names.items()
    }
