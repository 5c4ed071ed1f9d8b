"""Bad requests are refused in one sentence that names input, expected and got."""

import json

import numpy as np
import pytest

from protos import inference_pb2 as pb
from serving.core import grpc_codec
from serving.core.datatypes import Datatype
from serving.core.errors import InvalidRequest, ServeError, Unsupported
from serving.core.grpc_codec import GrpcRequest
from serving.core.request import read_envelope
from serving.core.request_http import HttpRequest
from serving.core.signature import Signature, TensorSpec, count_rows

X = TensorSpec("x", Datatype.FP32, (-1, 3))
Y = TensorSpec("y", Datatype.FP32, (-1, 3))
ONE = Signature("m", "1", (X,), (Y,), 4)


def spec_of(datatype: Datatype) -> Signature:
    return Signature("m", "1", (TensorSpec("x", datatype, (-1,)),), (Y,), 4)


def refusal(document, signature=ONE, header_length=None, blob=b""):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    if blob:
        header_length = str(len(body))

    def decode():
        request = HttpRequest(body + blob, header_length, 100)
        request.wanted(signature)
        count_rows(signature, request.tensors(signature, 4))

    with pytest.raises(ServeError) as caught:
        decode()
    assert len(caught.value.message) <= 400
    return caught.value.message


def entry(**changes):
    whole = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    whole.update(changes)
    return {"inputs": [{key: value for key, value in whole.items() if value is not ...}]}


CASES = [
    (
        entry(shape=[1, 4]),
        "unexpected shape for input 'x' for model 'm'. Expected [-1,3], got [1,4]",
    ),
    (entry(shape=[3]), "got [3]"),
    (entry(shape=[-1, 3]), "got [-1,3]"),
    (entry(shape=[1, -3]), "got [1,-3]"),
    (entry(shape=[True, 3]), "got [True,3]"),
    (entry(shape=[1.0, 3]), "got [1.0,3]"),
    (entry(shape="13"), "got 13"),
    (entry(shape=...), "got None"),
    (entry(shape=[2**63, 3]), "overflows"),
    (entry(shape=[5, 3], data=[0] * 15), "batch-size must be <= 4 for 'm', got 5"),
    (entry(datatype="INT32"), "data-type is 'INT32', but model 'm' expects 'FP32'"),
    (entry(datatype=...), "data-type is 'None'"),
    (entry(name="z"), "unexpected inference input 'z' for model 'm'. Expected ['x']"),
    (entry(name=5), "unexpected inference input '5'"),
    (entry(data=[1, 2]), "Expected 3, got 2"),
    (entry(data=[1, 2, 3, 4]), "Expected 3, got 4"),
    (entry(data=[[1, 2], [3]]), "nesting"),
    (entry(data=[[1, 2, [3]]]), "element 2 of input 'x' for model 'm' must be FP32, got array"),
    (entry(data=[1, "2", 3]), "element 1 of input 'x' for model 'm' must be FP32, got string 2"),
    (entry(data=[1, None, 3]), "got null"),
    (entry(data=[1, True, 3]), "got boolean True"),
    (
        entry(data=[1, 1e39, 3]),
        "element 1e+39 of input 'x' for model 'm' is out of the range of FP32",
    ),
    (entry(data=5), "must be an array, got '5'"),
    (entry(data=...), "must have 'data' or 'binary_data_size'"),
    (entry(parameters=5), "'parameters' of input 'x' must be an object"),
    (entry(parameters={"binary_data_size": 12}), "must not have both"),
    (entry(data=..., parameters={"binary_data_size": -1}), "non-negative integer, got '-1'"),
    (entry(data=..., parameters={"binary_data_size": True}), "got 'True'"),
    (entry(parameters={"shared_memory_region": "r"}), "shared memory is off"),
    ({"inputs": entry()["inputs"] * 2}, "input 'x' already exists in request"),
    (
        {"inputs": []},
        "expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing",
    ),
    ({"inputs": {}}, "'inputs' of a request for model 'm' must be an array"),
    ({}, "got 'None'"),
    ({"inputs": [5]}, "an entry of 'inputs' must be an object"),
    ({"inputs": entry()["inputs"] * 5}, "at most 4 inputs, got 5"),
    (
        entry() | {"outputs": [{"name": "q"}]},
        "unexpected inference output 'q' for model 'm'. Expected one of 'y'",
    ),
    (entry() | {"outputs": [{"name": "y"}] * 2}, "output 'y' already exists in request"),
    (entry() | {"outputs": 5}, "'outputs' must be an array"),
    (entry() | {"outputs": [5]}, "an entry of 'outputs' must be an object"),
    (
        entry() | {"outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        "classification is not supported",
    ),
    (
        entry() | {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
        "must be a boolean, got '1'",
    ),
    (entry() | {"id": 5}, "request 'id' must be a string"),
    (entry() | {"id": "x" * 2000}, "at most 1024 characters"),
    (entry() | {"parameters": [1]}, "'parameters' must be an object"),
    (
        entry() | {"parameters": {"timeout": -5}},
        "parameter 'timeout' must be a non-negative integer, got '-5'",
    ),
    (entry() | {"parameters": {"timeout": 1.5}}, "got '1.5'"),
    (entry() | {"parameters": {"triton_x": 1}}, "are reserved, got 'triton_x'"),
    (entry() | {"parameters": {"routing_key": 5}}, "parameter 'routing_key' must be a string"),
    (entry() | {"parameters": {"sequence_id": 1.5}}, "parameter 'sequence_id' must be"),
    ([1, 2], "the request must be a JSON object"),
    (b"", "failed to parse"),
    (b"{", "failed to parse"),
    (b"\xff\xfe{}", "failed to parse"),
    (b'{"a": 01}', "failed to parse"),
    (b'{"a": [NaN, 1e400]}', "a number is too large"),
    (b'{"a": [NaN, -1E+0309]}', "a number is too large"),
    (b'{"a": [NaN, ' + b"9" * 400 + b".0]}", "a number is too large"),
    (b'{"a": ' + b"9" * 9000 + b"}", "a number is too large"),
    (b'{"id": "\\udc00"}', "a string is not valid Unicode"),
    (b'{"\\ud800\\ud800": 1}', "a string is not valid Unicode"),
    (b"\xef\xbb\xbf{}", "BOM"),
    ("{}".encode("utf-16"), "byte 0 is not UTF-8"),
    (b'{"inputs": []} x', "failed to parse"),
    (b"[" * 101 + b"]" * 101, "JSON nesting depth exceeds maximum allowed limit (100)"),
    (b"[" * 1_000_000, "JSON nesting depth exceeds"),
    (b'{"a":' * 5000 + b"1" + b"}" * 5000, "JSON nesting depth exceeds"),
]


@pytest.mark.parametrize(("document", "message"), CASES, ids=range(len(CASES)))
def test_a_bad_json_request_is_named(document, message):
    assert message in refusal(document)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT32", 2**31), ("INT64", 2**63),
     ("UINT64", 2**64), ("UINT64", -1), ("INT16", -(2**15) - 1), ("UINT32", 2**32)],
)  # fmt: skip
@pytest.mark.parametrize("company", [0, 5000])
def test_integers_out_of_range_are_refused_not_wrapped(datatype, value, company):
    data = [1] * company + [value]
    message = refusal(
        entry(datatype=datatype, shape=[len(data)], data=data), spec_of(Datatype[datatype])
    )
    # 2^64 and beyond are floats to the strict parser, and so no integers at all.
    assert f"out of the range of {datatype}" in message or f"must be {datatype}" in message


