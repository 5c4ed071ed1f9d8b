"""Starting a peer: its own environment, the same core as ours, ended with all its children."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loadtests.gateway import READY_S, free_ports
from loadtests.peers.requests import Request, Row, plain_json, rows_of, v2_binary, v2_grpc, v2_json

SCRIPTS = Path(__file__).parent / "scripts"  # run by the peers, in their environments
END_S = 20.0


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that answers. what: how it is set up, in words."""

    name: str
    what: str
    pid: int
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """What it takes to start a peer in `folder`, which holds model.onnx."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    requests: tuple[Request, ...]


Start = Callable[[Path, Path, Row], Started]


def _triton(env: Path, folder: Path, row: Row) -> Started:
    """From the wheel nvidia-pytriton, which carries tritonserver and its Python backend."""
    packages = _packages(env)
    server = packages / "pytriton" / "tritonserver"
    version = folder / "models" / "bench" / "1"
    version.mkdir(parents=True)
    shutil.copy(folder / "model.onnx", version)
    shutil.copy(SCRIPTS / "triton_model.py", version / "model.py")
    shutil.copy(SCRIPTS / "triton_config.pbtxt", version.parent / "config.pbtxt")
    backend = folder / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(server / "python_backend_stubs" / python / "triton_python_backend_stub", backend)
    libraries = [packages / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib"]
    http, grpc, metrics = free_ports(3)
    argv = [
        str(server / "bin" / "tritonserver"),
        *("--model-repository", str(folder / "models")),
        *("--backend-directory", str(folder / "backends")),
        *("--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1"),
        *("--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)),
    ]
    environment = {
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        "PYTHONPATH": str(packages),
        "PATH": f"{env / 'bin'}:{os.environ['PATH']}",
    }
    return Started(argv, environment, (v2_binary(http, row), v2_grpc(grpc, row)))


def _mlserver(env: Path, folder: Path, row: Row) -> Started:
    for name in ("mlserver_model.py", "model-settings.json"):
        shutil.copy(SCRIPTS / name, folder)
    http, grpc, metrics = free_ports(3)
    environment = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
        "PYTHONPATH": str(folder),
    }
    argv = [str(env / "bin" / "mlserver"), "start", str(folder)]
    return Started(argv, environment, (v2_json(http, row), v2_grpc(grpc, row)))


def _kserve(env: Path, _: Path, row: Row) -> Started:
    http, grpc = free_ports(2)
    argv = [
        *(str(env / "bin" / "python"), str(SCRIPTS / "kserve_server.py")),
        *("--http_port", str(http), "--grpc_port", str(grpc), "--workers", "1"),
        *("--enable_latency_logging", "False"),
    ]
    return Started(argv, {}, (v2_json(http, row), v2_grpc(grpc, row)))


def _litserve(env: Path, _: Path, row: Row) -> Started:
    (http,) = free_ports(1)
    argv = [str(env / "bin" / "python"), str(SCRIPTS / "litserve_server.py"), str(http)]
    request = plain_json(f"http://127.0.0.1:{http}/predict", {"x": rows_of(row)})
    return Started(argv, {}, (request,))


def _bentoml(env: Path, folder: Path, row: Row) -> Started:
    shutil.copy(SCRIPTS / "bentoml_service.py", folder)
    (http,) = free_ports(1)
    argv = [
        *(str(env / "bin" / "bentoml"), "serve", "bentoml_service:Mlp"),
        *("--host", "127.0.0.1", "--port", str(http)),
    ]
    environment = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(folder / "home")}
    request = plain_json(f"http://127.0.0.1:{http}/predict", {"x": rows_of(row)})
    return Started(argv, environment, (request,))


PEERS: Mapping[str, tuple[str, Start]] = {
    "triton": (
        "Triton of nvidia-pytriton, Python backend, dynamic batching without delay",
        _triton,
    ),
    "mlserver": ("MLServer, a runtime of its own, no parallel workers", _mlserver),
    "kserve": ("KServe's Python server, one worker", _kserve),
    "litserve": ("LitServe, one worker, batches of up to 64", _litserve),
    "bentoml": ("BentoML, one worker", _bentoml),
}


@contextmanager
def serving(name: str, env: Path, model: bytes, row: Row, core: int | None) -> Iterator[Peer]:
    """Serve `model` with the peer `name`; all its processes are ended afterwards.

    Raises: RuntimeError when it does not answer.
    """
    what, start = PEERS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "model.onnx").write_bytes(model)
        started = start(env.absolute(), folder, row)
        pin = [] if core is None else ["taskset", "-c", str(core)]
        with (folder / "log").open("w+") as log:
            process = subprocess.Popen(
                [*pin, *started.argv], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "MODEL": str(folder / "model.onnx"), **started.environment},
                start_new_session=True,
            )  # fmt: skip
            try:
                for request in started.requests:
                    _await(request, process)
                yield Peer(name, what, process.pid, started.requests)
            except Exception:
                log.seek(0)
                sys.stderr.write(log.read()[-4000:])
                raise
            finally:
                _end(process)


def _await(request: Request, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_S
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            request.ask()
        except Exception as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{request.url} does not answer: {error}") from error
            time.sleep(0.2)
        else:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # itself, or children that outlived it
    process.wait(END_S)


def _packages(env: Path) -> Path:
    """The environment's site-packages."""
    return next((env / "lib").glob("python*/site-packages"))
