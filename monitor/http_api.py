"""The monitor's HTTP port: metrics, health, state and history; it reads and never writes.

Laws:
- a request is answered from the published snapshot or by a read-only database
  connection of its own, so it cannot hold the main loop up;
- at most CONNECTIONS_MAX at once, each for at most TIMEOUT_S of silence.
"""

import json
import logging
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from monitor import gate_api
from monitor.core.gate import GateLimits
from monitor.core.performance.intervals import LEVEL
from monitor.live_report import live_report
from monitor.metrics import CONTENT_TYPE, expose, make_registry
from monitor.performance_documents import by_slice
from monitor.published import Published
from monitor.segment_documents import segments_document
from monitor.store import read_history

TIMEOUT_S = 10.0
CONNECTIONS_MAX = 64
HISTORY_LIMIT = 10_000  # blocks, verdicts and actions in one answer, the newest
REPORT_WINDOW_S = 86_400
INT64_MAX = 2**63 - 1  # what SQLite takes
BODY_BYTES_MAX = 64 * 1024  # of a hook: a few names

logger = logging.getLogger(__name__)


class MonitorServer(ThreadingHTTPServer):
    """Serves until `shutdown`; `server_port` says where."""

    daemon_threads = True

    def __init__(
        self,
        host: str,
        port: int,
        published: Published,
        database: Path,
        limits: GateLimits | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.published, self.database = published, database
        self.limits, self.clock = limits or GateLimits(), clock
        self.registry = make_registry(published)
        # The statistics of one question at a time, so that no number of askers can
        # keep more than one core from the main loop.
        self.drawing = threading.Lock()
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        logger.debug("a monitor client went away", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: MonitorServer
    server_version = "driftgate-monitor"
    sys_version = ""

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.split("/") if part]
        query = urllib.parse.parse_qs(url.query)
        match parts:
            case ["metrics"]:
                self._send(200, expose(self.server.registry), CONTENT_TYPE)
            case ["healthz"]:
                ready = self.server.published.snapshot.ready
                self._json(200 if ready else 503, {"ready": ready})
            case ["v1", "state"]:
                self._state()
            case ["v1", "verdict"]:
                self._verdict(query)
            case ["v1", "models", model, *rest]:
                self._of_model(model, rest, query, url.path)
            case _:
                self._json(404, {"error": f"no such page: {url.path}"})

    def _of_model(
        self, model: str, parts: list[str], query: dict[str, list[str]], path: str
    ) -> None:
        """Everything below `/v1/models/M`."""
        match parts:
            case ["history"]:
                self._history(model, query)
            case ["drift"]:
                self._drift(model, query)
            case ["performance"]:
                self._performance(model, query)
            case ["slices"]:
                self._slices(model)
            case ["outliers"]:
                self._outliers(model)
            case ["fairness"]:
                self._fairness(model)
            case ["report"]:
                self._report(model, query)
            case ["features", *name]:
                self._feature(model, "/".join(name))
            case _:
                self._json(404, {"error": f"no such page: {path}"})

    def do_POST(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.split("/") if part]
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 <= length <= BODY_BYTES_MAX:
            self.close_connection = True
            self._json(413, {"error": f"a body of 0 to {BODY_BYTES_MAX} bytes is expected"})
            return
        body = self.rfile.read(length)
        match parts:
            case ["v1", "flagger", hook] if hook in gate_api.HOOKS:
                self._flagger(hook, body, urllib.parse.parse_qs(url.query))
            case _:
                self._json(404, {"error": f"no such page: {url.path}"})

    def _verdict(self, query: dict[str, list[str]]) -> None:
        try:
            asked = gate_api.asked_by_query(query)
        except ValueError as exc:
            self._json(400, {"error": str(exc)})
            return
        document = self._gate(asked)
        if document is not None:
            self._json(200, document)

    def _flagger(self, hook: str, body: bytes, query: dict[str, list[str]]) -> None:
        try:
            asked = gate_api.asked_by_flagger(body, query)
        except ValueError as exc:
            self._json(400, {"error": str(exc)})
            return
        document = self._gate(asked)
        if document is not None:
            self._json(gate_api.flagger_status(hook, document["verdict"]), document)

    def _gate(self, asked: gate_api.Asked) -> dict[str, Any] | None:
        """None: it is not known, and that has been answered."""
        server, models = self.server, self.server.published.snapshot.models
        document = gate_api.answer(models, asked, server.clock(), server.limits)
        if document is None:
            self._unknown(asked.model)
        return document

    def _state(self) -> None:
        snapshot = self.server.published.snapshot
        overall = dict(snapshot.overall)
        self._json(200, {**overall, "ready": snapshot.ready, "models": dict(snapshot.models)})

    def _history(self, model: str, query: dict[str, list[str]]) -> None:
        try:
            after_ns = _whole(query, "after_ns", -1, low=-1)
            limit = min(_whole(query, "limit", HISTORY_LIMIT, low=1), HISTORY_LIMIT)
        except ValueError as exc:
            self._json(400, {"error": str(exc)})
            return
        try:
            database = self.server.published.snapshot.databases.get(model, self.server.database)
            blocks, verdicts, actions = read_history(database, model, after_ns, limit)
        except sqlite3.Error as exc:
            self._json(503, {"error": f"history is not at hand: {exc}"})
            return
        self._json(
            200, {"model": model, "blocks": blocks, "verdicts": verdicts, "actions": actions}
        )

    def _feature(self, model: str, name: str) -> None:
        document = self.server.published.snapshot.feature(model, name)
        if document is None:
            self._unknown(model, name)
            return
        self._json(200, document)

    def _drift(self, model: str, query: dict[str, list[str]]) -> None:
        name = query["feature"][0] if "feature" in query else None
        published = self.server.published
        snapshot = published.snapshot
        with self.server.drawing:
            document = snapshot.drift(model, name)
            if document is not None and name is None:
                spaces = snapshot.spaces.get(model, ())
                document["multivariate"] = published.comparisons.of(model, spaces)
        if document is None:
            self._unknown(model, name)
            return
        self._json(200, document)

    def _performance(self, model: str, query: dict[str, list[str]]) -> None:
        versions = self.server.published.snapshot.performance.get(model)
        if versions is None:
            self._unknown(model)
            return
        by = query["by"][0] if "by" in query else None
        known = {name for version in versions for name in version["slices"]}
        if by is not None and versions and by not in known:
            names = ", ".join(sorted(known)) or "none; set [models.NAME.slices]"
            sentence = f"model {model!r} has no slice {by!r}; known: {names}"
            self._json(404, {"error": sentence})
            return
        found = [by_slice(version, by) for version in versions]
        self._json(200, {"model": model, "level": LEVEL, "by": by, "versions": found})

    def _slices(self, model: str) -> None:
        segments = self.server.published.snapshot.segments
        if model not in segments:
            self._unknown(model)
            return
        with self.server.drawing:
            document = segments_document(model, segments[model])
        self._json(200, document)

    def _outliers(self, model: str) -> None:
        found = self.server.published.snapshot.outliers.get(model)
        if found is None:
            self._unknown(model)
            return
        self._json(200, found)

    def _fairness(self, model: str) -> None:
        versions = self.server.published.snapshot.fairness.get(model)
        if versions is None:
            self._unknown(model)
            return
        self._json(200, {"model": model, "versions": versions})

    def _report(self, model: str, query: dict[str, list[str]]) -> None:
        try:
            window_s = _whole(query, "window_s", REPORT_WINDOW_S, low=1)
        except ValueError as exc:
            self._json(400, {"error": str(exc)})
            return
        published = self.server.published
        try:
            with self.server.drawing:
                page = live_report(
                    published.snapshot,
                    self.server.database,
                    model,
                    float(window_s),
                    published.comparisons,
                )
        except sqlite3.Error as exc:
            self._json(503, {"error": f"history is not at hand: {exc}"})
            return
        if page is None:
            self._unknown(model)
            return
        self._send(200, page.encode(), "text/html; charset=utf-8")

    def _unknown(self, model: str, feature: str | None = None) -> None:
        """Models are watched from their first prediction on: right after a start there is none."""
        if feature is None or model not in self.server.published.snapshot.models:
            error = f"the monitor has seen no prediction of a model {model!r} yet"
        else:
            error = f"model {model!r} has no feature {feature!r} that is watched"
        self._json(404, {"error": error})

    def _json(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, json.dumps(document).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def _whole(query: dict[str, list[str]], name: str, default: int, *, low: int) -> int:
    """Raises: ValueError with a sentence for the client."""
    text = query.get(name, [str(default)])[0]
    sentence = f"{name} is a whole number from {low} to {INT64_MAX}, got {text[:40]!r}"
    try:
        value = int(text)
    except ValueError:
        raise ValueError(sentence) from None
    if not low <= value <= INT64_MAX:
        raise ValueError(sentence)
    return value
