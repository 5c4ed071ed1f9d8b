"""A gateway with fake workers, as a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from eventlog import LedgerLine, ledger
from registry_client import EmbeddedRegistry, FileRole
from serving.admin_client import AdminClient, AdminError, AdminUnreachableError
from serving.settings import GatewaySettings
from serving.supervisor.config import SupervisorConfig, memory_file

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0


def tiny_model(words: str = "") -> bytes:
    """A valid ONNX model that is told apart by its words."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    # Old enough for every ONNX Runtime that we support.
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, doc_string=words, ir_version=9, opset_imports=opsets)
    assert isinstance(model, onnx.ModelProto)
    return bytes(model.SerializeToString())


class FakeGateway:
    """A state directory, its registry, and the supervisor processes started on it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = folder / "state"
        self.config = SupervisorConfig(
            self.state,
            self.state / "registry",
            GatewaySettings(
                **{
                    "http_port": 0,
                    "grpc_port": 0,
                    "metrics_port": 0,
                    "admin_port": 0,
                    "workers": 2,
                    "registry_poll_s": 0.05,
                    "drain_s": 5.0,
                    "orphan_s": 10.0,
                    **settings,
                }
            ),
        )
        self.registry = EmbeddedRegistry(self.state / "registry")
        self.processes: list[subprocess.Popen[str]] = []
        self.started = 0
        self.argv = (str(Path(__file__).with_name("fake_gateway.py")),)

    def push(self, words: str = "", *, champion: bool = True, model: str = "digits") -> str:
        files = {"model.onnx": (FileRole.MODEL, tiny_model(words))}
        version = self.registry.push(model, files).version
        if champion:
            self.registry.set_alias(model, "champion", version)
        return version

    @property
    def process(self) -> "subprocess.Popen[str]":
        return self.processes[-1]

    def start(self) -> "FakeGateway":
        """Start a supervisor; returns once it says that it is ready."""
        self.launch()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http=http://127.0.0.1:"), self.errors()
        return self

    def launch(self) -> None:
        descriptor = memory_file("test-config", self.config.to_json())
        self.started += 1
        with (self.state.parent / f"stderr-{self.started}").open("w") as errors:
            self.processes.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        *self.argv,
                        *("--config-fd", str(descriptor)),
                    ],
                    pass_fds=(descriptor,),
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            )
        os.close(descriptor)

    def errors(self) -> str:
        return (self.state.parent / f"stderr-{self.started}").read_text()

    @property
    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = json.loads((self.state / "run" / "supervisor.json").read_text())[
            "ports"
        ]
        return ports

    @property
    def token(self) -> str:
        return (self.state / "admin.token").read_text().strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports['admin']}"

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.url, self.token)

    def tell(self, verb: str, model: str = "digits", **fields: Any) -> dict[str, Any]:
        command = {"verb": verb, "model": model, "origin": "cli", "actor": "ann", **fields}
        return self.admin.apply(command)

    def deployment(self, model: str = "digits") -> dict[str, Any]:
        found = self.admin.deployment(model)
        assert found is not None
        return found

    def pids(self) -> list[int]:
        """Of the workers that serve."""
        workers = self.admin.status()["workers"]
        return sorted(item["pid"] for item in workers if item["state"] == "ready")

    def arms(self) -> list[dict[str, int]]:
        """What every living worker routes: version -> weight of the first model."""
        return [
            {arm["version"]: arm["weight"] for arm in route["arms"]}
            for path in (self.state / "run").glob("*.told")
            if path.with_suffix(".sock").exists()
            for route in json.loads(path.read_text()).get("routes", [])
        ]

    def books(self) -> list[LedgerLine]:
        """The prediction log's ledger, read from its files."""
        return ledger(self.state / "log")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def clean_up(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        for path in (self.state / "run").glob("*.sock"):
            with contextlib.suppress(Exception):
                _end_worker(path)


def _end_worker(path: Path) -> None:
    from protos import channel_pb2
    from serving.channel import connect

    endpoint = connect(path, channel_pb2.FromWorker)
    os.kill(endpoint.peer_pid, signal.SIGKILL)
    endpoint.close()


def eventually(check: Callable[[], Any], what: str = "") -> Any:
    """The first true value of `check`, which may fail to reach a gateway meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if value := check():
                return value
        except (AdminUnreachableError, AdminError, OSError, AssertionError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"never: {what or check}")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    gateway = FakeGateway(tmp_path)
    yield gateway
    gateway.clean_up()


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., FakeGateway]]:
    made: list[FakeGateway] = []

    def make(**settings: Any) -> FakeGateway:
        made.append(FakeGateway(tmp_path / str(len(made)), **settings))
        return made[-1]

    yield make
    for gateway in made:
        gateway.clean_up()
