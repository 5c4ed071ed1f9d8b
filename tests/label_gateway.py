"""A gateway as those see it who send labels: the worker's own desk, and a list for a log."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from eventlog import Label
from eventlog.core.prediction_id import IdCodec
from serving.core.errors import ServeError
from serving.worker.labels import LabelDesk

CODEC = IdCodec([bytes(range(32))])
ALIEN = IdCodec([bytes(reversed(range(32)))])


def ids(count: int, codec: IdCodec = CODEC) -> list[str]:
    return [codec.encode(1_700_000_000_000 + i, "00000a", i) for i in range(count)]


class Gateway:
    """The worker's own label desk behind a plain HTTP server; the log is a list."""

    def __init__(self, port: int = 0) -> None:
        self.labels: list[Label] = []
        self.requests = 0
        self.busy = 0  # requests that are answered `busy_status` first
        self.busy_status = 503
        self.ready = True
        self.models = {"m"}
        self.seen: Any = lambda _: None  # called with the labels, as a monitor that reads them
        table = SimpleNamespace(find=self._find)
        metrics = SimpleNamespace(labels=lambda *_: None)
        plane: Any = SimpleNamespace(table=table, metrics=metrics)
        self._desk = LabelDesk(plane, self, CODEC)
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(200 if gateway.ready else 503, {"ready": gateway.ready})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._reply(*gateway.answer(self.path.split("/")[3], body))

            def _reply(self, status: int, document: dict[str, Any]) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _find(self, model: str) -> SimpleNamespace:
        if model not in self.models:
            error = ServeError(f"unknown model {model}")
            error.http_status = 404
            raise error
        return SimpleNamespace(model=model)

    def answer(self, model: str, body: bytes) -> tuple[int, dict[str, Any]]:
        self.requests += 1
        if self.busy:
            self.busy -= 1
            return self.busy_status, {"error": "try again"}
        try:
            return 200, {"accepted": asyncio.run(self._desk.take(model, body))}
        except ServeError as error:
            return error.http_status, {"error": str(error)}

    def offer_labels(self, _model: str, labels: Any, done: Any) -> None:
        self.labels += labels
        self.seen(labels)
        done(None)


@contextmanager
def label_gateway(port: int = 0) -> Iterator[Gateway]:
    """Runs until the block ends."""
    found = Gateway(port)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        found.server.server_close()
        thread.join()
