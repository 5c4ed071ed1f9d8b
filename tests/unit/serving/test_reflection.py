"""What reflection answers: public names, whole closures, and nothing internal."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from protos import reflection_pb2 as pb
from serving.core.reflection import Reflection
from tests.conftest import ROOT

REFLECTION = Reflection((ROOT / "protos" / "services.binpb").read_bytes())


def answer(**asked):
    return REFLECTION.answer(pb.ServerReflectionRequest(host="h", **asked))


def files(**asked):
    found = answer(**asked).file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(data).name for data in found]


def test_the_services_are_listed_under_their_public_names():
    reply = answer(list_services="*")
    assert [service.name for service in reply.list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]
    assert reply.valid_host == reply.original_request.host == "h"


@pytest.mark.parametrize(
    "symbol",
    [
        "inference.GRPCInferenceService",
        "inference.GRPCInferenceService.ModelInfer",
        "inference.ModelInferRequest",
        "inference.ModelInferRequest.InferInputTensor",
        ".inference.ModelInferRequest",
    ],
)
def test_a_symbol_brings_its_file_and_what_that_imports(symbol):
    expected = ["protos/inference.proto", "protos/model_config.proto"]
    assert files(file_containing_symbol=symbol) == expected
    assert files(file_by_filename=expected[0]) == expected


@pytest.mark.parametrize(
    "asked",
    [
        {"file_containing_symbol": "driftgate.wire.inference.ModelInferRequest"},
        {"file_containing_symbol": "inference.Nothing"},
        {"file_containing_symbol": ""},
        {"file_by_filename": "protos/channel.proto"},
        {"file_by_filename": "protos/control.proto"},
        {"all_extension_numbers_of_type": "inference.Nothing"},
        {"file_containing_extension": pb.ExtensionRequest(containing_type="x")},
    ],
    ids=str,
)
def test_what_is_not_public_is_not_found(asked):
    reply = answer(**asked)
    assert reply.error_response.error_code == 5
    assert reply.original_request == pb.ServerReflectionRequest(host="h", **asked)


def test_no_question_is_an_invalid_one_and_messages_have_no_extensions():
    assert answer().error_response.error_code == 3
    name = "inference.ModelInferRequest"
    known = answer(all_extension_numbers_of_type=name).all_extension_numbers_response
    assert (known.base_type_name, list(known.extension_number)) == (name, [])
