"""Requests of every form and datatype come out as the arrays that went in, and back."""

import gzip
import json
import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from protos import inference_pb2 as pb
from serving.core.binary_codec import decode_raw, encode_raw
from serving.core.datatypes import Datatype
from serving.core.errors import InvalidRequest
from serving.core.grpc_codec import GrpcReplies, GrpcRequest
from serving.core.inflate import inflate
from serving.core.json_codec import nesting, parse_json, row_texts
from serving.core.json_codec_reply import SHORT_ROW_BYTES, BatchOutputs, JsonReplies
from serving.core.request import PLAIN, Envelope, WantedOutput
from serving.core.request_http import HttpRequest
from serving.core.signature import Signature, TensorSpec

IN_JSON = [d for d in Datatype if d.in_json]
NUMERIC = [d for d in Datatype if d is not Datatype.BYTES]


def elements(datatype):
    if datatype is Datatype.BYTES:
        return st.text(st.characters(codec="utf-8"), max_size=12)
    return arrays.from_dtype(datatype.dtype)


def bits_of(datatype, shape):
    """Arrays of any bits: every NaN with its payload, both zeros, denormals."""
    unsigned = np.dtype(f"u{datatype.itemsize}")
    signalling = {2: 0x7C01, 4: 0xFF800001, 8: 0x7FF0000000000001}[datatype.itemsize]
    some = arrays.from_dtype(unsigned) | st.just(signalling)
    return arrays.arrays(unsigned, shape, elements=some, fill=st.nothing()).map(
        lambda bits: bits.view(datatype.dtype)
    )


@st.composite
def tensors(draw, datatypes=tuple(Datatype), min_dims=0, max_dims=3):
    datatype = draw(st.sampled_from(datatypes))
    shape = draw(arrays.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=0, max_side=4))
    if datatype is Datatype.BYTES:
        flat = draw(
            st.lists(elements(datatype), min_size=math.prod(shape), max_size=math.prod(shape))
        )
        array = np.empty(len(flat), dtype=object)
        array[:] = [text.encode() for text in flat]
        return datatype, array.reshape(shape)
    if datatype.is_float and draw(st.booleans()):
        return datatype, draw(bits_of(datatype, shape))
    return datatype, draw(arrays.arrays(datatype.dtype, shape, elements=elements(datatype)))


def signature_for(datatype, shape, max_batch_size=0):
    spec = TensorSpec("x", datatype, tuple(shape))
    out = TensorSpec("y", datatype, tuple(shape))
    return Signature("m", "1", (spec,), (out,), max_batch_size)


def equal(left, right):
    if left.dtype.kind == "f":
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)
    return left.dtype == right.dtype and left.shape == right.shape and bool(np.all(left == right))


