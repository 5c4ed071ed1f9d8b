"""Fixtures that a module imports to run all of its tests on each gRPC engine."""

from collections.abc import Callable
from functools import partial

import pytest

from serving.grpc_engine import choose_engine
from serving.nghttp2 import LibraryError
from tests.conftest import required
from tests.integration.serving.harness import WorkerProcess

ENGINES = ("nghttp2", "grpcio")


def need(engine: str) -> str:
    """Skips where the engine cannot be had, unless this run may not skip it."""
    try:
        choose_engine(engine)  # type: ignore[arg-type]
    except LibraryError as error:
        if required("nghttp2"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    return engine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return need(request.param)


@pytest.fixture
def shared_worker(shared_workers: Callable[[str], WorkerProcess], engine: str) -> WorkerProcess:
    return shared_workers(engine)


@pytest.fixture
def start_worker(
    start_worker: Callable[..., WorkerProcess], engine: str
) -> Callable[..., WorkerProcess]:
    return partial(start_worker, engine=engine)
