"""A real worker's answers over HTTP."""

import gzip
import json
import math
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.integration.serving import onnx_models
from tests.integration.serving.harness import digest_of, tensor


def test_a_reply_has_the_protocols_members_in_order(shared_worker):
    document = {"id": "r-1", "inputs": [tensor("x", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]])]}
    status, reply = shared_worker.infer("identity", document)
    assert status == 200
    assert list(reply) == ["id", "model_name", "model_version", "parameters", "outputs"]
    assert reply["id"] == "r-1"
    assert (reply["model_name"], reply["model_version"]) == ("identity", "1")
    assert reply["outputs"] == [tensor("y", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])]
    assert len(reply["parameters"]["prediction_id"]) == 36


def test_details_are_given_when_asked_for(shared_worker):
    document = {
        "parameters": {"driftgate_details": True},
        "inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])],
    }
    _, reply = shared_worker.infer("identity", document)
    assert reply["parameters"]["model_digest"] == digest_of("identity", "1")


def test_two_inputs_and_outputs_in_any_order_and_a_choice_of_outputs(shared_worker):
    a = tensor("a", "FP32", [1, 4], [1, 2, 3, 4])
    b = tensor("b", "FP32", [1, 4], [10, 20, 30, 40])
    _, reply = shared_worker.infer("two", {"inputs": [b, a]})
    assert [output["name"] for output in reply["outputs"]] == ["s", "d"]
    assert reply["outputs"][1]["data"] == [-9, -18, -27, -36]
    _, reply = shared_worker.infer("two", {"inputs": [a, b], "outputs": [{"name": "d"}]})
    assert [output["name"] for output in reply["outputs"]] == ["d"]


VALUES = {
    "BOOL": [True, False, True],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 65535],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, 1, 2**64 - 1],
    "INT8": [-128, 0, 127],
    "INT16": [-(2**15), 0, 2**15 - 1],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "FP32": [0.5, -0.0, 3.4028235e38],
    "FP64": [0.1, 1e-300, 1.7e308],
    "BYTES": ["", "plain", "é\u0000\u20ac"],
}


@pytest.mark.parametrize("datatype", VALUES)
def test_every_json_datatype_comes_back_as_it_was_sent(shared_worker, datatype):
    document = {"inputs": [tensor("x", datatype, [1, 3], VALUES[datatype])]}
    status, reply = shared_worker.infer(f"id.{datatype}", document)
    assert status == 200, reply
    assert reply["outputs"][0]["data"] == VALUES[datatype]
    assert reply["outputs"][0]["datatype"] == datatype


@pytest.mark.parametrize("datatype", [d for d in onnx_models.ELEMENTS if d != "BYTES"])
def test_every_fixed_size_datatype_comes_back_as_the_same_bytes(shared_worker, datatype):
    width = {"BOOL": 1, "UINT8": 1, "INT8": 1, "FP32": 4, "UINT32": 4, "INT32": 4}.get(datatype)
    width = width or (2 if datatype in {"FP16", "BF16", "INT16", "UINT16"} else 8)
    blob = bytes([1, 0, 1] * 8)[: 3 * width] if datatype == "BOOL" else bytes(range(3 * width))
    entry = {"name": "x", "datatype": datatype, "shape": [1, 3],
             "parameters": {"binary_data_size": len(blob)}}  # fmt: skip
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    status, body, headers = shared_worker.request(
        "POST",
        f"/v2/models/id.{datatype}/infer",
        head + blob,
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert status == 200, body
    length = int(headers["Inference-Header-Content-Length"])
    assert headers["Content-Type"] == "application/octet-stream"
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": len(blob)}
    assert body[length:] == blob


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_float_outputs_as_json_are_refused_before_they_run(shared_worker, datatype):
    entry = {"name": "x", "datatype": datatype, "shape": [1, 3],
             "parameters": {"binary_data_size": 6}}  # fmt: skip
    head = json.dumps({"inputs": [entry]}).encode()
    status, body, _ = shared_worker.request(
        "POST", f"/v2/models/id.{datatype}/infer", head + bytes(6),
        {"Inference-Header-Content-Length": str(len(head))},
    )  # fmt: skip
    assert status == 400
    assert f"sending {datatype} data via JSON is not supported" in json.loads(body)["error"]


def test_a_raw_body_gets_a_raw_reply(shared_worker):
    data = np.float32([1, 2, 3]).tobytes()
    status, body, headers = shared_worker.request(
        "POST", "/v2/models/identity/infer", data, {"Inference-Header-Content-Length": "0"}
    )
    assert status == 200
    assert body[int(headers["Inference-Header-Content-Length"]) :] == data


def test_nan_and_infinities_are_data_both_ways(shared_worker):
    data = b"[NaN,-1,0,1,Infinity,-Infinity]"
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,3],"data":%b}]}' % data
    status, reply = shared_worker.infer("log", body)
    assert status == 200
    values = reply["outputs"][0]["data"]
    assert math.isnan(values[0])
    assert math.isnan(values[1])
    assert values[2:5] == [-math.inf, 0.0, math.inf]
    assert math.isnan(values[5])


def test_empty_batches_are_answered(shared_worker):
    status, reply = shared_worker.infer("identity", {"inputs": [tensor("x", "FP32", [0, 3], [])]})
    assert status == 200
    assert reply["outputs"][0] == tensor("y", "FP32", [0, 3], [])