@pytest.mark.parametrize("datatype", ["INT32", "UINT8", "BOOL", "BYTES", "FP32"])
def test_element_types_are_exact(datatype):
    wrong = {"INT32": 1.0, "UINT8": True, "BOOL": 1, "BYTES": 5, "FP32": "1"}[datatype]
    signature = spec_of(Datatype[datatype])
    assert f"must be {datatype}" in refusal(
        entry(datatype=datatype, shape=[1], data=[wrong]), signature
    )


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_are_not_taken_as_json(datatype):
    message = refusal(entry(datatype=datatype, shape=[1], data=[1]), spec_of(Datatype[datatype]))
    assert f"receiving {datatype} data via JSON is not supported" in message


def test_large_flat_rows_out_of_float_range_are_refused_too():
    data = [0.0] * 5000 + [1e300]
    message = refusal(entry(shape=[len(data)], data=data), spec_of(Datatype.FP32))
    assert "element 1e+300" in message


def test_lone_surrogates_are_refused_as_strings():
    body = b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":["\\ud800"]}]}'
    assert "not valid Unicode" in refusal(body, spec_of(Datatype.BYTES))


def binary(size, shape=(1, 3), **changes):
    return entry(data=..., shape=list(shape), parameters={"binary_data_size": size}, **changes)


def test_blobs_must_have_the_bytes_that_shape_and_request_say():
    assert "Expected 12, got 11" in refusal(binary(11), blob=b"x" * 11)
    assert "expecting 1 additional bytes" in refusal(binary(12), blob=b"x" * 11)
    assert "unexpected additional input data for model 'm': 1 bytes" in refusal(
        binary(12), blob=b"x" * 13
    )


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "", "99999999999999999999999", "\u0661"])
def test_a_header_length_that_is_no_number_is_refused(length):
    assert "Inference-Header-Content-Length" in refusal(entry(), header_length=length)


def test_a_header_length_beyond_the_body_is_refused():
    assert "should be in range" in refusal(b"{}", header_length="3")


def test_a_raw_body_is_one_tensor():
    request = HttpRequest(np.arange(3, dtype=np.float32).tobytes(), "0", 100)
    (x,) = request.tensors(ONE, 4)
    assert x.tolist() == [[0.0, 1.0, 2.0]]
    assert request.envelope.binary_outputs
    assert "Expected 12, got 11" in refusal(b"x" * 11, header_length="0")
    two = Signature("m", "1", (X, TensorSpec("z", Datatype.FP32, (1,))), (Y,), 0)
    assert "requires a model with 1 input" in refusal(b"x" * 12, two, header_length="0")


