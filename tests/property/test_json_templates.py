"""Templates save parsing and change nothing: not an array, not a message."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.datatypes import Datatype
from serving.core.errors import ServeError
from serving.core.json_template import TEMPLATES_MAX, Templates
from serving.core.request_http import HttpRequest, peek_timeout_us
from serving.core.signature import Signature, TensorSpec

NAMES = ["x", "y", 'x"data":', "]", "x]}]}"]


def signature_of(datatype, *names):
    inputs = tuple(TensorSpec(name, datatype, (-1, 2)) for name in names)
    return Signature("m", "1", inputs, (TensorSpec("y", datatype, (-1,)),), 8)


SIGNATURES = [
    signature_of(datatype, name)
    for name in ("x", 'x"data":')
    for datatype in (Datatype.FP32, Datatype.INT8, Datatype.BYTES, Datatype.BOOL)
] + [signature_of(Datatype.FP32, "x", "y")]

element = st.one_of(
    st.integers(-200, 200),
    st.floats(width=32),
    st.booleans(),
    st.none(),
    st.sampled_from(["a", '"data":', "]", "]}]}", "\\", "é"]),
    st.lists(st.integers(), max_size=2),
)
numbers = st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=2)
data = st.one_of(
    numbers,
    numbers.map(lambda row: [row]),
    st.lists(numbers, max_size=3),
    st.lists(element, max_size=5),
    st.none(),
    st.just({}),
)


@st.composite
def entries(draw):
    entry = {
        "name": draw(st.sampled_from(NAMES)),
        "shape": draw(st.sampled_from([[1, 2], [2, 2], [0, 2], [1, 3], "x"])),
        "datatype": draw(st.sampled_from(["FP32", "INT8", "BYTES", "BOOL", "?"])),
        "data": draw(data),
    }
    if draw(st.integers(0, 9)) == 0:
        entry["parameters"] = {"binary_data_size": 3}
    keys = draw(st.permutations(list(entry)))
    return {key: entry[key] for key in keys}


parameters = st.one_of(
    st.dictionaries(st.sampled_from(["timeout", "priority"]), st.integers(0, 10**6)),
    st.dictionaries(
        st.sampled_from(["timeout", "driftgate_routing_key", '"timeout":5', "binary_data_output"]),
        st.one_of(st.integers(-2, 10**17), st.booleans(), st.sampled_from(['"timeout":7', "k"])),
    ),
    st.none(),
)


@st.composite
def bodies(draw):
    document = {"inputs": draw(st.lists(entries(), min_size=1, max_size=2))}
    if draw(st.integers(0, 3)) == 0:
        document["outputs"] = draw(
            st.sampled_from([[], [{"name": "y"}], [{"name": "no"}], [{"data": [1]}], None])
        )
    if draw(st.integers(0, 5)) == 0:
        document["id"] = "1"
    if draw(st.integers(0, 3)) == 0:
        document["parameters"] = draw(parameters)
    keys = draw(st.permutations(list(document)))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
    text = json.dumps({key: document[key] for key in keys}, separators=separators)
    return (text + draw(st.sampled_from(["", "", "", " ", "]", "}"]))).encode()


def outcome(body, signature, templates):
    """What a request comes to, in a form that can be compared."""
    try:
        request = HttpRequest(body, None, 100, templates)
        wanted = request.wanted(signature)
        arrays = request.tensors(signature, 8)
    except ServeError as error:
        return type(error), error.message
    shown = [(a.dtype, a.shape, a.tolist() if a.dtype == object else a.tobytes()) for a in arrays]
    return request.envelope, wanted, shown


@given(st.lists(bodies(), min_size=1, max_size=4), st.sampled_from(SIGNATURES))
def test_whatever_came_before_a_body_means_what_it_means_alone(texts, signature):
    templates = Templates()
    for body in texts + texts:
        assert outcome(body, signature, templates) == outcome(body, signature, None)


@given(bodies())
def test_a_timeout_that_is_peeked_at_is_the_one_that_is_read(body):
    found = peek_timeout_us(b"head" + body, 4)
    try:
        envelope = HttpRequest(body, None, 100).envelope
    except ServeError:
        return
    assert found in (0, envelope.timeout_ns // 1000)


def test_a_timeout_is_peeked_at_where_clients_put_it():
    for text in ('{"parameters":{"timeout":5}}', '{"parameters": {"timeout": 5, "priority": 1}}'):
        assert peek_timeout_us(text.encode(), 0) == 5
    for text in ("", '{"timeout":5,"timeout":6}', '{"a":"\\"timeout\\":5,"}', '{"timeout":5.5}'):
        assert peek_timeout_us(text.encode(), 0) == 0


@given(numbers, numbers, st.booleans(), st.sampled_from(SIGNATURES))
def test_one_memory_serves_versions_of_different_signatures(first, second, nested, other):
    templates = Templates()
    for row in (first, second):
        entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [row] if nested else row}
        body = json.dumps({"inputs": [entry]}).encode()
        for signature in (SIGNATURES[0], other, SIGNATURES[0]):
            assert outcome(body, signature, templates) == outcome(body, signature, None)
    assert templates.match(body) is not None


def test_a_frame_with_a_deadline_is_remembered_and_one_with_a_key_is_not():
    entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
    for shared, name in ((True, "timeout"), (True, "priority"), (False, "driftgate_routing_key")):
        document = {"inputs": [entry], "parameters": {name: 5 if shared else "k"}}
        templates = Templates()
        body = json.dumps(document).encode()
        alone = HttpRequest(body, None, 100, templates).envelope
        assert (templates.match(body) is not None) is shared
        assert HttpRequest(body, None, 100, templates).envelope == alone


def test_the_memory_of_frames_is_bounded():
    templates = Templates()

    def body(name):
        entry = {"name": name, "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}
        return json.dumps({"inputs": [entry]}).encode()

    for index in range(TEMPLATES_MAX + 1):
        HttpRequest(body(f"x{index}"), None, 100, templates)
    assert templates.match(body("x0")) is None
    assert templates.match(body(f"x{TEMPLATES_MAX}")) is not None


def test_a_template_gives_the_elements_and_not_those_it_was_made_of():
    templates = Templates()
    for row in ([1.0, 2.0], [3.0, 4.0]):
        entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": row}
        request = HttpRequest(json.dumps({"inputs": [entry]}).encode(), None, 100, templates)
        (array,) = request.tensors(SIGNATURES[0], 8)
        assert np.array_equal(array, np.array([row], np.float32))


@pytest.mark.parametrize(
    "text",
    [
        '{"outputs":[{"q\\"data":[5.0,6.0],"name":"y"}],"inputs":[%s,"data":[1.0,2.0]}]}',
        '{"inputs":[%s,"data":[5.0,6.0],"data":[1.0,2.0]}]}',
        '{"inputs":[{"data":[5.0,6.0]}],"inputs":[%s,"data":[1.0,2.0]}]}',
    ],
)
def test_elements_are_never_taken_from_another_place(text):
    body = (text % '{"name":"x","shape":[1,2],"datatype":"FP32"').encode()
    templates = Templates()
    for _ in range(2):
        request = HttpRequest(body, None, 100, templates)
        request.wanted(SIGNATURES[0])
        (array,) = request.tensors(SIGNATURES[0], 8)
        assert np.array_equal(array, np.array([[1.0, 2.0]], np.float32))
