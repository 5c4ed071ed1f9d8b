"""Compressed infer replies over HTTP, read by tritonclient and byte by byte."""

import asyncio
import gzip
import json
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio

from serving.settings import CompressionSettings, LimitSettings
from serving.worker.reply_packer import INLINE_BYTES_MAX
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import WorkerProcess, tensor

WIDTH = 4000
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}
AIOHTTP_ASKS = "gzip, deflate, br"


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = WorkerProcess(tmp_path_factory.mktemp("packed"), limits=LimitSettings())
    try:
        worker.serve(
            {
                "small": onnx_models.identity(),
                "FP32": onnx_models.identity("FP32", WIDTH),
                "INT64": onnx_models.identity("INT64", WIDTH),
            }
        )
        yield worker
        assert worker.process.poll() is None, worker.errors()
    finally:
        worker.stop()


def ask(worker, model, array, accept, *, binary=False):
    """The reply's bytes as they came, and its headers. array: (rows, width)."""
    document = {
        "inputs": [tensor("x", model, array.shape, array.reshape(-1).tolist())],
        "parameters": {"binary_data_output": binary},
    }
    status, body, headers = worker.request(
        "POST",
        f"/v2/models/{model}/infer",
        json.dumps(document).encode(),
        {"Accept-Encoding": accept} if accept else None,
    )
    assert status == 200
    return body, headers


def ints(rows):
    return np.arange(rows * WIDTH, dtype=np.int64).reshape(rows, WIDTH)


@pytest.mark.parametrize("coding", UNPACK)
@pytest.mark.parametrize("rows", [1, 40])  # packed at once, and in the thread
def test_a_json_reply_is_packed_as_asked_and_unpacks_to_the_same(worker, coding, rows):
    plain, headers = ask(worker, "INT64", ints(rows), "")
    assert headers["Content-Encoding"] is None
    assert (len(plain) > INLINE_BYTES_MAX) == (rows > 1)
    packed, headers = ask(worker, "INT64", ints(rows), coding)
    assert headers["Content-Encoding"] == coding
    assert len(packed) == int(headers["Content-Length"]) < len(plain)
    unpacked = json.loads(UNPACK[coding](packed))
    assert unpacked["outputs"] == json.loads(plain)["outputs"]


def test_a_binary_reply_says_the_length_of_its_plain_head(worker):
    packed, headers = ask(worker, "INT64", ints(2), "gzip", binary=True)
    assert headers["Content-Encoding"] == "gzip"
    body, head_bytes = gzip.decompress(packed), int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:head_bytes])["outputs"][0]["shape"] == [2, WIDTH]
    assert body[head_bytes:] == ints(2).tobytes()


def test_short_replies_and_binary_floats_go_out_plain_unless_plain_is_refused(worker):
    floats = np.zeros((2, WIDTH), np.float32)
    body, headers = ask(worker, "FP32", floats, AIOHTTP_ASKS, binary=True)
    assert headers["Content-Encoding"] is None
    assert body.endswith(floats.tobytes())
    assert ask(worker, "FP32", floats, "gzip")[1]["Content-Encoding"] == "gzip"  # as JSON
    row = np.zeros((1, 3), np.float32)
    document = {"inputs": [tensor("x", "FP32", [1, 3], row.reshape(-1).tolist())]}
    for accept, expected in (("gzip", None), ("gzip, identity;q=0", "gzip")):
        _, _, headers = worker.request(
            "POST", "/v2/models/small/infer", json.dumps(document).encode(),
            {"Accept-Encoding": accept},
        )  # fmt: skip
        assert headers["Content-Encoding"] == expected
    packed, headers = ask(worker, "FP32", floats, "identity;q=0, deflate", binary=True)
    assert headers["Content-Encoding"] == "deflate"
    assert zlib.decompress(packed).endswith(floats.tobytes())


@pytest.mark.parametrize("accept", ["br", "zstd, br", "identity", "gzip;q=0", ""])
def test_what_we_do_not_pack_is_plain(worker, accept):
    body, headers = ask(worker, "INT64", ints(1), accept)
    assert headers["Content-Encoding"] is None
    assert json.loads(body)["outputs"][0]["data"] == list(range(WIDTH))


def test_nothing_but_a_prediction_is_packed(worker):
    gets = ("/v2", "/v2/models/INT64", "/v2/health/ready", "/v2/models/INT64/ready")
    for path in gets:
        _, body, headers = worker.request("GET", path, None, {"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] is None
        json.loads(body)
    accept = {"Accept-Encoding": "gzip, identity;q=0"}
    for model in ("INT64", "nope"):
        status, body, headers = worker.request("POST", f"/v2/models/{model}/infer", b"{", accept)
        assert status in {400, 404}
        assert headers["Content-Encoding"] is None
        json.loads(body)


@pytest.mark.parametrize("request_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("reply_coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_both_http_clients_of_triton_read_every_coding(
    worker, request_coding, reply_coding, binary
):
    def parts(model, array):
        given = tritonclient.http.InferInput("x", array.shape, model)
        given.set_data_from_numpy(array, binary_data=binary)
        wanted = tritonclient.http.InferRequestedOutput("y", binary_data=binary)
        return {
            "model_name": model,
            "inputs": [given],
            "outputs": [wanted],
            "request_compression_algorithm": request_coding,
            "response_compression_algorithm": reply_coding,
        }

    arrays = {"INT64": ints(3), "FP32": np.float32([range(WIDTH)])}
    address = worker.url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(address) as client:
        for model, array in arrays.items():
            assert np.array_equal(client.infer(**parts(model, array)).as_numpy("y"), array)

    async def asynchronously():
        async with tritonclient.http.aio.InferenceServerClient(address) as client:
            for model, array in arrays.items():
                reply = await client.infer(**parts(model, array))
                assert np.array_equal(reply.as_numpy("y"), array)
                assert (await client.get_model_metadata(model))["name"] == model

    asyncio.run(asynchronously())


def test_packed_replies_at_once_keep_to_their_requests(worker):
    def one(i):
        array = ints(20) + i
        packed, _ = ask(worker, "INT64", array, "gzip")
        return json.loads(gzip.decompress(packed))["outputs"][0]["data"][0] == i

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(24)))


def test_with_no_size_set_nothing_is_packed(start_worker):
    worker = start_worker(limits=LimitSettings(), compression=CompressionSettings(http_bytes_min=0))
    worker.serve({"INT64": onnx_models.identity("INT64", WIDTH)})
    assert ask(worker, "INT64", ints(2), "gzip")[1]["Content-Encoding"] is None
