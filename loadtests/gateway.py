"""A gateway of its own for one benchmark: fresh state, free ports, pinned cores."""

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Gateway:
    pid: int
    http_port: int
    grpc_port: int
    metrics_port: int
    admin_port: int
    state_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def tell(self, fields: Mapping[str, Any], wait_ms: int) -> None:
        """A command for `bench`, as an operator would type it.

        wait_ms: for it to be live on all workers. Raises: RuntimeError if it is refused.
        """
        token = (self.state_dir / "admin.token").read_text().strip()
        text = json.dumps({"model": "bench", "origin": "cli", "actor": "bench", **fields})
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=60)) as link:
            link.request("POST", f"/v1/commands?wait_ms={wait_ms}", text, headers)
            reply = link.getresponse()
            answer = reply.read().decode()
        if reply.status != 200:
            raise RuntimeError(f"{fields['verb']}: {reply.status} {answer}")


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(
    model: bytes,
    *,
    workers: int,
    core: int | None,
    beside: Mapping[str, bytes] = MappingProxyType({}),
    push: Mapping[str, Sequence[str]] = MappingProxyType({}),
    options: Sequence[str] = (),
    on_demand: bool = False,
    sharing: Gateway | None = None,
) -> Iterator[Gateway]:
    """Serve `model` as `bench` with everything on; stops the gateway at the end.

    beside: other models in the registry. push: options of `model push`, by model.
    options: of `driftgate serve`. on_demand: clients load and unload all but `bench`.
    sharing: another one, whose registry this one has too; nothing is pushed into it again.
    """
    with tempfile.TemporaryDirectory() as folder:
        state = ["--state-dir", f"{folder}/state"]
        driftgate = [sys.executable, "-m", "driftgate"]
        if sharing is not None:
            (Path(folder) / "state").mkdir()
            (Path(folder) / "state" / "registry").symlink_to(sharing.state_dir / "registry")
        for name, data in ({"bench": model, **beside} if sharing is None else {}).items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(data)
            words = ["model", "push", name, str(path), "--alias", "champion", *state]
            subprocess.run(
                [*driftgate, *words, *push.get(name, ())], check=True, stdout=subprocess.DEVNULL
            )
            path.unlink()
        http_port, grpc_port, metrics_port, admin_port = free_ports(4)
        pin = [] if core is None else ["taskset", "-c", str(core)]
        serve = [*pin, *driftgate, "serve", *state, "--gateway-workers", str(workers), *options]
        if on_demand:
            serve += ["--compat-model-control", "explicit"]
        for name, port in (
            ("http", http_port),
            ("grpc", grpc_port),
            ("metrics", metrics_port),
            ("admin", admin_port),
        ):
            serve += [f"--gateway-{name}-port", str(port)]
        log = (Path(folder) / "gateway.log").open("w+")
        process = subprocess.Popen(serve, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await_workers(admin_port, process, Path(folder) / "state")
            if on_demand:
                _await(http_port, process, "POST", "/v2/repository/models/bench/load")
            for name in ("bench",) if on_demand else ("bench", *beside):
                _await(http_port, process, "GET", f"/v2/models/{name}/ready")
            yield Gateway(
                process.pid, http_port, grpc_port, metrics_port, admin_port, Path(folder) / "state"
            )
        except Exception:
            log.seek(0)
            sys.stderr.write(log.read()[-4000:])
            raise
        finally:
            process.terminate()
            process.wait(30)
            log.close()


def _await_workers(port: int, process: "subprocess.Popen[bytes]", state_dir: Path) -> None:
    """Until all of them serve: the data port answers as soon as the first one does."""
    for _ in _tries(process):
        with suppress(OSError):
            token = (state_dir / "admin.token").read_text().strip()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status")
            request.add_header("Authorization", f"Bearer {token}")
            with urllib.request.urlopen(request, timeout=30) as reply:
                if json.load(reply)["ready"]:
                    return


def _await(port: int, process: "subprocess.Popen[bytes]", method: str, path: str) -> None:
    """Ask until the answer is 200."""
    for _ in _tries(process):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with closing(connection), suppress(OSError):
            connection.request(method, path, b"{}" if method == "POST" else None)
            if connection.getresponse().status == 200:
                return


def _tries(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Raises: RuntimeError when the gateway has ended, TimeoutError after READY_S."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the gateway ended with {process.returncode} before it was ready")
        yield
        time.sleep(0.05)
    raise TimeoutError(f"the gateway was not ready within {READY_S:.0f} s")
