"""tritonclient's four kinds get what ONNX Runtime computes, and the words they expect."""

import sys

import pytest

from tests.conformance import cases
from tests.conformance.conftest import RunClient, Server, checks_of, expected_names
from tests.conformance.graphs import DATATYPES
from tests.conformance.wire import NOT_IN_JSON

SCRIPT = "triton_client.py"
KINDS = ("http", "http.aio", "grpc", "grpc.aio")
HTTP_FORMS = ("binary", "json", "json_to_binary", "binary_to_json")
TENSORS = [
    (kind, form, datatype)
    for kind in KINDS
    for form in (HTTP_FORMS if kind.startswith("http") else ("raw",))
    for datatype in DATATYPES
    if form in ("binary", "raw") or datatype not in NOT_IN_JSON
]


@pytest.mark.parametrize(("kind", "form", "datatype"), TENSORS)
def test_every_tensor_arrives_and_returns_as_the_runtime_has_it(
    run_client: RunClient, server: Server, kind: str, form: str, datatype: str
) -> None:
    expected = expected_names(cases.table(), server, datatype)
    if not expected:
        pytest.skip(f"the server has no model of {datatype}")
    outcomes = run_client(sys.executable, SCRIPT, kind)[f"{form} {datatype}"]
    assert {outcome.name: outcome.error for outcome in outcomes if outcome.error} == {}
    assert [outcome.name for outcome in outcomes] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", checks_of(SCRIPT))
def test_the_client_finds_what_it_expects(run_client: RunClient, kind: str, check: str) -> None:
    (outcome,) = (
        outcome
        for outcome in run_client(sys.executable, SCRIPT, kind)["checks"]
        if outcome.name == check
    )
    assert outcome.error is None
