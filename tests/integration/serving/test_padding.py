"""Requests of mixed lengths on a real worker and a real model: padded, and never noticed."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import numpy as np
import onnxruntime
import pytest
from onnx import helper

from loadtests.transformer import VOCABULARY, transformer
from protos import inference_pb2 as pb
from serving.core.company import RunCost
from serving.core.datatypes import Datatype
from serving.core.errors import ModelFailed
from serving.core.latency import LatencyProfile
from serving.core.padding import Padder, PaddingSettings
from serving.core.signature import Signature, TensorSpec
from serving.worker.batcher import Batcher, Task
from serving.worker.run_threads import RunThreads
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import eventually, tensor
from tests.integration.serving.test_worker_log import predictions

MODEL = transformer(2, 32)
TOLERANCE = 1e-4  # what the gateway checks at load
PADDING = {"axis": "sequence", "mask": "mask", "values": {"ids": "1"}, "lengths": []}
EDGES = {**PADDING, "lengths": [16, 48]}
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def alone():
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(["tags", "label"], {"ids": ids, "mask": mask})


def drawn(seed, length, rows=1):
    """Ids, and a mask whose last positions are padding of the client's own."""
    random = np.random.default_rng(seed)
    mask = np.ones((rows, length), np.int64)
    mask[0, length - length // 4 :] = 0
    return random.integers(0, VOCABULARY, (rows, length)), mask


def by_json(worker, ids, mask):
    inputs = [tensor(n, "INT64", a.shape, a.tolist()) for n, a in (("ids", ids), ("mask", mask))]
    status, reply = worker.infer("m", {"inputs": inputs})
    assert status == 200, reply
    return [
        np.array(output["data"], np.float32).reshape(output["shape"]) for output in reply["outputs"]
    ]


def by_blobs(worker, ids, mask):
    entries = [
        {**tensor(name, "INT64", ids.shape, None), "parameters": {"binary_data_size": ids.nbytes}}
        for name in ("ids", "mask")
    ]
    for entry in entries:
        del entry["data"]
    head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
    status, data, headers = worker.request(
        "POST",
        "/v2/models/m/infer",
        head + ids.tobytes() + mask.tobytes(),
        {"Inference-Header-Content-Length": str(len(head))},
    )
    assert status == 200, data
    length = int(headers["Inference-Header-Content-Length"])
    found, outputs = length, []
    for entry in json.loads(data[:length])["outputs"]:
        size = entry["parameters"]["binary_data_size"]
        blob = np.frombuffer(data[found : found + size], np.float32)
        outputs.append(blob.reshape(entry["shape"]))
        found += size
    assert found == len(data)
    return outputs


def by_grpc(worker, ids, mask):
    message = pb.ModelInferRequest(model_name="m")
    for name, array in (("ids", ids), ("mask", mask)):
        message.inputs.add(name=name, datatype="INT64", shape=array.shape)
        message.raw_input_contents.append(array.tobytes())
    with grpc.insecure_channel(worker.grpc_target) as channel:
        data = channel.unary_unary(INFER)(message.SerializeToString(), timeout=20)
    reply = pb.ModelInferResponse.FromString(data)
    return [
        np.frombuffer(raw, np.float32).reshape(tuple(output.shape))
        for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
    ]


def padded_elements(worker):
    return worker.metric("driftgate_input_elements_total", "m", "1", "padding")


@pytest.mark.parametrize("padding", [PADDING, EDGES], ids=["measured", "edges"])
def test_answers_are_those_of_runs_without_padding(start_worker, alone, padding):
    worker = start_worker()
    worker.serve({"m": MODEL}, padding=padding, max_batch_size=16)

    def ask(seed):
        ids, mask = drawn(seed, 1 + seed * 7 % 60, 1 + seed % 3)
        send = (by_json, by_blobs, by_grpc)[seed % 3]
        got = send(worker, ids, mask)
        for output, expected in zip(got, alone(ids, mask), strict=True):
            assert output.shape == expected.shape
            np.testing.assert_allclose(output, expected, rtol=TOLERANCE, atol=TOLERANCE)

    def everybody():
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(96)))
        return padded_elements(worker)

    assert eventually(everybody) > 0
    sent = worker.metric("driftgate_input_elements_total", "m", "1", "sent")
    assert sent > 0
    status, body, _ = worker.request("GET", "/v2/models/m/config")
    assert status == 200
    assert json.loads(body)["parameters"]["pad_axis"] == {"string_value": "sequence"}
    inputs = [tensor("ids", "INT64", [1, 2], [1, 2]), tensor("mask", "INT64", [1, 3], [1, 1, 1])]
    status, reply = worker.infer("m", {"inputs": inputs})
    assert status == 400
    assert "must be of one length along 'sequence'" in reply["error"]


def test_the_log_holds_what_was_sent_and_answered_not_the_padding(start_worker, alone):
    worker = start_worker()
    worker.serve({"m": MODEL}, padding=EDGES, max_batch_size=16)
    asked = {n: drawn(n, n) for n in (3, 16, 17, 40, 60)}
    for ids, mask in asked.values():
        by_json(worker, ids, mask)
    worker.drain()
    logged = {rows.inputs["ids"].shape[1]: rows for rows in predictions(worker)}
    assert sorted(logged) == sorted(asked)
    for n, (ids, mask) in asked.items():
        rows = logged[n]
        assert np.array_equal(rows.inputs["ids"], ids)
        assert np.array_equal(rows.inputs["mask"], mask)
        assert rows.outputs["tags"].shape == (1, n, 4)
        np.testing.assert_allclose(rows.outputs["tags"], alone(ids, mask)[0], atol=TOLERANCE)


