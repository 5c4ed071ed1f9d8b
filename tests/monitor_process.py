"""A real monitor process over a real log, and a stand-in for the gateway's admin API."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from eventlog import LogSettings, PredictionIds, Record, SqliteLog
from monitor.settings import MonitorSettings
from registry_client import EmbeddedRegistry, FileRole
from tests.monitor_world import MODEL, Version, profile_of
from tests.registry_models import plain_model

WAIT_S = 120.0
# Machine code is shared between the processes of all tests.
CACHE = Path(__file__).parent.parent / ".cache" / "numba"


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited in vain until {what}")


@dataclass
class Admin:
    """Answers as the admin API does; remembers every command."""

    deployment: dict[str, Any] = field(default_factory=dict)
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)  # of models by name
    commands: list[dict[str, Any]] = field(default_factory=list)
    refuse: str = ""

    def __post_init__(self) -> None:
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                self._answer(200, admin.deployments.get(name, admin.deployment))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] != "Bearer secret":
                    self._answer(401, {"error": "token"})
                    return
                command = json.loads(body)
                admin.commands.append(command)
                if admin.refuse and command["verb"] != "NOTE":
                    self._answer(422, {"error": admin.refuse})
                    return
                now = time.time_ns()
                result = {"accepted": True, "accepted_ns": str(now), "applied_ns": str(now + 1)}
                self._answer(200, result)

            def _answer(self, status: int, document: dict[str, Any]) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def verbs(self) -> list[str]:
        return [command["verb"] for command in list(self.commands)]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Home:
    """A state directory with a registry, and any number of producers that write its log."""

    def __init__(self, path: Path, *versions: Version) -> None:
        self.path = path
        self.log_dir = path / "log"
        self.log_dir.mkdir(parents=True)
        (path / "admin.token").write_text("secret\n")
        self.ids = PredictionIds.load(path)
        self.logs: dict[str, SqliteLog] = {}
        registry = EmbeddedRegistry(path / "registry")
        self.digests_of: dict[str, dict[str, str]] = {}  # model -> version -> digest
        self._registry = registry
        self.add_model(MODEL, *versions)

    @property
    def digests(self) -> dict[str, str]:
        return self.digests_of[MODEL]

    def add_model(self, model: str, *versions: Version) -> None:
        digests = self.digests_of.setdefault(model, {})
        for version in versions:
            manifest = self._registry.push(
                model,
                {
                    "model.onnx": (FileRole.MODEL, plain_model()),
                    "reference.json": (FileRole.REFERENCE, profile_of(version).to_bytes()),
                },
                inputs=(),
                outputs=(),
                version=version.name,
            )
            digests[version.name] = manifest.digest

    def append(self, log: object, producer: str, records: list[Record]) -> None:
        """As `Traffic.append`: under the digests that the registry gave."""
        if producer not in self.logs:
            self.logs[producer] = SqliteLog(self.log_dir, producer=producer, settings=LogSettings())
        self.logs[producer].append([self._with_digest(record) for record in records])

    def _with_digest(self, record: Record) -> Record:
        if "digest" not in record.headers:
            return record
        digest = self.digests_of[record.headers["model"]][record.headers["version"]]
        return replace(record, headers={**record.headers, "digest": digest})

    def close(self) -> None:
        for log in self.logs.values():
            log.close()


class Process:
    """`python -m monitor` on a home; `settings` as in driftgate.toml."""

    def __init__(
        self, home: Home, admin: Admin, settings: MonitorSettings, **document: Any
    ) -> None:
        """document: over what is made of the rest."""
        self.home = home
        self.document = {
            "state_dir": str(home.path),
            "registry_dir": str(home.path / "registry"),
            "model_repository": "",
            "admin_urls": [admin.url],
            "admin_token_path": str(home.path / "admin.token"),
            "monitor": asdict(settings),
            **document,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Process":
        (self.home.path / "monitor" / "address").unlink(missing_ok=True)
        descriptor = os.memfd_create("config", 0)
        os.write(descriptor, json.dumps(self.document).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        with (self.home.path / "monitor.log").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monitor", "--config-fd", str(descriptor)],
                pass_fds=(descriptor,),
                env=os.environ | {"NUMBA_CACHE_DIR": str(CACHE)},
                stderr=said,
            )
        os.close(descriptor)
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(WAIT_S)

    def get(self, path: str) -> tuple[int, bytes]:
        address = (self.home.path / "monitor" / "address").read_text().strip()
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def state(self) -> dict[str, Any] | None:
        try:
            return json.loads(self.get("/v1/state")[1])
        except OSError:
            return None

    def said(self) -> str:
        return (self.home.path / "monitor.log").read_text()
