"""KServe's REST (V1 and V2) and gRPC clients get what ONNX Runtime computes."""

import os
from pathlib import Path

import pytest

from tests.conformance import cases
from tests.conformance.conftest import RunClient, Server, checks_of, served
from tests.conformance.graphs import DATATYPES
from tests.conformance.wire import NOT_IN_JSON

pytestmark = pytest.mark.ci
SCRIPT = "kserve_client.py"
PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"
KINDS = ("rest.v1", "rest.v2", "grpc")
ALL_DATATYPES = tuple(datatype for datatype in DATATYPES if datatype != "BF16")  # the SDK's
JSON_DATATYPES = tuple(datatype for datatype in DATATYPES if datatype not in NOT_IN_JSON)
# Kind and form, its datatypes, and the cases that it has no words for.
FORMS = [
    ("rest.v1", "instances", JSON_DATATYPES, ("scalar",)),
    ("rest.v1", "inputs", JSON_DATATYPES, ()),
    ("rest.v2", "binary", ALL_DATATYPES, ()),
    ("rest.v2", "json", JSON_DATATYPES, ()),
    ("grpc", "raw", ALL_DATATYPES, ()),
    ("grpc", "typed", JSON_DATATYPES, ()),
]
TENSORS = [
    (kind, form, datatype, without)
    for kind, form, datatypes, without in FORMS
    for datatype in datatypes
]
IDS = [f"{kind}-{form}-{datatype}" for kind, form, datatype, _ in TENSORS]


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that has the SDK, which needs too much to share ours."""
    if PYTHON.exists():
        return str(PYTHON)
    if "kserve" in os.environ.get("DRIFTGATE_TESTS_REQUIRE", "").split():
        pytest.fail("KServe's SDK is required in this run: make .venv-clients")
    pytest.skip("KServe's SDK is not installed: make .venv-clients")


@pytest.mark.parametrize(("kind", "form", "datatype", "without"), TENSORS, ids=IDS)
def test_every_tensor_arrives_and_returns_as_the_runtime_has_it(
    python: str,  # first: without it no server is started
    run_client: RunClient,
    server: Server,
    kind: str,
    form: str,
    datatype: str,
    without: tuple[str, ...],
) -> None:
    outcomes = run_client(python, SCRIPT, kind)[f"{form} {datatype}"]
    assert {outcome.name: outcome.error for outcome in outcomes if outcome.error} == {}
    # The SDK writes and reads JSON by a parser that refuses NaN and infinities.
    any_number = form in ("binary", "raw", "typed")
    assert [outcome.name for outcome in outcomes] == [
        case.name
        for case in served(cases.table(), server)
        if case.datatype == datatype and case.name not in without and (case.finite or any_number)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", checks_of(SCRIPT))
def test_the_client_finds_what_it_expects(
    python: str, run_client: RunClient, kind: str, check: str
) -> None:
    (outcome,) = (
        outcome for outcome in run_client(python, SCRIPT, kind)["checks"] if outcome.name == check
    )
    assert outcome.error is None
