"""Requests of mixed lengths against a transformer: each shape by itself, and padded.

Both are held against what ONNX Runtime alone takes on the same core, where each row runs
in the batch that suits its length best, with as much company of its own length as it
likes: more than any server can give. Compared is CPU time, which others on the machine
lengthen less than they lengthen runs.
"""

import http.client
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loadtests.bench_requests import machine
from loadtests.gateway import Gateway, running
from loadtests.intervals import ratio
from loadtests.open_loop import Request, drive
from loadtests.process_tree import usage
from loadtests.transformer import LENGTH_MAX, VOCABULARY, transformer

LENGTH_MIN = 16
REQUESTS = 256  # different ones
BATCHES = (1, 2, 4, 8, 16, 32)
LENGTHS = (16, 32, 48, 64, 96, 128)  # that ONNX Runtime is measured at; between them a line
RUNS = 5  # of a size; the median counts
TOLERANCE = 1e-4
SEED = 20261129
FORMS = {
    "unpadded": ["--max-batch-size", "32"],
    "padded": ["--max-batch-size", "32", "--pad-axis", "sequence", "--pad-mask", "mask"],
}


@dataclass(frozen=True, slots=True)
class Setup:
    layers: int = 2
    hidden: int = 128
    connections: int = 32
    seconds: float = 4.0
    rounds: int = 3
    server_core: int = 0
    client_core: int = 1


def measure(setup: Setup) -> dict[str, Any]:
    """Run the benchmark; returns the result as it is stored."""
    model = transformer(setup.layers, setup.hidden)
    random = np.random.default_rng(SEED)
    lengths = random.integers(LENGTH_MIN, LENGTH_MAX + 1, REQUESTS)
    inputs = [random.integers(0, VOCABULARY, (1, int(length))) for length in lengths]
    requests = [_request(ids) for ids in inputs]
    pinned = (os.cpu_count() or 1) > 1
    core = setup.server_core if pinned else None
    alone: list[float] = []
    found: dict[str, list[dict[str, float]]] = {name: [] for name in FORMS}
    for _ in range(setup.rounds):
        alone.append(_alone(model, lengths, core))
        for name, options in FORMS.items():
            with running(model, workers=1, core=core, push={"bench": options}) as gateway:
                _check(gateway, model, inputs[:16])
                found[name].append(_round(gateway, requests, setup, pinned))
    return {
        "benchmark": "lengths",
        "what": f"a transformer of {setup.layers} layers of {setup.hidden}, 1 row of "
        f"{LENGTH_MIN} to {LENGTH_MAX} ids a request, HTTP with binary tensors; log and metrics on",
        "setup": asdict(setup) | {"pinned": pinned},
        "alone_cpu_us_per_row": float(np.mean(alone)),
        "forms": {
            name: {
                "rows_per_s": float(np.mean([each["rows_per_s"] for each in rounds])),
                "of_alone": asdict(
                    ratio([(e["cpu_us_per_row"], a) for a, e in zip(alone, rounds, strict=True)])
                ),
                "rows_per_run": float(np.mean([each["rows_per_run"] for each in rounds])),
                "padding_share": float(np.mean([each["padding_share"] for each in rounds])),
                "cpu_us_per_row": float(np.mean([each["cpu_us_per_row"] for each in rounds])),
            }
            for name, rounds in found.items()
        },
        "machine": machine(),
    }


