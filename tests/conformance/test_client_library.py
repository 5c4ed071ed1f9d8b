"""tritonclient's four flavours against a running worker, each in its own process.

With OIP_HTTP, OIP_GRPC and OIP_MODELS set, the same suite runs against the
server that they name, which must serve the models of that folder.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.settings import LimitSettings
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import WorkerProcess

SUITE = Path(__file__).with_name("client_suite.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """HTTP address, gRPC address and the folder of the models served."""
    if "OIP_HTTP" in os.environ:
        yield os.environ["OIP_HTTP"], os.environ["OIP_GRPC"], Path(os.environ["OIP_MODELS"])
        return
    models = {
        "mlp": onnx_models.mlp(),
        "two": onnx_models.two_inputs(),
        "wide": onnx_models.identity("FP32", 500_000),
        **{f"id.{name}": onnx_models.identity(name) for name in onnx_models.ELEMENTS},
    }
    folder = tmp_path_factory.mktemp("models")
    for name, data in models.items():
        (folder / f"{name}.onnx").write_bytes(data)
    worker = WorkerProcess(tmp_path_factory.mktemp("state"), limits=LimitSettings())
    try:
        worker.serve(models)
        yield worker.url.removeprefix("http://"), worker.grpc_target, folder
    finally:
        worker.stop()


@pytest.mark.parametrize("flavour", ["http", "http.aio", "grpc", "grpc.aio"])
def test_the_client_gets_what_the_runtime_computes(
    server: tuple[str, str, Path], flavour: str
) -> None:
    if importlib.util.find_spec("tritonclient") is None:
        pytest.fail("tritonclient is not installed; it is part of the dev requirements")
    http, grpc, models = server
    address = http if flavour.startswith("http") else grpc
    run = subprocess.run(
        [sys.executable, str(SUITE), flavour, address, str(models)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert run.stdout.count("passed check_") >= 10
