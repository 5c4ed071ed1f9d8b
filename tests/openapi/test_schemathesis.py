"""schemathesis against a running gateway, over the description that it serves.

`--openapi-cases N` sets how many cases are made. A failure prints the request
as a curl command, and the seed that made it.
"""

import json
import os
import random
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from registry_client import FileRole
from serving.core.openapi import describe
from serving.settings import LimitSettings
from tests.conftest import ROOT
from tests.integration.control.conftest import FakeGateway
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import HOST, WAIT_S
from tests.openapi.refused import never_granted

pytestmark = pytest.mark.ci

HOOKS = "tests.openapi.hooks"
# Of the hooks' checks one stands for each: 5xx may be an answer to what was asked for, and no
# schema says how many elements a shape has, what a model takes, or which ids were issued.
REPLACED = "not_a_server_error,positive_data_acceptance"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one with a model of each datatype."""
    made = FakeGateway(tmp_path_factory.mktemp("openapi"))
    made.argv = ("-m", "serving")
    models = {
        "two": onnx_models.two_inputs(),
        "fixed": onnx_models.fixed_shape(),
        **{f"id.{name}": onnx_models.identity(name) for name in onnx_models.ELEMENTS},
    }
    for name, model in models.items():
        version = made.registry.push(name, {"model.onnx": (FileRole.MODEL, model)}).version
        made.registry.set_alias(name, "champion", version)
    try:
        made.start()
        yield f"http://{HOST}:{made.ports['http']}"
        assert made.process.poll() is None, made.errors()
    finally:
        made.clean_up()


def models_of(url: str) -> dict[str, object]:
    """What the gateway says of those models that JSON can speak to."""
    names = [
        "two",
        "fixed",
        *(f"id.{n}" for n in onnx_models.ELEMENTS if n not in {"FP16", "BF16"}),
    ]
    found = {}
    for name in names:
        with urllib.request.urlopen(f"{url}/v2/models/{name}", timeout=WAIT_S) as reply:
            found[name] = json.load(reply)
    return found


def run(url: str, models: dict[str, object], folder: Path, cases: int, seed: int = 1):
    """The finished run, its replies by operation and status, and all operations."""
    with urllib.request.urlopen(url + "/openapi.json", timeout=WAIT_S) as reply:
        paths = json.load(reply)["paths"].values()
    operations = {node["operationId"] for methods in paths for node in methods.values()}
    counts = folder / "counts.json"
    seed = seed or random.getrandbits(32)
    print(f"schemathesis seed {seed}, {len(operations)} operations")
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", url + "/openapi.json",
        "--seed", str(seed), "--max-examples", str(-(-cases // len(operations))),
        "--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all",
        "--checks", "all", "--exclude-checks", REPLACED,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": HOOKS,
        "OPENAPI_MODELS": json.dumps(models),
        "OPENAPI_COUNTS": str(counts),
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600
    )
    print(done.stdout[-20_000:], done.stderr[-4_000:])
    return done, Counter(json.loads(counts.read_text())), operations


@pytest.mark.timeout(3600)
def test_no_case_finds_an_error_of_ours_or_a_reply_that_is_not_described(
    gateway, tmp_path, request
):
    cases = request.config.getoption("openapi_cases")
    done, counts, operations = run(
        gateway, models_of(gateway), tmp_path, cases, request.config.getoption("openapi_seed")
    )
    assert done.returncode == 0
    print(dict(counts))
    assert counts.total() >= cases
    answered = {key.removesuffix(" 200") for key in counts if key.endswith(" 200")}
    # All but the description itself, which was read to make the cases.
    never = {name for name in operations if never_granted(name)} | {"description"}
    assert operations - never <= answered, "an operation was never answered"
    for status in (400, 404):
        assert counts[f"infer {status}"] > 0
        assert counts[f"labels {status}"] > 0


@contextmanager
def gateway_with(answer: tuple[int, bytes]) -> Iterator[str]:
    """The address of a server that has our description and one answer to everything."""
    description = json.dumps(describe("0", LimitSettings())).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = (200, description) if self.path == "/openapi.json" else answer
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ((500, b'{"error": "internal error"}'), "an_error_on_our_side_is_none_of_ours"),
        ((200, b'{"live": "yes"}'), "Response violates schema"),
        ((418, b'{"error": "no"}'), "Undocumented status code"),
        ((400, b'{"error": "no"}'), "a_request_that_fits_the_model_is_answered"),
    ],
)
def test_a_gateway_that_answers_wrongly_is_found_out(tmp_path, answer, found):
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    with gateway_with(answer) as url:
        done, _, _ = run(url, {"m": {"inputs": [tensor], "outputs": [tensor]}}, tmp_path, 20)
    assert done.returncode == 1
    assert found in done.stdout
