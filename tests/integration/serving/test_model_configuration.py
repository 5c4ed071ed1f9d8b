"""What a model's configuration says, in force on a real worker and read by real clients."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from registry_client import TritonRepository, fetch
from serving.core.rollout_state import Version
from serving.supervisor.model_bytes import ModelBytes
from serving.supervisor.models import ROLES, ModelCache, settings_document
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import eventually, tensor

X = {"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}
WARMUP = {
    "name": "w",
    "batch_size": 2,
    "inputs": {"x": {"data_type": "TYPE_FP32", "dims": [3], "random_data": True}},
    "count": 2,
}

# The client library in a process of its own; see the conformance suite.
CLIENT = """
import json, sys
http_address, grpc_address = sys.argv[1:]
import tritonclient.grpc as tg, tritonclient.http as th
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2
http, grpc = th.InferenceServerClient(http_address), tg.InferenceServerClient(grpc_address)
for version in ("", "1"):
    document = http.get_model_config("m", version)
    answer = grpc.get_model_config("m", version)
    assert json_format.ParseDict(document, model_config_pb2.ModelConfig()) == answer.config
    as_json = grpc.get_model_config("m", version, as_json=True)["config"]
    assert as_json["max_batch_size"] == document["max_batch_size"]
for call in (lambda: http.get_model_config("none"), lambda: grpc.get_model_config("m", "9")):
    try:
        call()
    except Exception as error:
        assert "is not found" in str(error) or "not found" in str(error).lower(), error
    else:
        raise AssertionError("an unknown model has a configuration")
assert "model_configuration" in http.get_server_metadata()["extensions"]
print(json.dumps(document))
"""


def test_the_client_library_reads_one_configuration_over_both_protocols(start_worker):
    worker = start_worker()
    answer = worker.load(
        "m",
        "1",
        onnx_models.identity(),
        max_batch_size=8,
        max_queue_delay_us=500,
        preferred_batch_sizes=[4],
        max_queue_size=50,
        version_policy={"latest": {"num_versions": 1}},
        warmup=[WARMUP],
    )
    assert answer.HasField("loaded"), answer
    worker.route({"m": [("1", "stable", 100)]})
    address = worker.url.removeprefix("http://")
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, address, worker.grpc_target],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["input"][0]["dims"] == [3]
    assert document["dynamic_batching"]["preferred_batch_size"] == [4]
    assert document["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 50
    assert document["model_warmup"][0]["count"] == 2
    assert document["version_policy"] == {"latest": {"num_versions": 1}}
    status, reply = worker.infer("m", X)  # alone, so after its delay
    assert (status, reply["outputs"][0]["data"]) == (200, [1, 2, 3])


def test_a_warm_up_sample_that_fails_keeps_the_version_out(start_worker):
    worker = start_worker()
    wrong = WARMUP | {"inputs": {"x": {"data_type": "TYPE_FP32", "dims": [4], "zero_data": True}}}
    answer = worker.load("m", "1", onnx_models.identity(), max_batch_size=8, warmup=[wrong])
    assert "warm-up sample 'w', input 'x'" in answer.load_failed.reason
    answer = worker.load("m", "1", onnx_models.identity(), warmup=[{"name": "w"}])
    assert "malformed" in answer.load_failed.reason


def test_requests_that_come_within_the_delay_share_a_batch(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()}, max_batch_size=4, max_queue_delay_us=20_000_000)
    assert worker.infer("m", X, x_request_timeout_ms="2000")[0] == 200  # before its deadline
    before = worker.metric("driftgate_executions_total", "m", "1")
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: worker.infer("m", X), range(4)))
    assert [status for status, _ in replies] == [200] * 4
    assert before == 1
    assert worker.metric("driftgate_executions_total", "m", "1") == 2


def test_a_queue_that_is_full_refuses_as_triton_does(start_worker):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow()}, max_queue_size=1)
    body = {"inputs": [tensor("x", "FP32", [1, 1], [1])]}

    def refused():
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: worker.infer("slow", body), range(8)))
        assert {status for status, _ in replies} <= {200, 503}
        return [reply["error"] for status, reply in replies if status == 503]

    assert "Exceeds maximum queue size" in eventually(refused)[0]


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "warmup").mkdir()
    (folder / "m" / "1" / "model.onnx").write_bytes(onnx_models.identity())
    (folder / "m" / "warmup" / "rows").write_bytes(np.float32([1, 2, 3]).tobytes())
    (folder / "m" / "config.pbtxt").write_text(
        """
        max_batch_size: 8
        dynamic_batching { max_queue_delay_microseconds: 100 priority_queue_policy { key: 1 } }
        instance_group { count: 3 kind: KIND_CPU }
        model_warmup {
          name: "rows" batch_size: 4 count: 3
          inputs { key: "x" value { data_type: TYPE_FP32 dims: 3 input_data_file: "rows" } }
        }
        """
    )
    return folder


def test_a_config_pbtxt_reaches_the_worker_with_its_warm_up_data(repository, start_worker):
    source = TritonRepository(repository)
    with fetch(source, "m", "1", ROLES) as fetched:
        settings = settings_document(fetched.manifest, [file for file, _ in fetched.files])
        files = {file.name: fetched.read(file.name) for file, _ in fetched.files[1:]}
    assert list(files) == ["warmup/rows"]
    worker = start_worker()
    answer = worker.load("m", "1", onnx_models.identity(), files=files, **settings)
    assert answer.HasField("loaded"), answer
    worker.route({"m": [("1", "stable", 100)]})
    status, body, _ = worker.request("GET", "/v2/models/m/versions/1/config/")
    document = json.loads(body)
    assert status == 200
    assert document["dynamic_batching"]["max_queue_delay_microseconds"] == 100
    assert document["instance_group"][0]["count"] == 3
    assert document["model_warmup"][0]["inputs"]["x"]["input_data_file"] == "rows"
    for _ in range(20):  # a delay below a timer's step
        assert worker.infer("m", X)[0] == 200
    # Without its file the sample cannot run, so the version does not serve.
    worker = start_worker()
    answer = worker.load("m", "1", onnx_models.identity(), **settings)
    assert "is not among the version's files" in answer.load_failed.reason


def test_what_a_configuration_says_in_vain_reaches_the_gateways_log(repository, tmp_path, capsys):
    source = TritonRepository(repository)

    async def fetch_once():
        held = ModelBytes(lambda: source, ModelCache(tmp_path / "cache"))
        arrived = asyncio.Event()
        held.changed = lambda *_: arrived.set()
        digest = source.manifest("m", "1").digest
        held.want({digest: ("m", Version("1", digest))}, hurry=True)
        async with asyncio.timeout(30):
            await arrived.wait()
        await held.close()

    asyncio.run(fetch_once())
    assert capsys.readouterr().err.splitlines() == [
        "gateway: m version 1: config.pbtxt line 3: 'dynamic_batching.priority_queue_policy' "
        "is not supported and has no effect"
    ]