def same_bits(left, right):
    """Equal to the last bit, also of what a NaN carries and of the sign of a zero."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return left.tolist() == right.tolist() if left.dtype == object else bits(left) == bits(right)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def as_json(array, *, nested):
    if array.dtype == object:
        array = np.array([x.decode() for x in array.reshape(-1)], dtype=object).reshape(array.shape)
    return array.tolist() if nested else array.reshape(-1).tolist()


@given(tensors(IN_JSON), st.booleans())
def test_json_elements_nested_or_flat_become_the_same_array(tensor, nested):
    datatype, array = tensor
    shape = list(array.shape)
    document = {
        "inputs": [
            {
                "name": "x",
                "datatype": datatype.wire,
                "shape": shape,
                "data": as_json(array, nested=nested),
            }
        ]
    }
    body = json.dumps(document).encode()
    got = HttpRequest(body, None, 100).tensors(signature_for(datatype, array.shape), 8)[0]
    assert equal(got, array)


@given(tensors())
def test_raw_bytes_round_trip(tensor):
    datatype, array = tensor
    signature = signature_for(datatype, array.shape)
    data = encode_raw(array)
    got = decode_raw(signature, signature.inputs[0], data, array.shape, array.size)
    assert same_bits(got, array)


@given(tensors(), st.integers(1, 9))
def test_bytes_of_another_length_are_refused(tensor, extra):
    datatype, array = tensor
    signature = signature_for(datatype, array.shape)
    with pytest.raises(InvalidRequest):
        decode_raw(
            signature,
            signature.inputs[0],
            encode_raw(array) + b"\1" * extra,
            array.shape,
            array.size,
        )


@given(st.binary(max_size=40), st.integers(0, 5))
def test_string_prefixes_that_lie_are_refused_or_read_exactly(data, count):
    signature = signature_for(Datatype.BYTES, (count,))
    try:
        got = decode_raw(signature, signature.inputs[0], data, (count,), count)
    except InvalidRequest:
        return
    assert encode_raw(got) == data


@given(tensors(), st.booleans())
def test_a_binary_input_behind_json_is_found_by_its_size(tensor, other_first):
    datatype, array = tensor
    spec = TensorSpec("x", datatype, array.shape)
    other = TensorSpec("o", Datatype.INT32, (2,))
    signature = Signature("m", "1", (spec, other), (spec,), 0)
    blob = encode_raw(array)
    entries = [
        {"name": "x", "datatype": datatype.wire, "shape": list(array.shape),
         "parameters": {"binary_data_size": len(blob)}},
        {"name": "o", "datatype": "INT32", "shape": [2], "data": [1, -2]},
    ]  # fmt: skip
    if other_first:
        entries.reverse()
    head = json.dumps({"inputs": entries}).encode()
    request = HttpRequest(head + blob, str(len(head)), 100)
    x, o = request.tensors(signature, 8)
    assert same_bits(x, array)
    assert o.tolist() == [1, -2]


@given(tensors())
def test_raw_grpc_inputs_round_trip(tensor):
    datatype, array = tensor
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[encode_raw(array)])
    message.inputs.add(name="x", datatype=datatype.wire, shape=array.shape)
    request = GrpcRequest(message.SerializeToString())
    assert request.model == "m"
    assert same_bits(request.tensors(signature_for(datatype, array.shape), 8)[0], array)


FIELDS = {
    Datatype.BOOL: "bool_contents", Datatype.INT8: "int_contents", Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents", Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents", Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents", Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents", Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}  # fmt: skip


@given(tensors(tuple(FIELDS)))
def test_typed_grpc_inputs_round_trip(tensor):
    datatype, array = tensor
    message = pb.ModelInferRequest(model_name="m")
    entry = message.inputs.add(name="x", datatype=datatype.wire, shape=array.shape)
    getattr(entry.contents, FIELDS[datatype]).extend(array.reshape(-1).tolist())
    request = GrpcRequest(message.SerializeToString())
    assert equal(request.tensors(signature_for(datatype, array.shape), 8)[0], array)


@st.composite
def batches(draw):
    """Outputs of a batch and the rows of its requests."""
    counts = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    datatype, array = draw(tensors(IN_JSON, min_dims=1, max_dims=2))
    rows = sum(counts)
    tail = array.shape[1:]
    if array.size:
        flat = np.resize(array, (rows, *tail))
    else:
        flat = np.full((rows, *tail), b"" if datatype is Datatype.BYTES else 0, array.dtype)
    return datatype, np.ascontiguousarray(flat), counts


def outputs_of(datatype, array):
    signature = signature_for(datatype, (-1, *array.shape[1:]), 64)
    return signature, BatchOutputs(signature, [array])


@given(batches(), st.sampled_from([PLAIN, Envelope(id='a"b\u2028')]))
def test_json_replies_hold_each_requests_own_rows(batch, envelope):
    datatype, array, counts = batch
    signature, outputs = outputs_of(datatype, array)
    replies = JsonReplies(signature, "d")
    start = 0
    for count in counts:
        body, json_length = replies.encode(outputs, start, start + count, envelope, (), "p-id")
        reply = json.loads(body)
        mine = array[start : start + count]
        assert json_length == 0
        assert reply.get("id", "") == envelope.id
        assert reply["parameters"] == {"prediction_id": "p-id"}
        (output,) = reply["outputs"]
        assert output["shape"] == list(mine.shape)
        got = np.array(output["data"], dtype=object if datatype is Datatype.BYTES else array.dtype)
        if datatype is Datatype.BYTES:
            got = np.array([text.encode() for text in got], dtype=object)
        assert equal(got.reshape(mine.shape), mine)
        start += count


@given(batches())
def test_binary_and_grpc_replies_hold_each_requests_own_rows(batch):
    datatype, array, counts = batch
    signature, outputs = outputs_of(datatype, array)
    start = 0
    for count in counts:
        mine = array[start : start + count]
        body, length = JsonReplies(signature, "d").encode(
            outputs, start, start + count, Envelope(binary_outputs=True), (), ""
        )
        (output,) = json.loads(body[:length])["outputs"]
        assert output["parameters"]["binary_data_size"] == len(body) - length
        assert body[length:] == encode_raw(mine)
        message = pb.ModelInferResponse.FromString(
            GrpcReplies(signature, "dig").encode(
                outputs, start, start + count, Envelope(id="i", details=True), (), "x" * 36
            )
        )
        assert message.raw_output_contents[0] == encode_raw(mine)
        assert list(message.outputs[0].shape) == list(mine.shape)
        assert message.id == "i"
        assert message.parameters["prediction_id"].string_param == "x" * 36
        assert message.parameters["model_digest"].string_param == "dig"
        start += count


@given(arrays.arrays(np.float32, (3, 4)))
def test_nan_and_infinities_survive_json_as_tokens(array):
    spec = TensorSpec("y", Datatype.FP32, (-1, 4))
    rows = [json.loads(b"[" + text + b"]") for text in row_texts(spec, array)]
    assert np.array_equal(np.array(rows, dtype=np.float32), array, equal_nan=True)


@given(
    st.recursive(
        st.none() | st.text(max_size=6) | st.integers(),
        lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=4), c, max_size=2),
        max_leaves=12,
    )
)
def test_nesting_is_counted_exactly_also_with_brackets_in_strings(value):
    def depth(item):
        if isinstance(item, dict):
            return 1 + max(map(depth, item.values()), default=0)
        if isinstance(item, list):
            return 1 + max(map(depth, item), default=0)
        return 0

    assert nesting(json.dumps(value).encode()) == depth(value)


def assert_refused_shortly(build):
    """It works, or fails as the caller's fault and in few words; nothing else escapes."""
    message = ""
    try:
        build()
    except InvalidRequest as error:
        message = error.message
    assert len(message) <= 400


