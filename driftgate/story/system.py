"""The demo's system: `driftgate up` and two traffic processes, watched from outside."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from select import select
from typing import IO, Any

from driftgate.processes import follower
from driftgate.story.journal import Journal
from driftgate.story.models import SEED
from driftgate.story.traffic import Plan
from driftgate.story.training import MODEL
from loadtests.gateway import free_ports

POLL_S = 0.05
LABEL_DELAY_S = 0.5
CONFIG = Path(__file__).with_name("demo.toml")


class StepFailed(Exception):
    """A step of the story did not happen."""


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float) -> Any:
    """The first true value of `condition`.

    Raises: StepFailed naming `what` when it stays false for `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(POLL_S)
    raise StepFailed(f"{what}: did not happen within {timeout_s:.0f} s")


@dataclass(frozen=True, slots=True)
class Ports:
    http: int
    grpc: int
    metrics: int
    admin: int
    monitor: int

    @classmethod
    def free(cls) -> "Ports":
        return cls(*free_ports(5))


@dataclass
class System(AbstractContextManager["System"]):
    """Gateway, monitor and traffic; `log` holds what the processes said."""

    state_dir: Path
    rows_per_s: float
    ports: Ports = field(default_factory=Ports.free)
    journals: list[Journal] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _up: "subprocess.Popen[bytes] | None" = None
    _traffic: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def registry_dir(self) -> Path:
        return self.state_dir / "registry"

    @property
    def log_path(self) -> Path:
        return self.state_dir / "up.log"

    def __exit__(self, *_: object) -> None:
        for process in self._traffic:
            with process:  # closes its pipes and waits for it
                process.kill()
        self.stop()
        self._stack.close()

    # -- processes ---------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The demo's settings that depend on this run, for every command it types."""
        hook = [sys.executable, "-m", "driftgate.story.retrain"]
        return os.environ | {
            "DRIFTGATE_STATE_DIR": str(self.state_dir),
            "DRIFTGATE_GATEWAY__HTTP_PORT": str(self.ports.http),
            "DRIFTGATE_GATEWAY__GRPC_PORT": str(self.ports.grpc),
            "DRIFTGATE_GATEWAY__METRICS_PORT": str(self.ports.metrics),
            "DRIFTGATE_GATEWAY__ADMIN_PORT": str(self.ports.admin),
            "DRIFTGATE_MONITOR__PORT": str(self.ports.monitor),
            "DRIFTGATE_MONITOR__RETRAIN_HOOK": " ".join(hook),
        }

    def start(self) -> float:
        """Start gateway and monitor; returns the seconds until both were ready."""
        started = time.monotonic()
        log = self._stack.enter_context(self.log_path.open("wb"))
        self._up = subprocess.Popen(
            [sys.executable, "-m", "driftgate", "up", "--config", str(CONFIG)],
            stdout=log, stderr=subprocess.STDOUT, env=self.environment(),
            preexec_fn=follower(),  # noqa: PLW1509 - one system call, and no lock taken
        )  # fmt: skip
        wait_for("gateway and monitor ready", self._ready, 60.0)
        return time.monotonic() - started

    def stop(self) -> None:
        if self._up is not None and self._up.poll() is None:
            self._up.terminate()
            self._up.wait(60)

    def _ready(self) -> bool:
        if self._up is not None and self._up.poll() is not None:
            raise StepFailed(
                f"`driftgate up` ended with {self._up.returncode}; see {self.log_path}"
            )
        return self.reachable(f"http://127.0.0.1:{self.ports.http}/v2/models/{MODEL}/ready") and (
            self.reachable(f"http://127.0.0.1:{self.ports.monitor}/healthz")
        )

    @staticmethod
    def reachable(url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return True
        except OSError:
            return False

    def command(self, *words: str) -> dict[str, Any]:
        """Type `driftgate WORDS -o json` as an operator would; returns what it printed.

        Raises: StepFailed with the command's own words when it fails.
        """
        done = subprocess.run(
            [sys.executable, "-m", "driftgate", *words, "--config", str(CONFIG), "-o", "json"],
            capture_output=True, text=True, env=self.environment(), timeout=60, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise StepFailed(f"driftgate {' '.join(words)}: {done.stderr or done.stdout}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    # -- traffic -----------------------------------------------------------------

    def send_traffic(self) -> None:
        """Start one process over HTTP and one over gRPC, each with half of the rate."""
        for index, protocol in enumerate(("http", "grpc")):
            folder = self.state_dir / "journal" / protocol
            port = self.ports.http if protocol == "http" else self.ports.grpc
            plan = Plan(
                protocol,
                f"127.0.0.1:{port}",
                f"127.0.0.1:{self.ports.http}",
                str(folder),
                self.rows_per_s / 2,
                LABEL_DELAY_S,
                SEED,
                SEED + 1 + index,
            )
            process = subprocess.Popen(
                [sys.executable, "-m", "driftgate.story.traffic", plan.to_json()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                process_group=0,  # a terminal's Ctrl-C is for us; it ends when its input does
            )  # fmt: skip
            self._traffic.append(process)
            self.journals.append(Journal(folder))
        for process in self._traffic:
            # Not by a read that blocks: a Ctrl-C just before it would only be seen after it.
            pipe = _pipe(process.stdout)
            wait_for("traffic ready", partial(_readable, pipe), 60.0)
            pipe.readline()  # "ready"

    def tell_traffic(self, word: str) -> None:
        for process in self._traffic:
            pipe = _pipe(process.stdin)
            pipe.write(word + "\n")
            pipe.flush()

    def end_traffic(self, *, labels_may_fail: bool = False) -> None:
        """Let the traffic send its last labels and end.

        Raises: StepFailed when labels were refused, unless `labels_may_fail`.
        """
        self.tell_traffic("quit")
        for process in self._traffic:
            with process:
                report = json.loads(_pipe(process.stdout).read())
            if report["labels_refused"] and not labels_may_fail:
                raise StepFailed(f"{report['labels_refused']} labels were refused")
        self._traffic.clear()
        self.refresh()

    def refresh(self) -> None:
        for journal in self.journals:
            journal.refresh()

    # -- what the system says of itself --------------------------------------------

    def status(self) -> dict[str, Any]:
        return self._get(f"http://127.0.0.1:{self.ports.admin}/v1/status", token=True)

    def deployment(self) -> dict[str, Any]:
        return self._get(f"http://127.0.0.1:{self.ports.admin}/v1/models/{MODEL}", token=True)

    def audit(self) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.ports.admin}/v1/audit?model={MODEL}&limit=1000"
        entries: list[dict[str, Any]] = self._get(url, token=True)["entries"]
        return entries

    def ledger(self) -> list[dict[str, Any]]:
        return list(self.command("log", "stats")["incarnations"])

    def monitor(self, path: str = "state") -> dict[str, Any]:
        return self._get(f"http://127.0.0.1:{self.ports.monitor}/v1/{path}")

    def _get(self, url: str, *, token: bool = False) -> dict[str, Any]:
        request = urllib.request.Request(url)
        if token:
            secret = (self.state_dir / "admin.token").read_text().strip()
            request.add_header("Authorization", f"Bearer {secret}")
        with urllib.request.urlopen(request, timeout=10) as reply:
            document: dict[str, Any] = json.loads(reply.read())
            return document

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """The workers that serve at the moment."""
        return [w for w in self.status()["workers"] if w["state"] == "ready"]

    def kill_worker(self) -> int:
        """kill -9 one worker; returns the moment, Unix ns."""
        pid = int(self.workers()[0]["pid"])
        moment = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        return moment


def _readable(pipe: IO[str]) -> bool:
    return bool(select([pipe], [], [], 0)[0])


def _pipe(stream: "IO[str] | None") -> IO[str]:
    if stream is None:
        raise AssertionError("started with a pipe")
    return stream