def grpc_refusal(signature=ONE, raw=(), version="", **tensor):
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=raw)
    message.inputs.add(**({"name": "x", "datatype": "FP32", "shape": [1, 3]} | tensor))
    with pytest.raises(ServeError) as caught:
        GrpcRequest(message.SerializeToString()).tensors(signature, 4)
    return caught.value.message


def test_bad_grpc_requests_are_named():
    raw = np.zeros(3, np.float32).tobytes()
    contents = pb.InferTensorContents(fp32_contents=[1, 2, 3])
    assert "contents field must not be specified when using raw_input_contents for 'x'" in (
        grpc_refusal(raw=[raw], contents=contents)
    )
    assert "expected 1 raw_input_contents for model 'm', one per input, got 2" in grpc_refusal(
        raw=[raw, raw]
    )
    assert "Expected 12, got 4" in grpc_refusal(raw=[raw[:4]])
    assert "got [1,-3]" in grpc_refusal(shape=[1, -3], raw=[raw])
    assert "Expected 3, got 2" in grpc_refusal(
        contents=pb.InferTensorContents(fp32_contents=[1, 2])
    )
    assert "Expected 3, got 0" in grpc_refusal(contents=pb.InferTensorContents(int_contents=[1]))
    assert "out of the range of INT8" in grpc_refusal(
        spec_of(Datatype.INT8),
        datatype="INT8",
        shape=[1],
        contents=pb.InferTensorContents(int_contents=[200]),
    )
    assert "only in raw_input_contents" in grpc_refusal(
        spec_of(Datatype.FP16), datatype="FP16", shape=[1]
    )
    assert "not UTF-8" in grpc_refusal(
        spec_of(Datatype.BYTES),
        datatype="BYTES",
        shape=[1],
        contents=pb.InferTensorContents(bytes_contents=[b"\xff"]),
    )


def test_bytes_that_are_no_message_are_refused():
    with pytest.raises(InvalidRequest, match="not valid protobuf"):
        GrpcRequest(b"\xff\xff\xff")


def test_inputs_of_different_row_counts_are_refused():
    signature = Signature("m", "1", (X, TensorSpec("z", Datatype.FP32, (-1, 3))), (Y,), 4)
    arrays = [np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32)]
    with pytest.raises(InvalidRequest, match="input 'z' batch size does not match"):
        count_rows(signature, arrays)


def test_routing_key_comes_before_sequence_id_and_zero_is_none():
    def key(**parameters):
        return read_envelope("", parameters, reserved_allowed=False).routing_key

    assert key(routing_key="k", sequence_id=5) == "k"
    assert key(sequence_id=5) == "5"
    assert key(sequence_id="s") == "s"
    assert key(sequence_id=0) == key(sequence_id="") == key() == ""


def test_unsupported_is_told_apart_from_wrong():
    with pytest.raises(Unsupported):
        HttpRequest(
            json.dumps(entry(parameters={"shared_memory_region": "r"})).encode(), None, 9
        ).tensors(ONE, 4)


def test_of_wanted_outputs_no_more_are_looked_at_than_there_are(monkeypatch):
    looked_at = []
    monkeypatch.setattr(grpc_codec, "_plain", lambda p: looked_at.append(p) or {})
    message = pb.ModelInferRequest(model_name="m")
    data = message.SerializeToString() + b"\x32\x00" * 100_000
    request = GrpcRequest(data)
    with pytest.raises(InvalidRequest, match="unexpected inference output ''"):
        request.wanted(ONE)
    assert len(looked_at) <= 2
    twice = pb.ModelInferRequest(outputs=[{"name": "y"}, {"name": "y"}, {"name": "y"}])
    with pytest.raises(InvalidRequest, match="output 'y' already exists"):
        GrpcRequest(twice.SerializeToString()).wanted(ONE)


def test_a_message_costs_what_it_grows_to():
    raw = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(1000), bytes(500)])
    data = raw.SerializeToString()
    rest = (len(data) - 1500) * 24
    assert GrpcRequest(data).cost(len(data), 10**6) == 1500 * 2 + rest
    assert GrpcRequest(data, in_place=False).cost(len(data), 10**6) == 1500 * 3 + rest
    # One of the largest size has names beside it, and must fit an empty budget all the same.
    assert GrpcRequest(b"").cost(10**6 + 60_000, 10**6) == 24 * 10**6


def test_null_beside_the_size_of_an_empty_tensor_is_no_data():
    """KServe's REST client sends it, with and without a header length."""
    sent = entry(shape=[0, 3], data=None, parameters={"binary_data_size": 0})
    for header_length in (None, str(len(json.dumps(sent)))):
        request = HttpRequest(json.dumps(sent).encode(), header_length, 100)
        (array,) = request.tensors(ONE, 4)
        assert array.shape == (0, 3)
    assert "must have 'data' or 'binary_data_size'" in refusal(entry(data=None))