@given(st.binary(max_size=60))
def test_any_bytes_parse_or_are_refused(data):
    for build in (lambda: parse_json(data, 100), lambda: GrpcRequest(data)):
        assert_refused_shortly(build)


@given(st.binary(max_size=80), st.text(max_size=4))
def test_any_body_and_header_length_decode_or_are_refused(data, length):
    signature = signature_for(Datatype.FP32, (-1, 2), 8)
    assert_refused_shortly(lambda: HttpRequest(data, length, 100).tensors(signature, 8))


def test_wanted_outputs_choose_and_order_what_a_reply_holds():
    specs = tuple(TensorSpec(name, Datatype.FP32, (-1, 1)) for name in "ab")
    signature = Signature("m", "1", specs, specs, 8)
    a, b = np.float32([[1]]), np.float32([[2]])
    outputs = BatchOutputs(signature, [a, b])
    wanted = (WantedOutput(1, True), WantedOutput(0, False))
    body, length = JsonReplies(signature, "d").encode(outputs, 0, 1, PLAIN, wanted, "")
    reply = json.loads(body[:length])
    assert [output["name"] for output in reply["outputs"]] == ["b", "a"]
    assert reply["outputs"][1]["data"] == [1.0]
    assert body[length:] == b.tobytes()


@given(arrays.arrays(np.float32, (3, 2)), arrays.arrays(np.int64, (3,)))
def test_replies_of_one_row_hold_every_output_of_it(a, b):
    specs = (TensorSpec("a", Datatype.FP32, (-1, 2)), TensorSpec("b", Datatype.INT64, (-1,)))
    signature = Signature("m", "1", specs, specs, 8)
    outputs = BatchOutputs(signature, [a, b])
    for row in (2, 0, 1):
        body, _ = JsonReplies(signature, "d").encode(outputs, row, row + 1, PLAIN, (), "p")
        first, second = json.loads(body)["outputs"]
        assert (first["shape"], second["shape"]) == ([1, 2], [1])
        assert equal(np.array(first["data"], np.float32), a[row])
        assert second["data"] == [int(b[row])]


@given(batches(), st.booleans())
def test_what_a_batch_shares_leaves_every_reply_as_it_would_be_alone(batch, wide):
    """The long way is taken where a request names its outputs; both end in the same bytes."""
    datatype, array, counts = batch
    if wide and array.ndim == 2:  # too long a row for its batch to be cut as bytes
        array = np.repeat(array, SHORT_ROW_BYTES, axis=1)
    signature, outputs = outputs_of(datatype, array)
    json_replies, grpc_replies = JsonReplies(signature, "d"), GrpcReplies(signature, "d")
    envelope, named, start = Envelope(binary_outputs=True), (WantedOutput(0),), 0
    for rows in counts:
        alone = BatchOutputs(signature, [array[start : start + rows]])
        stop = start + rows
        for replies, said in ((json_replies, envelope), (grpc_replies, PLAIN)):
            got = replies.encode(outputs, start, stop, said, (), "p")
            assert got == replies.encode(outputs, start, stop, said, named, "p")
            assert got == replies.encode(alone, 0, rows, said, named, "p")
        start = stop


def raw_shapes(datatype):
    """Signature shapes that a raw body can have, and the shape that it then has."""
    if datatype is Datatype.BYTES:
        return st.sampled_from([((), ()), ((-1,), (1,)), ((1, 1), (1, 1)), ((-1, -1), (1, 1))])
    return st.sampled_from([((), ()), ((-1, 2), (3, 2)), ((2, -1), (2, 0)), ((2, 2), (2, 2))])


