"""A real worker process, with the test as its supervisor."""

import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eventlog import allocate_incarnation
from eventlog.settings import LogSettings
from protos import channel_pb2 as pb
from serving.grpc_engine import choose_engine
from serving.metrics import Totals, read_slab
from serving.settings import CompressionSettings, LimitSettings, TlsSettings

WAIT_S = 30.0
HOST = "127.0.0.1"


def eventually(condition: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """The first true value of `condition`, which is asked again and again."""
    deadline = time.monotonic() + wait_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def sealed(data: bytes) -> int:
    """A memfd with `data`."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def golden_file(**arrays: np.ndarray) -> bytes:
    """An .npz of golden samples; keys are input__NAME and output__NAME."""
    file = io.BytesIO()
    np.savez(file, **{name.replace("__", ":", 1): array for name, array in arrays.items()})
    return file.getvalue()


class WorkerProcess:
    """Starts `python -m serving.worker` and speaks the control channel to it."""

    def __init__(
        self,
        state_dir: Path,
        *,
        limits: LimitSettings | None = None,
        compression: CompressionSettings | None = None,
        log: LogSettings | None = None,
        tls: TlsSettings | None = None,
        index: int = 0,
        workers: int = 1,
        listener: socket.socket | None = None,
        grpc_listener: socket.socket | None = None,
        engine: str = "auto",
        orphan_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state_dir = state_dir
        for folder in ("run", "log"):
            (state_dir / folder).mkdir(parents=True, exist_ok=True)
        self.incarnation = allocate_incarnation(state_dir / "log")
        self.connections_path = state_dir / "run" / "connections"
        if not self.connections_path.exists():
            self.connections_path.write_bytes(bytes(8 * workers))
        self.listener = listener or listen_http()
        self.http_port = self.listener.getsockname()[1]
        library = choose_engine(engine).library  # type: ignore[arg-type]
        self.grpc_connections_path = state_dir / "run" / "connections-grpc"
        if not self.grpc_connections_path.exists():
            self.grpc_connections_path.write_bytes(bytes(8 * workers))
        self.grpc_listener = grpc_listener or listen_grpc(listens=bool(library))
        self.grpc_port = self.grpc_listener.getsockname()[1]
        document = {
            "incarnation": self.incarnation,
            "index": index,
            "workers": workers,
            "state_dir": str(state_dir),
            "connections_path": str(self.connections_path),
            "grpc_connections_path": str(self.grpc_connections_path),
            "http_fd": self.listener.fileno(),
            "grpc_fd": self.grpc_listener.fileno(),
            "grpc_library": library,
            "grpc_host": HOST,
            "grpc_port": self.grpc_port,
            "server_name": "driftgate",
            "drain_s": 5.0,
            "orphan_s": orphan_s,
            "max_batch_size": 64,
            "shared_memory": False,
            "limits": dataclasses.asdict(limits or LimitSettings()),
            "compression": dataclasses.asdict(compression or CompressionSettings()),
            "tls": dataclasses.asdict(tls or TlsSettings()),
            "log": dataclasses.asdict(log or LogSettings()),
        }
        config = sealed(json.dumps(document).encode())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.worker", "--config-fd", str(config)],
            pass_fds=(config, self.listener.fileno(), self.grpc_listener.fileno()),
            env={**os.environ, **(environment or {})},
            stderr=subprocess.PIPE,
        )
        os.close(config)
        self._epoch = 0
        self._channel: socket.socket | None = None
        self.connect()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def grpc_target(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    def connect(self) -> pb.Started:
        """Become the worker's supervisor."""
        path = self.state_dir / "run" / f"{self.incarnation}.sock"

        def dial() -> socket.socket | None:
            assert self.process.poll() is None, self.errors()
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.connect(f"/proc/self/fd/{folder}/{path.name}")
            except OSError:
                sock.close()
                return None
            finally:
                os.close(folder)
            return sock

        self._channel = eventually(dial)
        self._channel.settimeout(WAIT_S)
        return self.receive().started

    def hang_up(self) -> None:
        """Vanish, as a killed supervisor does."""
        assert self._channel is not None
        self._channel.close()
        self._channel = None

    def send(self, message: pb.ToWorker, fds: Sequence[int] = ()) -> None:
        assert self._channel is not None
        socket.send_fds(self._channel, [message.SerializeToString()], list(fds))

    def receive(self) -> pb.FromWorker:
        assert self._channel is not None
        data = self._channel.recv(200_000)
        assert data, "the worker hung up"
        return pb.FromWorker.FromString(data)

    def load(
        self,
        model: str,
        version: str,
        onnx: bytes,
        *,
        files: Mapping[str, bytes] | None = None,
        **settings: Any,
    ) -> pb.FromWorker:
        """Load a version; the worker's answer. settings: keys of its settings document."""
        files = files or {}
        contents = [onnx, *files.values()]
        fds = [sealed(data) for data in contents]
        names = ["model.onnx", *files]
        message = pb.Load(
            model=model,
            version=version,
            digest=digest_of(model, version),
            files=[
                pb.File(name=name, size=len(data))
                for name, data in zip(names, contents, strict=True)
            ],
            settings_json=json.dumps(settings).encode(),
        )
        self.send(pb.ToWorker(load=message), fds)
        for fd in fds:
            os.close(fd)
        return self.receive()

    def route(self, routes: Mapping[str, Sequence[tuple[str, str, int]]]) -> None:
        """Replace the routing table: model -> (version, role, weight)..."""
        self._epoch += 1
        table = pb.SetRoutes(epoch=self._epoch)
        for model, arms in routes.items():
            table.routes.append(
                pb.Route(
                    model=model,
                    salt=f"salt-{model}",
                    arms=[
                        pb.Arm(
                            version=version,
                            digest=digest_of(model, version),
                            role=role,
                            weight=weight,
                            rollout="r1" if len(arms) > 1 else "",
                        )
                        for version, role, weight in arms
                    ],
                    loaded=[version for version, _, _ in arms],
                    generation=self._epoch,
                )
            )
        self.send(pb.ToWorker(set_routes=table))
        assert self.receive().routes_applied.epoch == self._epoch

    def serve(self, onnx: Mapping[str, bytes], **settings: Any) -> None:
        """Load version 1 of every model and route to it."""
        for model, data in onnx.items():
            answer = self.load(model, "1", data, **settings)
            assert answer.HasField("loaded"), answer
        self.route({model: [("1", "stable", 100)] for model in onnx})

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """One HTTP request with the standard library's client."""
        request = urllib.request.Request(
            self.url + path, data=body, method=method, headers=dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
                return reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers

    def infer(self, model: str, document: Any, **headers: str) -> tuple[int, Any]:
        """A JSON infer request."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        status, reply, _ = self.request("POST", f"/v2/models/{model}/infer", body, named)
        return status, json.loads(reply)

    def metrics(self) -> Totals:
        return read_slab(self.state_dir / "run" / f"{self.incarnation}.metrics")

    def metric(self, *key: str) -> float:
        """The first cell of a metric's child; 0 if it does not exist yet."""
        return self.metrics().cells.get(key, [0.0])[0]

    def drain(self, grace_ms: int = 5000) -> int:
        """Drain in order; the exit code."""
        self.send(pb.ToWorker(drain=pb.Drain(grace_ms=grace_ms)))
        assert self.receive().HasField("drained")
        return self.process.wait(WAIT_S)

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def stop(self) -> None:
        """End it, whatever its state, and close what is ours."""
        if self._channel is not None:
            self._channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(WAIT_S)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.listener.close()
        self.grpc_listener.close()


def listen_http() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    sock.listen(512)
    sock.setblocking(False)
    return sock


def listen_grpc(*, listens: bool) -> socket.socket:
    """The supervisor's socket; a worker with grpcio listens on the port by itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, 0))
    if listens:
        sock.listen(512)
        sock.setblocking(False)
    return sock


def digest_of(model: str, version: str) -> str:
    return f"{model}-{version}".encode().hex().ljust(64, "0")[:64]


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}
