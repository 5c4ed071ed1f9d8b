"""Live traffic as a process of its own: one protocol, a steady rate, delayed labels.

    python -m driftgate.story.traffic '{"protocol": "http", ...}'

Reads `quit`, and what is to become of the scans (`scans.CONDITIONS`), from standard
input. Every request goes into a journal, so that afterwards each reply can be held
against what its version says of the same rows: `requests.jsonl` (one line a request)
and `rows.f32` (the rows sent, in order).
"""

import http.client
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from driftgate.story.scans import CONDITIONS, Labels, Rows, load_scans
from driftgate.story.training import INPUT, MODEL

ROWS_PER_REQUEST_MAX = 8
CLIENTS = 2  # connections, so that traffic reaches more than one worker
TIMEOUT_S = 10.0
LABEL_PERIOD_S = 0.1

# A gRPC client loses the calls that cross a server's GOAWAY unless it retries;
# those that grpcio had read and no handler had begun come back as CANCELLED;
# this is the policy the documentation recommends.
RETRY_POLICY = {
    "methodConfig": [
        {
            "name": [{"service": "inference.GRPCInferenceService"}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What one traffic process is told."""

    protocol: str  # http | grpc
    address: str  # host:port
    labels_address: str  # host:port of the HTTP port
    folder: str  # of the journal
    rows_per_s: float
    label_delay_s: float
    scans_seed: int
    seed: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Reply:
    prediction_id: str
    version: str
    labels: Labels
    probabilities: Rows


def http_infer(address: str) -> Callable[[Rows], Reply]:
    """An infer call over tritonclient's HTTP client, on a connection of its own."""
    import tritonclient.http as client

    connection = client.InferenceServerClient(
        address, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
    )

    def infer(rows: Rows) -> Reply:
        tensor = client.InferInput(INPUT, list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        result = connection.infer(MODEL, [tensor])
        reply = result.get_response()
        return Reply(
            reply["parameters"]["prediction_id"],
            reply["model_version"],
            result.as_numpy("label"),
            result.as_numpy("probabilities"),
        )

    return infer


def grpc_infer(address: str) -> Callable[[Rows], Reply]:
    """An infer call over tritonclient's gRPC client, on a channel of its own."""
    import tritonclient.grpc as client

    connection = client.InferenceServerClient(
        address,
        channel_args=[
            ("grpc.service_config", json.dumps(RETRY_POLICY)),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 500),
        ],
    )

    def infer(rows: Rows) -> Reply:
        tensor = client.InferInput(INPUT, list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        result = connection.infer(MODEL, [tensor], client_timeout=TIMEOUT_S)
        reply = result.get_response()
        return Reply(
            reply.parameters["prediction_id"].string_param,
            reply.model_version,
            result.as_numpy("label"),
            result.as_numpy("probabilities"),
        )

    return infer


INFER = {"http": http_infer, "grpc": grpc_infer}


class LabelSender(threading.Thread):
    """Sends each row's truth `delay_s` after its prediction, in small batches."""

    def __init__(self, address: str, delay_s: float) -> None:
        super().__init__(daemon=True)
        self._address, self._delay_s = address, delay_s
        self._due: queue.SimpleQueue[tuple[float, str, int] | None] = queue.SimpleQueue()
        self._batch: list[dict[str, object]] = []
        self.sent = 0
        self.refused = 0

    def offer(self, prediction_id: str, truth: Labels) -> None:
        due = time.monotonic() + self._delay_s
        for row, label in enumerate(truth):
            self._due.put((due, f"{prediction_id}.{row}", int(label)))

    def run(self) -> None:
        while (item := self._due.get()) is not None:
            due, prediction_id, label = item
            wait = due - time.monotonic()
            if wait > 0:
                self._send()
                time.sleep(min(max(wait, LABEL_PERIOD_S), self._delay_s))
            self._batch.append({"prediction_id": prediction_id, "label": label})
            if len(self._batch) >= 200:
                self._send()
        self._send()

    def finish(self) -> None:
        self._due.put(None)
        self.join(TIMEOUT_S + self._delay_s)

    def _send(self) -> None:
        """Post the batch; try again on a new connection, since labels may repeat."""
        if not self._batch:
            return
        body = json.dumps(self._batch)
        for _ in range(5):
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
                continue
            self.sent += len(self._batch) if status == 200 else 0
            self.refused += len(self._batch) if status != 200 else 0
            break
        else:
            self.refused += len(self._batch)
        self._batch = []

    def _post(self, body: str) -> int:
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)
        try:
            connection.request("POST", f"/v2/models/{MODEL}/labels", body)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


class Journal:
    """What was sent and what came back, in two files; flushed every second."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._requests: TextIO = stack.enter_context((folder / "requests.jsonl").open("w"))
        self._rows: BinaryIO = stack.enter_context((folder / "rows.f32").open("wb"))
        self._flushed = time.monotonic()

    def note(self, rows: Rows, line: dict[str, Any]) -> None:
        self._rows.write(rows.tobytes())
        self._requests.write(json.dumps(line) + "\n")
        if time.monotonic() - self._flushed > 1.0:
            self.flush()

    def flush(self) -> None:
        self._requests.flush()
        self._rows.flush()
        self._flushed = time.monotonic()


class Traffic:
    """The sending loop: open pacing, so a slow reply does not lower the rate."""

    def __init__(self, plan: Plan, journal: Journal, labels: LabelSender) -> None:
        self._plan, self._journal, self._labels = plan, journal, labels
        self._scans = load_scans(plan.scans_seed)
        self._rng = np.random.default_rng(plan.seed)
        self._infer = [INFER[plan.protocol](plan.address) for _ in range(CLIENTS)]
        self.condition = CONDITIONS["clean"]
        self.stopped = threading.Event()

    def run(self) -> None:
        due, turn = time.monotonic(), 0
        while not self.stopped.is_set():
            rows, truth = self._draw()
            self._send(self._infer[turn % CLIENTS], rows, truth)
            turn += 1
            due += len(rows) / self._plan.rows_per_s
            late = time.monotonic() - due
            if late > 1.0:  # after a stall, do not catch up with a burst
                due += late
            self.stopped.wait(max(0.0, -late))

    def _draw(self) -> tuple[Rows, Labels]:
        count = int(self._rng.integers(1, ROWS_PER_REQUEST_MAX + 1))
        index = self._rng.integers(0, len(self._scans.replay), count)
        rows = self.condition(self._scans.replay[index], self._rng)
        return np.ascontiguousarray(rows), self._scans.replay_labels[index]

    def _send(self, infer: Callable[[Rows], Reply], rows: Rows, truth: Labels) -> None:
        line: dict[str, Any] = {"rows": len(rows), "sent_ns": time.time_ns()}
        started = time.perf_counter()
        try:
            reply = infer(rows)
        except Exception as error:  # each client library raises its own
            line |= {"error": f"{type(error).__name__}: {error}"[:300]}
        else:
            line |= {
                "id": reply.prediction_id,
                "version": reply.version,
                "labels": reply.labels.tolist(),
                "scores": reply.probabilities.max(axis=1).round(6).tolist(),
                "truth": truth.tolist(),
            }
            self._labels.offer(reply.prediction_id, truth)
        line["seconds"] = time.perf_counter() - started
        self._journal.note(rows, line)


def obey(traffic: Traffic) -> None:
    """Follow the words on standard input until it ends."""
    for word in sys.stdin:
        if word.strip() == "quit":
            break
        traffic.condition = CONDITIONS[word.strip()]
    traffic.stopped.set()


def main() -> int:
    plan = Plan(**json.loads(sys.argv[1]))
    with ExitStack() as stack:
        labels = LabelSender(plan.labels_address, plan.label_delay_s)
        traffic = Traffic(plan, Journal(Path(plan.folder), stack), labels)
        labels.start()
        threading.Thread(target=obey, args=(traffic,), daemon=True).start()
        tell("ready")
        traffic.run()
        labels.finish()
    tell(json.dumps({"labels_sent": labels.sent, "labels_refused": labels.refused}))
    return 0


def tell(line: str) -> None:
    """A line for whoever started us, if anybody is still there."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line.encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
