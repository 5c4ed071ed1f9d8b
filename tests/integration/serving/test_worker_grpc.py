"""gRPC on a real worker, with generic byte calls."""

import asyncio
import contextlib
import gc
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from protos import channel_pb2, health_pb2
from protos import inference_pb2 as pb
from serving.core.grpc_codec import GrpcRequest
from serving.core.grpc_forms import Forms
from serving.settings import CompressionSettings, LimitSettings
from serving.worker.desk import Desk
from serving.worker.grpc_handlers import Handlers
from serving.worker.grpc_server import _stream, _unary, awaited
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import HOST, eventually

ENGINES = ("nghttp2", "grpcio")
SERVICE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"


@pytest.fixture
def channel(shared_worker):
    with grpc.insecure_channel(shared_worker.grpc_target) as channel:
        yield channel


def call(channel, method, request, reply_type, **options):
    options.setdefault("timeout", 20)
    data = channel.unary_unary(method)(request.SerializeToString(), **options)
    return reply_type.FromString(data)


def request_of(model, array, datatype="FP32", **fields):
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()], **fields)
    message.inputs.add(name="x", datatype=datatype, shape=array.shape)
    return message


def infer(channel, model, array, **options):
    fields = options.pop("fields", {})
    request = request_of(model, array, options.pop("datatype", "FP32"), **fields)
    return call(channel, SERVICE + "ModelInfer", request, pb.ModelInferResponse, **options)


X = np.float32([[1, 2, 3]])


def test_an_infer_call_is_answered_raw_with_version_and_prediction_id(channel):
    reply = infer(channel, "identity", X, fields={"id": "r"})
    assert (reply.model_name, reply.model_version, reply.id) == ("identity", "1", "r")
    assert len(reply.parameters["prediction_id"].string_param) == 36
    assert reply.raw_output_contents == [X.tobytes()]
    assert list(reply.outputs[0].shape) == [1, 3]
    assert not reply.outputs[0].HasField("contents")


def test_calls_at_once_each_get_their_own_rows(channel):
    def one(i):
        array = np.float32([[i, row, 0.5] for row in range(1 + i % 3)])
        return infer(channel, "identity", array).raw_output_contents[0] == array.tobytes()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(200)))


def test_both_protocols_share_batches_and_versions(channel, shared_worker):
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    with ThreadPoolExecutor(8) as pool:
        over_http = [pool.submit(shared_worker.infer, "identity", document) for _ in range(20)]
        over_grpc = [pool.submit(infer, channel, "identity", X) for _ in range(20)]
        assert all(future.result()[0] == 200 for future in over_http)
        assert all(f.result().raw_output_contents == [X.tobytes()] for f in over_grpc)


@pytest.mark.parametrize(
    ("model", "array", "fields", "code", "message"),
    [
        ("nope", X, {}, grpc.StatusCode.NOT_FOUND, "unknown model: 'nope'"),
        ("identity", X, {"model_version": "9"}, grpc.StatusCode.NOT_FOUND, "version '9'"),
        ("identity", X[:, :2], {}, grpc.StatusCode.INVALID_ARGUMENT, "Expected [-1,3], got [1,2]"),
        ("table", np.int64([[99]]), {}, grpc.StatusCode.INTERNAL, "could not run this input"),
    ],
    ids=range(4),
)
def test_errors_are_statuses_with_one_sentence(channel, model, array, fields, code, message):
    datatype = "INT64" if array.dtype == np.int64 else "FP32"
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, model, array, fields=fields, datatype=datatype)
    assert caught.value.code() is code
    assert message in caught.value.details()


def test_a_message_that_is_none_and_a_method_that_is_none(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "ModelInfer")(b"\xff\xff\xff", timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "Nothing")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_message_beyond_the_limit_is_refused_and_the_channel_lives(channel):
    big = np.zeros((40_000, 3), np.float32)  # 480 kB; the limit is 256 KiB and some
    with pytest.raises(grpc.RpcError) as caught:
        infer(channel, "identity", big)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert infer(channel, "identity", X).model_name == "identity"