@given(st.data(), st.sampled_from(tuple(Datatype)))
def test_a_body_that_is_one_raw_tensor_round_trips(data, datatype):
    declared, shape = data.draw(raw_shapes(datatype))
    if datatype is Datatype.BYTES:
        array = np.empty(1, dtype=object)
        array[:] = [data.draw(elements(datatype)).encode()]
        array = array.reshape(shape)
    else:
        array = data.draw(bits_of(datatype, shape) if datatype.is_float else
                          arrays.arrays(datatype.dtype, shape))  # fmt: skip
    request = HttpRequest(encode_raw(array), "0", 100)
    assert same_bits(request.tensors(signature_for(datatype, declared), 8)[0], array)
    assert request.envelope.binary_outputs


@given(tensors())
def test_the_output_of_a_model_that_does_not_batch_comes_back_whole(tensor):
    """Scalars and empty tensors too; as bytes to the last bit."""
    datatype, array = tensor
    signature = signature_for(datatype, array.shape)
    outputs = BatchOutputs(signature, [np.ascontiguousarray(array).reshape(array.shape)])
    replies = JsonReplies(signature, "d")
    body, length = replies.encode(outputs, 0, 1, Envelope(binary_outputs=True), (), "p")
    (output,) = json.loads(body[:length])["outputs"]
    assert output["shape"] == list(array.shape)
    head = json.dumps({"inputs": [output | {"name": "x"}]}).encode()
    again = HttpRequest(head + body[length:], str(len(head)), 100)
    assert same_bits(again.tensors(signature, 8)[0], array)
    reply = pb.ModelInferResponse.FromString(
        GrpcReplies(signature, "d").encode(outputs, 0, 1, PLAIN, (), "x" * 36)
    )
    message = pb.ModelInferRequest(raw_input_contents=reply.raw_output_contents)
    message.inputs.add(name="x", datatype=datatype.wire, shape=reply.outputs[0].shape)
    got = GrpcRequest(message.SerializeToString()).tensors(signature, 8)[0]
    assert same_bits(got, array)
    if datatype.in_json:
        body, _ = replies.encode(outputs, 0, 1, PLAIN, (), "p")
        (output,) = json.loads(body)["outputs"]
        text = json.dumps({"inputs": [output | {"name": "x"}]}).encode()
        assert equal(HttpRequest(text, None, 100).tensors(signature, 8)[0], array)


@given(st.sampled_from([Datatype.FP32, Datatype.FP64]), st.data())
def test_json_numbers_are_exact_and_the_shortest_that_are(datatype, data):
    array = data.draw(bits_of(datatype, (1, 4)))
    spec = TensorSpec("y", datatype, (-1, 4))
    (text,) = row_texts(spec, array)
    for value, token in zip(array[0], text.split(b","), strict=True):
        if np.isnan(value):
            assert token == b"NaN"
            continue
        assert bits(datatype.dtype.type(token.decode())) == bits(value)
        if np.isfinite(value):
            digits = token.partition(b"e")[0].translate(None, b"-.").strip(b"0")
            shortest = np.format_float_scientific(value, unique=True).partition("e")[0]
            assert len(digits) <= len(shortest.translate({ord(c): None for c in "-."}).strip("0"))


INTEGERS = [d for d in IN_JSON if d.dtype.kind in "iu"]


@pytest.mark.parametrize("datatype", INTEGERS)
def test_the_ends_of_every_integer_type_are_exact_and_what_is_beyond_is_refused(datatype):
    ends = np.iinfo(datatype.dtype)
    array = np.array([ends.min, ends.max], datatype.dtype)
    signature = signature_for(datatype, (2,))
    (text,) = row_texts(TensorSpec("y", datatype, (-1, 2)), array[None])
    assert text == b"%d,%d" % (ends.min, ends.max)

    def request(values):
        entry = {"name": "x", "datatype": datatype.wire, "shape": [2], "data": values}
        return HttpRequest(json.dumps({"inputs": [entry]}).encode(), None, 100)

    assert same_bits(request([ends.min, ends.max]).tensors(signature, 8)[0], array)
    for beyond in (ends.min - 1, ends.max + 1):
        with pytest.raises(InvalidRequest, match=r"out of the range|must be U?INT64, got number"):
            request([beyond, 0]).tensors(signature, 8)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", ""]), st.integers(1, 9))
def test_compressed_bodies_round_trip(body, coding, level):
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, lambda b, _: b)
    assert inflate(packed(body, level), coding, 200) == body
