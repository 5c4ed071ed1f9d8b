"""A message of a known form means what parsing it in full says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import inference_pb2 as pb
from serving.core.datatypes import Datatype
from serving.core.errors import ServeError
from serving.core.grpc_codec import GrpcRequest
from serving.core.grpc_forms import FORMS_MAX, HEAD_BYTES_MAX, FormedRequest, Forms, form_of
from serving.core.signature import Signature, TensorSpec

OUTPUT = TensorSpec("y", Datatype.FP32, (-1,))
ONE = Signature("m", "1", (TensorSpec("x", Datatype.FP32, (-1, 3)),), (OUTPUT,), 8)
TWO = Signature(
    "m",
    "1",
    (TensorSpec("a", Datatype.INT64, (-1, 1)), TensorSpec("b", Datatype.FP16, (-1, 2))),
    (OUTPUT,),
    8,
)
FLAGS = Signature("m", "1", (TensorSpec("x", Datatype.BOOL, (-1, 3)),), (OUTPUT,), 8)


def message(inputs, **fields):
    sent = pb.ModelInferRequest(model_name="m", **fields)
    for name, array in inputs:
        wire = {"f4": "FP32", "i8": "INT64", "f2": "FP16", "b1": "BOOL"}[array.dtype.str[1:]]
        sent.inputs.add(name=name, datatype=wire, shape=array.shape)
        sent.raw_input_contents.append(array.tobytes())
    return sent


def outcome(request, signature):
    try:
        arrays = request().tensors(signature, 8)
    except ServeError as error:
        return type(error), error.message
    return [(array.dtype, array.shape, array.tobytes()) for array in arrays]


def wanted(request, signature):
    try:
        return request().wanted(signature)
    except ServeError as error:
        return type(error), error.message


def row(value=0.0):
    return message([("x", np.full((1, 3), value, np.float32))]).SerializeToString()


def test_the_second_message_of_a_form_is_not_parsed():
    forms = Forms()
    assert isinstance(forms.parse(row()), GrpcRequest)
    for value in (1.0, 2.0, 3.0):
        request = forms.parse(row(value))
        assert isinstance(request, FormedRequest)
        assert (request.model, request.version) == ("m", "")
        assert request.cost(len(row()), 1000) == GrpcRequest(row()).cost(len(row()), 1000)
        (array,) = request.tensors(ONE, 8)
        assert array.tolist() == [[value] * 3]


def test_ids_of_one_length_share_a_form():
    forms, zeros = Forms(), np.zeros((1, 3), np.float32)

    def sent(name):
        return message([("x", zeros)], id=name, model_version="1").SerializeToString()

    assert isinstance(forms.parse(sent("first")), GrpcRequest)
    for name in ("other", "wîth"):
        request = forms.parse(sent(name))
        assert isinstance(request, FormedRequest)
        assert request.envelope == GrpcRequest(sent(name)).envelope
        assert request.envelope.id == name
    assert isinstance(forms.parse(sent("longer")), GrpcRequest)


def test_chosen_outputs_are_read_once():
    choice = pb.ModelInferRequest.InferRequestedOutputTensor(name="y")
    wrong = pb.ModelInferRequest.InferRequestedOutputTensor(name="z")
    zeros = np.zeros((1, 3), np.float32)
    forms = Forms()
    good = message([("x", zeros)], outputs=[choice]).SerializeToString()
    bad = message([("x", zeros)], outputs=[wrong]).SerializeToString()
    for data in (good, bad):
        forms.parse(data)
        request = forms.parse(data)
        assert isinstance(request, FormedRequest)
        assert wanted(lambda r=request: r, ONE) == wanted(lambda d=data: GrpcRequest(d), ONE)
    assert forms.parse(good).wanted(ONE) == GrpcRequest(good).wanted(ONE) != ()


def test_an_id_that_comes_twice_makes_a_message_that_is_parsed_each_time():
    zeros = np.zeros((1, 3), np.float32)
    tail = message([("x", zeros)]).SerializeToString()[3:]  # behind the model's name
    head = pb.ModelInferRequest(model_name="m", id="first").SerializeToString()
    again = pb.ModelInferRequest(id="first").SerializeToString()
    assert form_of(head + tail, GrpcRequest(head + tail)) is not None
    twice = head + again + tail
    assert form_of(twice, GrpcRequest(twice)) is None


def test_another_signature_decides_for_itself():
    forms = Forms()
    forms.parse(row())
    assert outcome(lambda: forms.parse(row(1.0)), ONE)[0][1] == (1, 3)
    _, text = outcome(lambda: forms.parse(row(1.0)), TWO)
    assert "unexpected inference input 'x'" in text
    assert outcome(lambda: forms.parse(row(2.0)), ONE)[0][2] == np.float32([2] * 3).tobytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"parameters": {"sequence": pb.InferParameter(int64_param=1)}},
        {
            "outputs": [
                pb.ModelInferRequest.InferRequestedOutputTensor(
                    name="y", parameters={"classification": pb.InferParameter(int64_param=1)}
                )
            ]
        },
    ],
    ids=["parameters", "of an output"],
)
def test_what_says_more_is_parsed_each_time(changed):
    forms, sent = Forms(), message([("x", np.zeros((1, 3), np.float32))], **changed)
    for _ in range(3):
        assert isinstance(forms.parse(sent.SerializeToString()), GrpcRequest)


def test_a_deadline_and_a_priority_belong_to_the_form():
    forms, zeros = Forms(), np.zeros((1, 3), np.float32)

    def sent(timeout, name):
        parameters = {
            "timeout": pb.InferParameter(int64_param=timeout),
            "priority": pb.InferParameter(int64_param=2),
        }
        return message([("x", zeros)], id=name, parameters=parameters)

    for timeout in (100, 200):
        for _ in range(10):  # the order of two parameters is any
            forms.parse(sent(timeout, "a").SerializeToString())
        data = sent(timeout, "b").SerializeToString(deterministic=True)
        forms.parse(data)
        request = forms.parse(data)
        assert isinstance(request, FormedRequest)
        assert request.envelope == GrpcRequest(data).envelope
        assert (request.envelope.id, request.envelope.timeout_ns) == ("b", 1000 * timeout)


def test_a_long_message_is_known_as_well():
    forms, many = Forms(), np.zeros((4000, 3), np.float32)
    data = message([("x", many)]).SerializeToString()
    assert isinstance(forms.parse(data), GrpcRequest)
    assert isinstance(forms.parse(data), FormedRequest)


def test_tensors_of_whatever_message_are_where_they_were_received():
    forms, values = Forms(), np.arange(3, dtype=np.float32).reshape(1, 3)
    odd = {"sequence": pb.InferParameter(int64_param=1)}
    for fields in ({}, {"id": "a"}, {"parameters": odd}):
        for _ in range(2):
            data = message([("x", values)], **fields).SerializeToString()
            (array,) = forms.parse(data).tensors(ONE, 8)
            received = np.frombuffer(data, np.uint8)
            assert np.shares_memory(array, received)
            assert array.tolist() == values.tolist()


def test_heads_that_never_come_again_are_not_learned_for_ever():
    forms = Forms()
    for timeout in range(1, 10_001):
        parameters = {"timeout": pb.InferParameter(int64_param=timeout)}
        zeros = np.zeros((1, 3), np.float32)
        forms.parse(message([("x", zeros)], parameters=parameters).SerializeToString())
    assert forms._count <= 10_000 // 8
    known = 0
    for _ in range(64):  # and a form that does is learned before long
        known += isinstance(forms.parse(row()), FormedRequest)
    assert known >= 40


def test_what_is_kept_is_bounded():
    forms = Forms()
    for i in range(2 * FORMS_MAX):
        array = np.zeros((1, 3), np.float32)
        forms.parse(message([(f"x{i}", array)]).SerializeToString())
    forms.parse(message([("x" * HEAD_BYTES_MAX, array)]).SerializeToString())
    kept = [form for known in forms._known.values() for form in known.by_key.values()]
    assert len(kept) <= FORMS_MAX
    assert max(len(form.head) for form in kept) <= HEAD_BYTES_MAX


@st.composite
def messages(draw):
    """Serialized requests that are alike: of few shapes, in parts or in odd orders."""
    rows = draw(st.integers(1, 2))
    fill = draw(st.integers(0, 3))
    if draw(st.booleans()):
        inputs = [("x", np.full((rows, 3), fill, np.float32))]
    else:
        inputs = [
            ("a", np.full((rows, 1), fill, np.int64)),
            ("b", np.full((rows, 2), fill, np.float16)),
        ]
        if draw(st.booleans()):
            inputs.reverse()
    if draw(st.integers(0, 9)) == 0:
        inputs = [("x", np.full((rows, 3), fill % 2, np.bool_))]
    chosen = draw(st.sampled_from([[], ["y"], ["z"], ["y", "y"]]))
    outputs = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in chosen]
    data = message(
        inputs,
        model_version=draw(st.sampled_from(["", "1"])),
        id=draw(st.sampled_from(["", "a", "b", "é"])),
        outputs=outputs,
    ).SerializeToString()
    change = draw(st.integers(0, 11))
    if change == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes((draw(st.integers(0, 255)),)) + data[at + 1 :]
    elif change == 1:
        data += pb.ModelInferRequest(model_version="1").SerializeToString()  # behind the tensors
    elif change == 2:
        data += pb.ModelInferRequest(raw_input_contents=[b"12"]).SerializeToString()
    elif change == 3:
        data = pb.ModelInferRequest(id=draw(st.sampled_from("ab"))).SerializeToString() + data
    elif change == 4:
        data = data.replace(b"\x1a\x01a", b"\x1a\x01\xff")  # no UTF-8
    return data


def envelope(request):
    try:
        return request().envelope
    except ServeError as error:
        return type(error), error.message


@given(st.lists(messages(), min_size=2, max_size=12))
def test_known_or_not_a_message_means_the_same(sent):
    forms = Forms()
    for data in sent * 2:
        said = envelope(lambda data=data: GrpcRequest(data))
        assert envelope(lambda data=data: forms.parse(data)) == said
        for signature in (ONE, TWO, FLAGS):
            plain = outcome(lambda data=data: GrpcRequest(data), signature)
            assert outcome(lambda data=data: forms.parse(data), signature) == plain
            plain = wanted(lambda data=data: GrpcRequest(data), signature)
            assert wanted(lambda data=data: forms.parse(data), signature) == plain


def test_what_ends_like_tensors_and_is_none_is_parsed_each_time():
    inner = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\0\1"])
    inner.inputs.add(name="x", datatype="BOOL", shape=(1, 2))
    whole = inner.SerializeToString()
    data = whole + b"\n\x1a\x02\x00\x17:\x02\x01m" + whole[3:]
    assert pb.ModelInferRequest.FromString(data)
    for _ in range(2):
        assert form_of(data, GrpcRequest(data)) is None