def test_a_model_whose_rows_depend_on_each_other_is_not_batched(shared_worker):
    rows = [[0.0, 1.0], [2.0, 3.0]]
    document = {"inputs": [tensor("x", "FP32", [2, 2], rows)]}
    expected = np.exp(rows) / np.exp(rows).sum(axis=0)

    def call(_):
        return shared_worker.infer("softmax", document)

    with ThreadPoolExecutor(8) as pool:
        for status, reply in pool.map(call, range(32)):
            assert status == 200
            assert np.allclose(np.reshape(reply["outputs"][0]["data"], (2, 2)), expected, atol=1e-6)
    assert shared_worker.metric("driftgate_executions_total", "softmax", "1") == 32


def test_a_model_without_a_batch_dimension_is_served(shared_worker):
    status, reply = shared_worker.infer(
        "fixed", {"inputs": [tensor("x", "FP32", [2, 2], [1, 2, 3, 4])]}
    )
    assert status == 200
    assert reply["outputs"][0]["data"] == [-1, -2, -3, -4]


def test_requests_at_once_share_executions_and_each_gets_its_own_rows(shared_worker):
    def call(i):
        rows = 1 + i % 3
        data = [[i, i + 0.5, row] for row in range(rows)]
        document = {"inputs": [tensor("x", "FP32", [rows, 3], data)]}
        status, reply = shared_worker.infer("identity", document)
        assert status == 200
        return np.array_equal(np.reshape(reply["outputs"][0]["data"], (rows, 3)), data)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(300)))


def test_a_poisonous_request_fails_alone(shared_worker):
    def call(i):
        index = 99 if i % 10 == 0 else i % 4
        return i, shared_worker.infer("table", {"inputs": [tensor("x", "INT64", [1, 1], [index])]})

    with ThreadPoolExecutor(16) as pool:
        for i, (status, reply) in pool.map(call, range(200)):
            if i % 10 == 0:
                assert status == 500
                assert "could not run this input" in reply["error"]
                assert "/" not in reply["error"]
            else:
                assert status == 200
                assert reply["outputs"][0]["data"] == [10.0 * (i % 4)]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_are_read(shared_worker, encoding):
    body = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    status, reply = shared_worker.infer("identity", packed, Content_Encoding=encoding)
    assert status == 200
    assert reply["outputs"][0]["data"] == [1, 2, 3]


def test_bombs_truncations_and_unknown_encodings_are_refused(shared_worker):
    bomb = gzip.compress(bytes(8 * 1024 * 1024))
    assert shared_worker.infer("identity", bomb, Content_Encoding="gzip")[0] == 413
    assert shared_worker.infer("identity", bomb[:50], Content_Encoding="gzip")[0] == 400
    assert shared_worker.infer("identity", b"x", Content_Encoding="deflate")[0] == 400
    status, _, headers = shared_worker.request(
        "POST", "/v2/models/identity/infer", b"x", {"Content-Encoding": "br"}
    )
    assert status == 501
    assert "gzip" in headers["Accept-Encoding"]


def test_health_metadata_and_unknown_names(shared_worker):
    def get(path):
        status, body, _ = shared_worker.request("GET", path)
        return status, json.loads(body)

    for slash in ("", "/"):
        assert get("/v2/health/live" + slash) == (200, {"live": True, "ready": True})
        assert get("/v2/health/ready" + slash)[0] == 200
        status, server = get("/v2" + slash)
        assert (status, server["name"]) == (200, "driftgate")
        assert "binary_tensor_data" in server["extensions"]
    status, model = get("/v2/models/two")
    assert status == 200
    assert model["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 4]}
    assert model["versions"] == ["1"]
    assert get("/v2/models/two/versions/1/ready") == (200, {"name": "two", "ready": True})
    unknown = {"error": "Request for unknown model: 'nope' is not found"}
    assert get("/v2/models/nope") == (404, unknown)
    assert get("/v2/models/two/versions/9")[0] == 404
    assert get("/nowhere") == (404, {"error": "Not Found"})
    assert get("/v2/models/two/infer") == (405, {"error": "Method Not Allowed"})
    status, body, _ = shared_worker.request("POST", "/v2/health/live", b"")
    assert (status, json.loads(body)) == (405, {"error": "Method Not Allowed"})


def test_unknown_models_and_versions_of_infer_are_404(shared_worker):
    document = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}
    status, reply = shared_worker.infer("nope", document)
    assert (status, reply) == (404, {"error": "Request for unknown model: 'nope' is not found"})
    status, body, _ = shared_worker.request(
        "POST", "/v2/models/identity/versions/9/infer", json.dumps(document).encode()
    )
    assert status == 404
    assert b"version '9' is not found" in body
    status, body, _ = shared_worker.request(
        "POST", "/v2/models/identity/versions/1/infer/", json.dumps(document).encode()
    )
    assert status == 200


def test_a_deadline_that_has_passed_is_refused_or_answered_late_at_most_once(shared_worker):
    document = {"inputs": [tensor("x", "FP32", [1, 1], [1.0])]}
    document["parameters"] = {"timeout": 1000}
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: shared_worker.infer("slow", document), range(4)))
    # Who runs at once is late, who would wait for it is told so.
    assert {status for status, _ in results} <= {503, 504}
    assert all("deadline" in reply["error"] for _, reply in results)
    status, _ = shared_worker.infer(
        "identity",
        {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]},
        X_Request_Timeout_Ms="nope",
    )
    assert status == 400


def test_a_slow_model_does_not_stop_a_fast_one(shared_worker):
    slow = {"inputs": [tensor("x", "FP32", [1, 1], [1.0])]}
    fast = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(shared_worker.infer, "slow", slow) for _ in range(2)]
        answered = 0
        while not all(future.done() for future in waiting):
            assert shared_worker.infer("identity", fast)[0] == 200
            answered += 1
        assert all(future.result()[0] == 200 for future in waiting)
    assert answered >= 2