def test_without_a_limit_of_its_own_a_message_is_bounded_by_the_budget(start_worker):
    limits = LimitSettings(
        body_bytes_max=100_000, message_bytes_max=0, bytes_in_flight_max=4 * 2**20
    )
    worker = start_worker(limits=limits)
    worker.serve({"wide": onnx_models.identity("FP32", 300_000)})
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(worker.grpc_target, options=options) as channel:
        fits = np.ones((1, 300_000), np.float32)  # 1.2 MB, three times that in flight
        assert infer(channel, "wide", fits).raw_output_contents == [fits.tobytes()]
        for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError) as caught:
                infer(channel, "wide", np.ones((2, 300_000), np.float32), compression=packing)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert infer(channel, "wide", fits).model_name == "wide"


def test_a_message_that_unpacks_to_gigabytes_takes_no_memory(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    status = Path(f"/proc/{worker.process.pid}/status")

    def peak_mib():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024

    before = peak_mib()
    for packing in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        with grpc.insecure_channel(worker.grpc_target) as channel:
            bomb = channel.unary_unary(SERVICE + "ModelInfer")
            with pytest.raises(grpc.RpcError) as caught:
                bomb(bytes(200 * 2**20), timeout=60, compression=packing)  # about 200 kB packed
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak_mib() - before < 50


class Wire:
    """Stands between client and worker and counts the bytes that come back."""

    def __init__(self, port):
        self.received = 0
        self._port = port
        self._listener = socket.create_server((HOST, 0))
        self.target = f"{HOST}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        near, _ = self._listener.accept()
        far = socket.create_connection((HOST, self._port))
        threading.Thread(target=self._pump, args=(near, far), daemon=True).start()
        with near, far, self._listener, contextlib.suppress(OSError):  # either end may reset
            while data := far.recv(65536):
                self.received += len(data)
                near.sendall(data)

    @staticmethod
    def _pump(near, far):
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
            far.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("takes_gzip", [False, True])
def test_replies_are_packed_if_configured_for_clients_that_take_it(
    start_worker, configured, takes_gzip
):
    worker = start_worker(compression=CompressionSettings(grpc_replies=configured))
    worker.serve({"wide": onnx_models.identity("FP32", 50_000)})
    wire = Wire(worker.grpc_port)
    only_identity = [("grpc.compression_enabled_algorithms_bitset", 1)]
    array = np.ones((1, 50_000), np.float32)
    with grpc.insecure_channel(wire.target, options=[] if takes_gzip else only_identity) as channel:
        assert infer(channel, "wide", array).raw_output_contents == [array.tobytes()]
    assert (wire.received < 20_000) == (configured and takes_gzip)


def test_a_deadline_is_kept_and_batch_mates_are_not_hurt(channel):
    slow = np.float32([[1.0]])
    with ThreadPoolExecutor(6) as pool:
        hasty = [pool.submit(infer, channel, "slow", slow, timeout=0.01) for _ in range(3)]
        patient = [pool.submit(infer, channel, "slow", slow) for _ in range(3)]
        for future in hasty:
            error = future.exception()
            assert isinstance(error, grpc.RpcError)
            late = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
            assert error.code() in late, error.details()
        for future in patient:
            assert future.result().raw_output_contents == [slow.tobytes()]


def test_a_cancelled_call_is_withdrawn(channel, shared_worker):
    before = shared_worker.metric("driftgate_requests_cancelled_total", "slow")
    request = request_of("slow", np.float32([[1.0]])).SerializeToString()
    method = channel.unary_unary(SERVICE + "ModelInfer")
    keep, leave = method.future(request, timeout=20), method.future(request, timeout=20)
    leave.cancel()
    assert pb.ModelInferResponse.FromString(keep.result()).model_name == "slow"

    def one_more_was_cancelled():
        late = method.future(request, timeout=20)
        time.sleep(0.02)  # long enough to arrive, on most attempts
        late.cancel()
        return shared_worker.metric("driftgate_requests_cancelled_total", "slow") > before

    eventually(one_more_was_cancelled)
    assert infer(channel, "identity", X).model_name == "identity"


def test_a_routing_key_comes_from_metadata(start_worker):
    worker = start_worker()
    for version, factor in (("1", 1.0), ("2", -1.0)):
        worker.load("m", version, onnx_models.scale(factor))
    worker.route({"m": [("2", "candidate", 50), ("1", "stable", 50)]})
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    with grpc.insecure_channel(worker.grpc_target) as channel:
        for i in range(20):
            key = f"user-{i}"
            reply = infer(channel, "m", X, metadata=[("x-routing-key", key)])
            _, over_http = worker.infer("m", document, X_Routing_Key=key)
            assert over_http["model_version"] == reply.model_version


def test_health_and_metadata(channel):
    assert call(channel, SERVICE + "ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
    assert call(
        channel, SERVICE + "ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse
    ).ready
    ready = pb.ModelReadyRequest(name="two")
    assert call(channel, SERVICE + "ModelReady", ready, pb.ModelReadyResponse).ready
    described = call(
        channel,
        SERVICE + "ModelMetadata",
        pb.ModelMetadataRequest(name="two"),
        pb.ModelMetadataResponse,
    )
    assert [tensor.name for tensor in described.inputs] == ["a", "b"]

    def check(service):
        request = health_pb2.HealthCheckRequest(service=service)
        return call(channel, HEALTH + "Check", request, health_pb2.HealthCheckResponse).status

    serving = health_pb2.HealthCheckResponse.SERVING
    assert check("") == check("inference.GRPCInferenceService") == check("two") == serving
    with pytest.raises(grpc.RpcError) as caught:
        check("nope")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_health_watch_tells_of_the_drain(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    with grpc.insecure_channel(worker.grpc_target) as channel:
        request = health_pb2.HealthCheckRequest().SerializeToString()
        stream = channel.unary_stream(HEALTH + "Watch")(request, timeout=30)
        statuses = (health_pb2.HealthCheckResponse.FromString(data).status for data in stream)
        assert next(statuses) == health_pb2.HealthCheckResponse.SERVING
        worker.send(channel_pb2.ToWorker(drain=channel_pb2.Drain(grace_ms=3000)))
        assert next(statuses) == health_pb2.HealthCheckResponse.NOT_SERVING
        stream.cancel()
    assert worker.process.wait(30) == 0


def test_what_no_handler_foresaw_is_an_internal_error_that_names_nothing_of_ours():
    class Context:
        said = None

        def __init__(self):
            self.written = []

        async def write(self, reply):
            self.written.append(reply)

        async def abort(self, code, details):
            self.said = code, details
            raise grpc.aio.AbortError

    async def unary(data, call):
        raise RuntimeError("/home/secret")

    async def stream(requests, call):
        yield b"first"
        raise RuntimeError("/home/secret")

    async def main():
        for hosted in (_unary(unary), _stream(stream)):
            context = Context()
            with pytest.raises(grpc.aio.AbortError):
                await hosted(b"", context)
            assert context.said == (grpc.StatusCode.INTERNAL, "internal error")
        assert context.written == [b"first"]

    asyncio.run(main())


def test_a_waiting_call_does_not_hold_its_parsed_message():
    def alive():
        return sum(isinstance(thing, GrpcRequest) for thing in gc.get_objects())

    class Plane:
        untyped_bytes_max = 2**20
        forms = Forms()

        def infer(self, parse, *_):
            assert isinstance(parse(), GrpcRequest)
            return SimpleNamespace(version=SimpleNamespace(cancel=lambda _: None))

    class Call:
        left_ns = staticmethod(lambda: 0)
        metadata = staticmethod(lambda _: "")

    async def main():
        before = alive()
        data = request_of("m", X).SerializeToString()
        infer = awaited(Handlers(Plane(), None, Desk()).infer)
        call = asyncio.create_task(infer(data, Call()))
        await asyncio.sleep(0)
        assert not call.done()
        assert alive() == before
        call.cancel()

    asyncio.run(main())
