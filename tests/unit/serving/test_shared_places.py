"""Where in shared memory a tensor may be."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from protos import inference_pb2 as pb
from serving.core.datatypes import Datatype
from serving.core.errors import InvalidRequest, Unsupported
from serving.core.grpc_codec import GrpcRequest
from serving.core.json_template import Templates
from serving.core.request_http import HttpRequest
from serving.core.shared_memory import no_region, read_place
from serving.core.signature import Signature, TensorSpec

X, Y = (TensorSpec(name, Datatype.FP32, (-1, 2)) for name in "xy")
SIGNATURE = Signature("m", "1", (X, Y), (X,), 8)
ROW = np.float32([[1, 2]])


@dataclass
class Memory:
    """16 bytes: two rows."""

    data: bytearray = field(default_factory=lambda: bytearray(ROW.tobytes() + bytes(8)))

    @property
    def byte_size(self) -> int:
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data


def find(name: str) -> Memory:
    if name != "r":
        raise InvalidRequest("Unable to find")
    return Memory()


def asked(**more: Any) -> dict[str, Any]:
    return {"shared_memory_region": "r", "shared_memory_byte_size": 8, **more}


def test_a_place_is_inside_of_its_region() -> None:
    place = read_place(asked(shared_memory_offset=8), find, "input 'x'")
    assert place is not None
    assert (place.offset, place.size) == (8, 8)
    assert read_place({}, find, "input 'x'") is None


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (asked(shared_memory_region=3), "must be a string, got '3'"),
        (asked(shared_memory_region="other"), "Unable to find"),
        (asked(shared_memory_byte_size=-1), "must be a non-negative integer, got '-1'"),
        (asked(shared_memory_byte_size=True), "must be a non-negative integer"),
        (asked(shared_memory_byte_size=None), "must be a non-negative integer"),
        (asked(shared_memory_offset=9), "expected at most 16, got 9 . 8"),
        (asked(shared_memory_byte_size=17), "expected at most 16, got 0 . 17"),
        (asked(shared_memory_offset=2**70), "expected at most 16"),
    ],
)
def test_any_other_place_is_refused(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        read_place(parameters, find, "input 'x'")


def test_without_shared_memory_every_region_is_unsupported() -> None:
    with pytest.raises(Unsupported):
        read_place(asked(), no_region, "input 'x'")


def test_raw_contents_align_with_the_inputs_that_are_in_the_message() -> None:
    message = pb.ModelInferRequest(raw_input_contents=[(ROW * 5).tobytes()])
    for name in "xy":
        message.inputs.add(name=name, datatype="FP32", shape=[1, 2])
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    message.inputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    request = GrpcRequest(message.SerializeToString())
    x, y = request.tensors(SIGNATURE, 4, find)
    assert (x == ROW).all()
    assert (y == ROW * 5).all()
    assert request.shared_bytes == 8
    message.raw_input_contents.append(b"")
    with pytest.raises(InvalidRequest, match="expected 1 raw_input_contents"):
        GrpcRequest(message.SerializeToString()).tensors(SIGNATURE, 4, find)


@pytest.mark.parametrize("extra", [{"data": [1, 2]}, {"binary_data_size": 8}])
def test_an_input_comes_from_one_place(extra: dict[str, Any]) -> None:
    import orjson

    entry: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
    entry["parameters"] = asked(**{k: v for k, v in extra.items() if k != "data"})
    entry |= {k: v for k, v in extra.items() if k == "data"}
    with pytest.raises(InvalidRequest, match="must not have both 'shared_memory_region'"):
        HttpRequest(orjson.dumps({"inputs": [entry]}), None, 100).tensors(SIGNATURE, 4, find)


def test_a_place_for_an_output_is_not_remembered_with_the_frame_of_a_body() -> None:
    import orjson

    signature = Signature("m", "1", (X,), (Y,), 8)
    body = orjson.dumps(
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}],
            "outputs": [{"name": "y", "parameters": asked()}],
        }
    )
    templates = Templates()
    places = []
    for _ in range(3):
        request = HttpRequest(body, None, 100, templates)
        (wanted,) = request.wanted(signature, find)
        request.tensors(signature, 4, find)
        assert wanted.place is not None
        places.append(wanted.place.region)
    assert len({id(region) for region in places}) == 3
    with pytest.raises(Unsupported):
        HttpRequest(body, None, 100, templates).wanted(signature, no_region)
