"""Server reflection on a real worker, and a client that is built from nothing else."""

import queue

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from protos import reflection_pb2 as pb
from tests.integration.serving import onnx_models

ENGINES = ("nghttp2", "grpcio")
NAMES = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
X = np.float32([[1, 2, 3]])


@pytest.fixture
def channel(shared_worker):
    with grpc.insecure_channel(shared_worker.grpc_target) as channel:
        yield channel


def ask(channel, name, *questions):
    """The answers to questions of one stream."""
    method = channel.stream_stream(f"/{name}.ServerReflection/ServerReflectionInfo")
    sent = [pb.ServerReflectionRequest(**question).SerializeToString() for question in questions]
    return [pb.ServerReflectionResponse.FromString(data) for data in method(iter(sent), timeout=20)]


@pytest.mark.parametrize("name", NAMES)
def test_a_client_built_from_reflection_alone_gets_a_prediction(channel, name):
    listed, described = ask(
        channel, name, {"list_services": ""}, {"file_containing_symbol": "inference"}
    )
    services = [service.name for service in listed.list_services_response.service]
    assert described.error_response.error_code == 5  # a package is no symbol
    pool = DescriptorPool()
    known = set()
    for service in services:
        (reply,) = ask(channel, name, {"file_containing_symbol": service})
        for data in reversed(reply.file_descriptor_response.file_descriptor_proto):
            file = FileDescriptorProto.FromString(data)
            if file.name not in known:
                known.add(file.name)
                pool.Add(file)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    infer = service.methods_by_name["ModelInfer"]
    request = GetMessageClass(infer.input_type)(model_name="identity", id="r")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend(X[0])
    call = channel.unary_unary(f"/{service.full_name}/{infer.name}")
    data = call(request.SerializeToString(), timeout=20)
    reply = GetMessageClass(infer.output_type).FromString(data)
    assert (reply.model_name, reply.id) == ("identity", "r")
    assert reply.raw_output_contents == [X.tobytes()]
    health = pool.FindServiceByName("grpc.health.v1.Health").methods_by_name["Check"]
    data = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
    status = GetMessageClass(health.output_type).FromString(data).status
    assert health.output_type.enum_types_by_name["ServingStatus"].values_by_number[status].name == (
        "SERVING"
    )


def test_a_question_that_is_none_is_refused(channel):
    method = channel.stream_stream(f"/{NAMES[0]}.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(method(iter([b"\xff\xff"]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_open_question_stream_ends_with_the_drain(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    questions = queue.Queue()
    questions.put(pb.ServerReflectionRequest(list_services="").SerializeToString())
    with grpc.insecure_channel(worker.grpc_target) as channel:
        method = channel.stream_stream(f"/{NAMES[0]}.ServerReflection/ServerReflectionInfo")
        call = method(iter(questions.get, None), timeout=60)
        next(call)
        assert worker.drain(25_000) == 0
        assert list(call) == []
        questions.put(None)