def test_a_durable_log_answers_padded_requests(start_worker, alone):
    worker = start_worker()
    worker.serve({"m": MODEL}, padding=EDGES, max_batch_size=16, log_mode="durable")

    def ask(n):
        ids, mask = drawn(n, n)
        got, expected = by_json(worker, ids, mask)[0], alone(ids, mask)[0]
        return got.shape == expected.shape and np.allclose(got, expected, atol=TOLERANCE)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(1, 40)))


def test_a_model_that_is_not_declared_safe_is_never_padded(start_worker, alone):
    worker = start_worker()
    worker.serve({"m": MODEL}, max_batch_size=16)

    def ask(n):
        ids, mask = drawn(n, 1 + n % 9)
        return np.allclose(by_json(worker, ids, mask)[0], alone(ids, mask)[0], atol=TOLERANCE)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(60)))
    assert not [key for key in worker.metrics().cells if "input_elements" in key[0]]


def mean_of_all():
    """Takes its mean over padding too."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)]
    return onnx_models.build(nodes, {"x": ("FP32", ("n", "s"))}, {"y": ("FP32", ("n",))})


def cumulative(name):
    """Each position depends on those before it alone. name: of the output's dimension."""
    nodes = [helper.make_node("CumSum", ["x", "one"], ["y"])]
    one = {"one": np.array(1, np.int64)}
    return onnx_models.build(nodes, {"x": ("FP32", ("n", "s"))}, {"y": ("FP32", ("n", name))}, one)


CASES = [
    (mean_of_all(), {"axis": "s"}, "the model does not leave padding out"),
    (MODEL, {"axis": "sequence", "mask": ""}, None),  # ids and mask are padded with 0 alike
    (MODEL, {"axis": "sequence", "lengths": [64, 256]}, "pad_lengths: 256 fails"),
    (MODEL, {"axis": "length"}, "'length' is no dimension of any input"),
    (MODEL, {"axis": "sequence", "mask": "label"}, "pad_mask names 'label'"),
    (cumulative("s"), {"axis": "s"}, None),
    (cumulative("other"), {"axis": "s"}, "cannot be known: the graph calls it 'other'"),
    (cumulative("s"), {"axis": "s", "values": {"x": "one"}}, "'one' is no FP32"),
]


def test_what_is_not_safe_or_does_not_fit_keeps_the_version_out(start_worker):
    worker = start_worker()
    for number, (model, padding, words) in enumerate(CASES):
        given = {"mask": "", "values": {}, "lengths": []} | padding
        answer = worker.load(f"m{number}", "1", model, padding=given, max_batch_size=8)
        if words is None:
            assert answer.HasField("loaded"), answer
        else:
            assert words in answer.load_failed.reason


X, Y = TensorSpec("x", Datatype.FP32, (-1, -1)), TensorSpec("y", Datatype.FP32, (-1, -1))
AXES = [["rows", "n"]]


class Session:
    """Negates; fails on negative input."""

    def __init__(self):
        self.shapes = []

    def run(self, arrays):
        self.shapes.append(arrays[0].shape)
        if (arrays[0] < 0).any():
            raise ModelFailed("negative")
        return [-arrays[0]]


class Collector:
    def __init__(self):
        self.done, self.failed = [], []

    def batch_done(self, batch, *_):
        self.done += batch.members

    def member_failed(self, task, error, *, ran):
        self.failed.append(task)


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("inline", [True, False])
def test_what_arrives_in_one_turn_shares_a_run_if_that_pays_and_poison_fails_alone(paid, inline):
    async def main():
        loop = asyncio.get_running_loop()
        signature = Signature("m", "1", (X,), (Y,), 8)
        cost = RunCost(1000.0 if paid else 0.0, 10.0)
        padder = Padder(signature, PaddingSettings("n"), AXES, AXES, cost)
        session, collector = Session(), Collector()
        with closing(RunThreads(loop, 1)) as threads:
            batcher = Batcher(
                loop, time.monotonic_ns, signature, session, collector, threads, inline=inline,
                profile=LatencyProfile([(4, 1000)]), padder=padder,
            )  # fmt: skip

            def arrive(length, value):
                arrays = [np.full((1, length), value, np.float32)]
                task = Task(padder.key("g", arrays), 1, arrays, 2**62)
                batcher.submit(task)
                return task

            good = [arrive(3, 1.0), arrive(5, 2.0)]
            async with asyncio.timeout(30):
                await batcher.drained()
            assert collector.done == good
            assert session.shapes == ([(2, 5)] if paid else [(1, 3), (1, 5)])
            session.shapes.clear()
            tasks = [arrive(3, 1.0), arrive(5, -2.0), arrive(4, 1.0)]
            async with asyncio.timeout(30):
                await batcher.drained()
            assert collector.failed == [tasks[1]]
            assert set(collector.done[2:]) == {tasks[0], tasks[2]}
            assert sorted(session.shapes[-3:]) == [(1, 3), (1, 4), (1, 5)]
            batcher.queue.check()

    asyncio.run(main())
