"""ModelStreamInfer on a real worker: tritonclient's streams, and raw ones."""

import asyncio
import queue
import re
import threading
import time
from collections import deque
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio

from eventlog.settings import LogSettings
from protos import channel_pb2
from protos import inference_pb2 as pb
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import WAIT_S, eventually

ENGINES = ("nghttp2", "grpcio")
METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
X = np.float32([[1, 2, 3]])
SLOW = np.float32([[1.0]])


def request_of(model, array, id="", **parameters):
    message = pb.ModelInferRequest(model_name=model, id=id, raw_input_contents=[array.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    for name, value in parameters.items():
        message.parameters[name].bool_param = value
    return message.SerializeToString()


class Stream:
    """A raw stream that the test writes to one request at a time."""

    def __init__(self, channel, metadata=(), timeout=WAIT_S):
        self._requests = queue.Queue()
        self.sent = 0  # requests that the library has taken from us
        self.call = channel.stream_stream(METHOD)(
            self._source(), metadata=list(metadata), timeout=timeout
        )

    def _source(self):
        while (data := self._requests.get()) is not None:
            self.sent += 1
            yield data

    def send(self, *requests):
        for data in requests:
            self._requests.put(data)

    def half_close(self):
        self._requests.put(None)

    def reply(self):
        return pb.ModelStreamInferResponse.FromString(next(self.call))

    def rest(self):
        return [pb.ModelStreamInferResponse.FromString(data) for data in self.call]

    def status(self):
        """How the stream ended, once its replies have been read."""
        try:
            replies = self.rest()
        except grpc.RpcError as error:
            self.half_close()
            return error.code(), error.details()
        assert replies == []
        return self.call.code(), self.call.details()


@pytest.fixture
def channel(shared_worker):
    with grpc.insecure_channel(shared_worker.grpc_target) as channel:
        yield channel


def test_requests_share_executions_and_replies_keep_their_order(channel, shared_worker):
    def executions():
        return shared_worker.metric("driftgate_executions_total", "slow", "1")

    before, stream = executions(), Stream(channel)
    stream.send(request_of("slow", SLOW, id="first"))
    eventually(lambda: stream.sent == 1)
    # Fast ones behind a slow one are done before it, and wait for it all the same.
    stream.send(request_of("identity", X, id="fast"))
    stream.send(*[request_of("slow", SLOW * i, id=f"slow{i}") for i in range(20)])
    stream.half_close()
    replies = stream.rest()
    ids = [reply.infer_response.id for reply in replies]
    assert ids == ["first", "fast"] + [f"slow{i}" for i in range(20)]
    assert all(not reply.error_message for reply in replies)
    for i, reply in enumerate(replies[2:]):
        assert reply.infer_response.raw_output_contents == [(SLOW * i).tobytes()]
    assert stream.call.code() is grpc.StatusCode.OK
    assert 0 < executions() - before < 21


def test_an_error_is_its_requests_own_and_the_stream_goes_on(channel):
    stream = Stream(channel)
    stream.send(
        request_of("identity", X, id="a"),
        request_of("nope", X, id="b"),
        b"\xff\xff",
        request_of("identity", X[:, :2], id="d"),
        request_of("identity", X, id="e"),
    )
    replies = [stream.reply() for _ in range(5)]
    said = [reply.error_message for reply in replies]
    assert [bool(text) for text in said] == [False, True, True, True, False]
    assert "unknown model: 'nope'" in said[1]
    assert "not valid protobuf" in said[2]
    assert "Expected [-1,3], got [1,2]" in said[3]
    assert [reply.infer_response.id for reply in replies] == ["a", "b", "", "d", "e"]
    stream.half_close()
    assert stream.status()[0] is grpc.StatusCode.OK


def test_every_reply_is_its_requests_final_one(channel):
    stream = Stream(channel)
    stream.send(request_of("identity", X, triton_enable_empty_final_response=True))
    stream.send(request_of("identity", X), request_of("identity", X, triton_other=True))
    stream.half_close()
    replies = stream.rest()
    for reply in replies[:2]:
        assert reply.infer_response.parameters["triton_final_response"].bool_param
        assert len(reply.infer_response.parameters["prediction_id"].string_param) == 36
    assert "reserved" in replies[2].error_message


def test_a_client_may_ask_for_real_statuses(channel):
    stream = Stream(channel, [("triton_grpc_error", "true")])
    stream.send(*[request_of(model, X, id=model) for model in ("identity", "nope", "identity")])
    assert stream.reply().infer_response.id == "identity"
    code, details = stream.status()
    assert code is grpc.StatusCode.NOT_FOUND
    assert "unknown model: 'nope'" in details


def test_a_stream_without_requests_ends_well(channel):
    stream = Stream(channel)
    stream.half_close()
    assert stream.status()[0] is grpc.StatusCode.OK


def resident_bytes(worker):
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def test_one_who_does_not_read_is_not_read_from(start_worker):
    worker = start_worker(log=LogSettings(mode="off"))  # its buffers are not what is measured
    worker.serve({"wide": onnx_models.identity("FP32", 50_000)})
    wide = request_of("wide", np.ones((1, 50_000), np.float32))  # 200 kB
    count = 3000
    with grpc.insecure_channel(worker.grpc_target) as channel:
        before = resident_bytes(worker)
        stream = Stream(channel, timeout=120)
        stream.send(*[wide] * count)
        stream.half_close()

        def settled():
            before = stream.sent
            time.sleep(0.5)
            return stream.sent == before and stream.sent > 0

        eventually(settled)
        assert stream.sent < count
        assert resident_bytes(worker) - before < 300_000_000  # of 600 MB to be sent
        assert sum(1 for _ in stream.call) == count
        assert stream.call.code() is grpc.StatusCode.OK


def test_a_cancelled_stream_withdraws_what_it_asked_for(channel, shared_worker):
    def cancelled():
        return shared_worker.metric("driftgate_requests_cancelled_total", "slow")

    before = cancelled()

    def one_more_was_cancelled():
        stream = Stream(channel)
        stream.send(*[request_of("slow", SLOW)] * 4)
        eventually(lambda: stream.sent == 4)
        time.sleep(0.02)  # long enough to arrive, on most attempts
        stream.call.cancel()
        stream.half_close()
        return cancelled() > before

    eventually(one_more_was_cancelled)
    good = Stream(channel)
    good.send(request_of("identity", X))
    assert not good.reply().error_message
    good.half_close()


def test_a_deadline_ends_the_stream(channel):
    stream = Stream(channel, timeout=0.5)
    stream.send(request_of("identity", X))
    stream.reply()
    assert stream.status()[0] is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_keeps_to_the_version_of_its_routing_key(start_worker):
    worker = start_worker()
    for version, factor in (("1", 1.0), ("2", -1.0)):
        worker.load("m", version, onnx_models.scale(factor))
    worker.route({"m": [("2", "candidate", 50), ("1", "stable", 50)]})
    seen = set()
    with grpc.insecure_channel(worker.grpc_target) as channel:
        for i in range(12):
            stream = Stream(channel, [("x-routing-key", f"user-{i}")])
            stream.send(*[request_of("m", X)] * 5)
            stream.half_close()
            versions = {reply.infer_response.model_version for reply in stream.rest()}
            assert len(versions) == 1
            seen |= versions
    assert seen == {"1", "2"}


@pytest.mark.parametrize("by_signal", [False, True])
def test_a_drain_answers_what_is_in_flight_and_ends_the_stream(start_worker, by_signal):
    worker = start_worker()
    worker.serve({"slow": onnx_models.slow(), "identity": onnx_models.identity()})
    with grpc.insecure_channel(worker.grpc_target) as channel:
        idle, busy, half_closed = Stream(channel), Stream(channel), Stream(channel)
        idle.send(request_of("identity", X))
        idle.reply()
        for stream in (busy, half_closed):
            stream.send(request_of("identity", X))
            stream.reply()
            stream.send(*[request_of("slow", SLOW, id=str(i)) for i in range(8)])
        half_closed.half_close()
        eventually(lambda: busy.sent == half_closed.sent == 9)
        assert [busy.reply().infer_response.id, half_closed.reply().infer_response.id] == ["0"] * 2
        began = time.monotonic()
        if by_signal:
            worker.process.terminate()
        else:
            worker.send(channel_pb2.ToWorker(drain=channel_pb2.Drain(grace_ms=25_000)))
        assert [busy.reply().infer_response.id for _ in range(7)] == [str(i) for i in range(1, 8)]
        assert [reply.infer_response.id for reply in half_closed.rest()] == [
            str(i) for i in range(1, 8)
        ]
        assert half_closed.call.code() is grpc.StatusCode.OK
        for stream in (idle, busy):
            code, details = stream.status()
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "drains" in details
            trailers = dict(stream.call.trailing_metadata())
            assert trailers["grpc-retry-pushback-ms"] == "1000"
    assert worker.process.wait(WAIT_S) == 0
    assert time.monotonic() - began < 20  # not held up until the grace is over
    assert "Traceback" not in worker.errors()


def test_a_client_that_never_stops_sending_does_not_hold_a_drain_up(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    data, stop = request_of("identity", X), threading.Event()
    with grpc.insecure_channel(worker.grpc_target) as channel:
        call = channel.stream_stream(METHOD)(iter(lambda: None if stop.is_set() else data, None))
        replies = iter(call)
        next(replies)
        worker.send(channel_pb2.ToWorker(drain=channel_pb2.Drain(grace_ms=25_000)))
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            deque(replies, maxlen=0)
        stop.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 20
    assert worker.process.wait(WAIT_S) == 0


def inputs_of(array):
    given = tritonclient.grpc.InferInput("x", array.shape, "FP32")
    given.set_data_from_numpy(array)
    return [given]


@pytest.mark.parametrize("packing", [None, "gzip", "deflate"])
def test_tritonclients_stream_gets_replies_and_errors(shared_worker, packing):
    done = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(shared_worker.grpc_target) as client:
        client.start_stream(
            lambda result, error: done.put((result, error)), compression_algorithm=packing
        )
        for i in range(50):
            model = "nope" if i % 10 == 7 else "identity"
            client.async_stream_infer(
                model, inputs_of(X * i), request_id=str(i), enable_empty_final_response=i % 2 == 0
            )
        client.stop_stream()
        answered = [done.get(timeout=WAIT_S) for _ in range(50)]
        assert done.empty()
    for i, (result, error) in enumerate(answered):
        if i % 10 == 7:
            assert result is None
            assert "unknown model: 'nope'" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(i)
            assert np.array_equal(result.as_numpy("y"), X * i)
            assert result.get_response().parameters["triton_final_response"].bool_param


def test_tritonclient_is_told_that_its_stream_has_ended(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    done = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(worker.grpc_target) as client:
        client.start_stream(lambda result, error: done.put((result, error)))
        client.async_stream_infer("identity", inputs_of(X))
        result, error = done.get(timeout=WAIT_S)
        assert error is None
        assert np.array_equal(result.as_numpy("y"), X)
        assert worker.drain() == 0
        result, error = done.get(timeout=WAIT_S)
        assert "UNAVAILABLE" in error.status()
        client.stop_stream(cancel_requests=True)


def test_tritonclients_asynchronous_stream(shared_worker):
    async def run():
        async def requests():
            for i in range(30):
                model = "nope" if i == 5 else "identity"
                yield {"model_name": model, "inputs": inputs_of(X * i), "request_id": str(i)}

        async with tritonclient.grpc.aio.InferenceServerClient(shared_worker.grpc_target) as client:
            return [answer async for answer in client.stream_infer(requests())]

    answered = asyncio.run(asyncio.wait_for(run(), WAIT_S))
    assert len(answered) == 30
    for i, (result, error) in enumerate(answered):
        if i == 5:
            assert "unknown model" in str(error)
        else:
            assert np.array_equal(result.as_numpy("y"), X * i)