def _alone(model: bytes, lengths: Any, core: int | None) -> float:
    """CPU of a row, in µs, of ONNX Runtime by itself: in the batch that is best for its length."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        row_ns = [
            min(_run_ns(session, rows, length) / rows for rows in BATCHES) for length in LENGTHS
        ]
    finally:
        os.sched_setaffinity(0, before)
    return float(np.mean(np.interp(lengths, LENGTHS, row_ns))) / 1000


def _run_ns(session: Any, rows: int, length: int) -> float:
    feed = {"ids": np.ones((rows, length), np.int64), "mask": np.ones((rows, length), np.int64)}
    took = []
    for _ in range(RUNS):
        began_ns = time.thread_time_ns()  # it has no threads but this
        session.run(None, feed)
        took.append(time.thread_time_ns() - began_ns)
    return float(np.median(took))


def _round(
    gateway: Gateway, requests: list[Request], setup: Setup, pinned: bool
) -> dict[str, float]:
    before = os.sched_getaffinity(0)
    if pinned:
        os.sched_setaffinity(0, {setup.client_core})
    try:
        rate = _rate(gateway, requests, setup, 2 * len(requests))[0]
        counts, cpu_s = _counts(gateway), usage(gateway.pid).cpu_s
        rate, count = _rate(gateway, requests, setup, int(rate * setup.seconds))
        after, spent_s = _counts(gateway), usage(gateway.pid).cpu_s - cpu_s
    finally:
        os.sched_setaffinity(0, before)
    rows, runs, sent, padding = [b - a for a, b in zip(counts, after, strict=True)]
    return {
        "rows_per_s": rate,
        "rows_per_run": rows / max(runs, 1.0),
        "padding_share": padding / (sent + padding) if sent else 0.0,
        "cpu_us_per_row": 1e6 * spent_s / count,
    }


def _rate(gateway: Gateway, requests: list[Request], setup: Setup, count: int) -> tuple[float, int]:
    """(answers a second, how many) with every connection busy."""
    count = max(count, len(requests))
    which = np.random.default_rng(SEED).integers(0, len(requests), count).tolist()
    began = time.perf_counter()
    outcome = drive(gateway.http_port, requests, np.zeros(count), which, setup.connections)
    took_s = time.perf_counter() - began
    if outcome.failed:
        raise RuntimeError(f"{outcome.failed} of {count} requests failed")
    return count / took_s, count


def _counts(gateway: Gateway) -> list[float]:
    """Rows, runs, elements sent and padded so far, by the gateway's metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.metrics_port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    names = (
        *("driftgate_inference_rows_total{", "driftgate_executions_total{"),
        *('kind="sent"', 'kind="padding"'),
    )
    return [sum(float(line.rsplit(" ", 1)[1]) for line in lines if name in line) for name in names]


def _head(ids: Any) -> bytes:
    inputs = [
        {
            "name": name,
            "shape": list(ids.shape),
            "datatype": "INT64",
            "parameters": {"binary_data_size": ids.nbytes},
        }
        for name in ("ids", "mask")
    ]
    return json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()


def _body(ids: Any) -> tuple[int, bytes]:
    head = _head(ids)
    return len(head), head + ids.tobytes() + np.ones_like(ids).tobytes()


def _request(ids: Any) -> Request:
    head_bytes, body = _body(ids)
    data = (
        "POST /v2/models/bench/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Inference-Header-Content-Length: {head_bytes}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    return Request(data, ((f'"shape":[1,{ids.shape[1]},'.encode(),),))


def _check(gateway: Gateway, model: bytes, inputs: list[Any]) -> None:
    """Hold answers against ONNX Runtime's own. Raises: AssertionError."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=30)
    for ids in inputs:
        head_bytes, body = _body(ids)
        headers = {"Inference-Header-Content-Length": str(head_bytes)}
        connection.request("POST", "/v2/models/bench/infer", body, headers)
        reply = connection.getresponse()
        data = reply.read()
        blob = data[int(reply.headers["Inference-Header-Content-Length"]) :]
        expected = [array.reshape(-1) for array in session.run(None, {"ids": ids, "mask": ids**0})]
        if not np.allclose(
            np.frombuffer(blob, np.float32), np.concatenate(expected), atol=TOLERANCE
        ):
            raise AssertionError(f"the gateway and ONNX Runtime differ at length {ids.shape[1]}")
    connection.close()


def as_text(result: dict[str, Any]) -> str:
    setup = result["setup"]
    where = "server and client on a core each" if setup["pinned"] else "one shared core"
    lines = [
        result["what"],
        f"{setup['connections']} connections, 1 worker, {where}, {setup['rounds']} rounds of "
        f"{setup['seconds']:g} s in turn; {result['machine']['cpu']}",
        f"  {'':14}{'CPU/row':>10}{'of alone':>10}{'rows/s':>9}{'rows/run':>10}{'padding':>9}",
        f"  {'ONNX Runtime':14}{result['alone_cpu_us_per_row']:7.0f} µs"
        "  alone, at the best batch of each length",
    ]
    for name, form in result["forms"].items():
        part = form["of_alone"]
        lines.append(
            f"  {name:14}{form['cpu_us_per_row']:7.0f} µs{part['mean']:10.0%}"
            f"{form['rows_per_s']:9,.0f}{form['rows_per_run']:10.1f}{form['padding_share']:9.1%}"
            f"  (95 %: {part['low']:.0%} to {part['high']:.0%} of alone)"
        )
    return "\n".join(lines)
