"""Worker processes for the tests; most share one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventlog.settings import LogSettings
from serving.grpc_engine import choose_engine
from serving.nghttp2 import LibraryError
from serving.settings import LimitSettings
from tests.conftest import required
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import WorkerProcess

# Short where a test waits for them, and small where it exceeds them.
LIMITS = LimitSettings(
    body_bytes_max=256 * 1024,
    message_bytes_max=256 * 1024,
    connections_max=64,
    first_byte_s=1.0,
    header_s=1.0,
    body_s=1.0,
    keep_alive_s=2.0,
    request_s_max=20.0,
)
LOG = LogSettings(flush_ms=20)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module with ENGINES runs its tests on each of those gRPC engines."""
    engines = getattr(metafunc.module, "ENGINES", None)
    if engines and "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", engines, indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> str:
    """Skips where the engine cannot be had, unless this run may not skip it."""
    wanted = getattr(request, "param", "auto")
    try:
        choose_engine(wanted)
    except LibraryError as error:
        if required(wanted):
            pytest.fail(str(error))
        pytest.skip(str(error))
    return wanted


@pytest.fixture(scope="session")
def shared_workers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], WorkerProcess]]:
    """By gRPC engine, a worker that serves every small model."""
    started: dict[str, WorkerProcess] = {}

    def get(engine: str) -> WorkerProcess:
        if engine not in started:
            folder = tmp_path_factory.mktemp("worker")
            worker = WorkerProcess(folder, limits=LIMITS, log=LOG, engine=engine)
            started[engine] = worker
            worker.serve(_models())
        return started[engine]

    yield get
    for worker in started.values():
        code = worker.process.poll()
        worker.process.kill()
        assert code is None, worker.errors()
        worker.stop()


@pytest.fixture(scope="session")
def shared_worker(shared_workers: Callable[[str], WorkerProcess], engine: str) -> WorkerProcess:
    """Tests must leave it as they find it."""
    return shared_workers(engine)


def _models() -> dict[str, bytes]:
    return {
        "identity": onnx_models.identity(),
        "two": onnx_models.two_inputs(),
        "softmax": onnx_models.not_batchable(),
        "fixed": onnx_models.fixed_shape(),
        "log": onnx_models.logarithm(),
        "table": onnx_models.table_lookup(),
        "slow": onnx_models.slow(),
        **{f"id.{datatype}": onnx_models.identity(datatype) for datatype in onnx_models.ELEMENTS},
    }


@pytest.fixture
def start_worker(tmp_path: Path, engine: str) -> Iterator[Callable[..., WorkerProcess]]:
    """Start workers of one's own; they are stopped after the test."""
    started: list[WorkerProcess] = []

    def start(**options: object) -> WorkerProcess:
        options = {"limits": LIMITS, "log": LOG, "engine": engine} | options
        options = {"state_dir": tmp_path / f"state{len(started)}"} | options
        worker = WorkerProcess(**options)  # type: ignore[arg-type]
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.stop()
