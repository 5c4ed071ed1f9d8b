"""KServe's and TensorFlow Serving's V1 endpoints of a running worker."""

import gzip
import http.client
import json

import numpy as np
import pytest

from tests.integration.serving import onnx_models
from tests.integration.serving.harness import HOST, WAIT_S, WorkerProcess, eventually


def call(worker: WorkerProcess, method, path, document=None, headers=None):
    body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
    status, reply, reply_headers = worker.request(method, path, body, headers)
    return status, json.loads(reply), reply_headers


def predict(worker: WorkerProcess, model, document, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(worker, "POST", f"/v1/models/{model}:predict", document, named)


def test_rows_come_back_as_rows(shared_worker):
    status, reply, headers = predict(shared_worker, "identity", {"instances": [[1, 2, 3.5]]})
    assert (status, reply) == (200, {"predictions": [[1, 2, 3.5]]})
    assert headers["content-type"] == "application/json"
    assert headers["x-model-version"] == "1"
    assert len(headers["x-prediction-id"]) == 36


def test_several_inputs_and_outputs_are_objects(shared_worker):
    row = {"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}
    status, reply, _ = predict(shared_worker, "two", {"instances": [row, row]})
    expected = {"s": [2, 3, 4, 5], "d": [0, 1, 2, 3]}
    assert (status, reply) == (200, {"predictions": [expected, expected]})
    columns = {name: [values] for name, values in row.items()}
    status, reply, _ = predict(shared_worker, "two", {"inputs": columns})
    assert (status, reply) == (200, {"outputs": {k: [v] for k, v in expected.items()}})


def test_a_version_may_be_named(shared_worker):
    path = "/v1/models/identity/versions/1:predict"
    status, reply, _ = call(shared_worker, "POST", path, {"instances": [[1, 2, 3]]})
    assert (status, reply) == (200, {"predictions": [[1, 2, 3]]})
    path = "/v1/models/identity/versions/9:predict"
    status, reply, _ = call(shared_worker, "POST", path, {"instances": [[1, 2, 3]]})
    assert status == 404
    assert "version '9' is not found" in reply["error"]


def test_models_that_do_not_batch_are_served(shared_worker):
    x = [[0.0, 1.0], [1.0, 0.0]]
    status, reply, _ = predict(shared_worker, "fixed", {"instances": x})
    assert (status, reply) == (200, {"predictions": (-np.array(x)).tolist()})


def test_the_models_are_listed_and_described(shared_worker):
    for path in ("/v1/models", "/v2/models", "/v2/models/"):
        status, reply, _ = call(shared_worker, "GET", path)
        assert status == 200
        assert {"identity", "two", "id.BF16"} <= set(reply["models"])
    available = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("/v1/models/two", "/v1/models/two/versions/1"):
        status, reply, _ = call(shared_worker, "GET", path)
        assert (status, reply["name"], reply["ready"]) == (200, "two", True)
        assert reply["model_version_status"] == [available]
    for path in ("/v1/models/nope", "/v1/models/two/versions/2"):
        status, reply, _ = call(shared_worker, "GET", path)
        assert status == 404
        assert reply["error"].startswith("Request for unknown model: ")
    assert call(shared_worker, "GET", "/")[:2] == (200, {"status": "alive"})


@pytest.mark.parametrize("verb", ["explain", "classify", "regress"])
def test_other_verbs_say_why_they_are_not_there(shared_worker, verb):
    status, reply, _ = call(shared_worker, "POST", f"/v1/models/two:{verb}", {"instances": []})
    assert status == 501
    assert reply["error"].startswith(f":{verb} is not supported: ")
    status, reply, _ = call(shared_worker, "POST", f"/v1/models/nope:{verb}", {"instances": []})
    assert status == 404


def test_errors_are_the_callers_and_counted(shared_worker):
    before = shared_worker.metric("driftgate_requests_rejected_total", "identity", "invalid")
    cases = [
        ("identity", {"instances": [[1, 2, 3], [4, 5]]}, 400, "nested unevenly"),
        ("identity", {"instances": [[1, 2]]}, 400, "Expected [-1,3], got [1,2]"),
        ("identity", b"{", 400, "failed to parse"),
        ("id.INT8", {"instances": [[1, 2, 128]]}, 400, "element 128 of input 'x'"),
        ("id.INT8", {"instances": [[1, 2, 3.0]]}, 400, "must be INT8, got number 3.0"),
        ("id.FP16", {"instances": [[1, 2, 3]]}, 400, "/v2/models/id.FP16/infer"),
        ("nope", {"instances": [[1, 2]]}, 404, "unknown model: 'nope'"),
        ("table", {"instances": [[9]]}, 500, "could not run this input"),
    ]
    for model, document, code, message in cases:
        status, reply, _ = predict(shared_worker, model, document)
        assert (status, message in reply["error"]) == (code, True), reply
    assert (
        shared_worker.metric("driftgate_requests_rejected_total", "identity", "invalid")
        == before + 3
    )


def test_headers_set_deadline_and_encoding(shared_worker):
    document = {"instances": [[1, 2, 3]]}
    body = gzip.compress(json.dumps(document).encode())
    status, reply, _ = predict(shared_worker, "identity", body, content_encoding="gzip")
    assert (status, reply) == (200, {"predictions": [[1, 2, 3]]})
    status, reply, headers = predict(shared_worker, "identity", body, content_encoding="br")
    assert status == 501
    assert headers["accept-encoding"] == "gzip, deflate"
    status, reply, _ = predict(shared_worker, "identity", document, x_request_timeout_ms="soon")
    assert (status, "x-request-timeout-ms" in reply["error"]) == (400, True)
    slow = {"instances": [[1.0]]}
    status, reply, _ = predict(shared_worker, "slow", slow, x_request_timeout_ms="60000")
    assert (status, reply) == (200, {"predictions": [[1]]})


def test_a_routing_key_that_is_too_long_is_refused_also_where_nothing_is_split(shared_worker):
    instances = {"instances": [[1, 2, 3]]}
    assert predict(shared_worker, "identity", instances, x_routing_key="k" * 1024)[0] == 200
    status, reply, _ = predict(shared_worker, "identity", instances, x_routing_key="k" * 1025)
    assert status == 400
    assert "at most 1024 characters, got 1025" in reply["error"]


def test_the_routing_key_chooses_the_version(start_worker):
    worker = start_worker()
    for version, factor in (("1", 1.0), ("2", 2.0)):
        assert worker.load("m", version, onnx_models.scale(factor)).HasField("loaded")
    worker.route({"m": [("1", "stable", 50), ("2", "candidate", 50)]})
    versions = {}
    for _ in range(3):
        for key in map(str, range(20)):
            _, reply, headers = predict(worker, "m", {"instances": [[1, 2, 3]]}, x_routing_key=key)
            version = headers["x-model-version"]
            assert reply["predictions"][0][0] == float(version)
            assert versions.setdefault(key, version) == version
    assert set(versions.values()) == {"1", "2"}
    states = call(worker, "GET", "/v1/models/m")[1]["model_version_status"]
    assert [state["version"] for state in states] == ["2", "1"]


def test_a_v1_prediction_takes_labels(shared_worker):
    _, _, headers = predict(shared_worker, "identity", {"instances": [[1, 2, 3], [4, 5, 6]]})
    labels = [{"prediction_id": f"{headers['x-prediction-id']}.1", "label": 1}]
    status, reply, _ = call(shared_worker, "POST", "/v2/models/identity/labels", labels)
    assert (status, reply) == (200, {"accepted": 1})


def test_a_client_that_leaves_takes_its_request_along(start_worker):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow(300_000)})
    body = json.dumps({"instances": [[1.0]]})
    before = worker.metric("driftgate_requests_cancelled_total", "slow")
    clients = [http.client.HTTPConnection(HOST, worker.http_port, timeout=WAIT_S) for _ in "ab"]
    for client in clients:
        client.request("POST", "/v1/models/slow:predict", body)
    for client in clients:
        client.close()
    eventually(lambda: worker.metric("driftgate_requests_cancelled_total", "slow") == before + 2)
    status, reply, _ = predict(worker, "slow", {"instances": [[2.0]]})
    assert (status, reply) == (200, {"predictions": [[2]]})
    assert worker.drain() == 0
