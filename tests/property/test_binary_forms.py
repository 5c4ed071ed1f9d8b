"""Forms of binary bodies save parsing and change nothing: not an array, not a message."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.core.binary_forms import FORMS_MAX, BinaryForms
from serving.core.datatypes import Datatype
from serving.core.errors import ServeError
from serving.core.request_http import HttpRequest
from serving.core.signature import Signature, TensorSpec


def signature_of(*inputs):
    specs = tuple(TensorSpec(name, datatype, (-1, 2)) for name, datatype in inputs)
    return Signature("m", "1", specs, (TensorSpec("y", Datatype.FP32, (-1,)),), 8)


SIGNATURES = [
    *(signature_of(("x", datatype)) for datatype in (Datatype.FP32, Datatype.INT16)),
    signature_of(("x", Datatype.BOOL)),
    signature_of(("x", Datatype.BYTES)),
    signature_of(("x", Datatype.FP32), ("y", Datatype.INT16)),
    signature_of(("y", Datatype.INT16), ("x", Datatype.FP32)),
]
ITEM_BYTES = {"FP32": 4, "INT16": 2, "BOOL": 1, "BYTES": 5, "?": 1}


@st.composite
def entries(draw):
    datatype = draw(st.sampled_from(["FP32", "FP32", "INT16", "INT16", "BOOL", "BYTES", "?"]))
    shape = draw(st.sampled_from([[1, 2], [1, 2], [2, 2], [0, 2], [1, 3], "x"]))
    size = ITEM_BYTES[datatype] * (int(np.prod(shape)) if shape != "x" else 2)
    parameters = {"binary_data_size": draw(st.sampled_from([size, size, size, 3, -1, "4"]))}
    if draw(st.integers(0, 9)) == 0:
        parameters["shared_memory_region"] = "r"
    name = draw(st.sampled_from(["x", "x", "y", "no"]))
    entry = {"name": name, "shape": shape, "datatype": datatype, "parameters": parameters}
    if draw(st.integers(0, 9)) == 0:
        entry["data"] = draw(st.sampled_from([None, [1.0, 2.0]]))
    return entry


@st.composite
def bodies(draw):
    """JSON text, and the bytes that it says stand behind it."""
    document = {"inputs": draw(st.lists(entries(), min_size=1, max_size=2))}
    if draw(st.booleans()):
        document["outputs"] = draw(
            st.sampled_from(
                [
                    [{"name": "y", "parameters": {"binary_data": True}}],
                    [{"name": "y", "parameters": {"shared_memory_region": "r"}}],
                    [{"name": "y"}, {"name": "y"}],
                    [{"name": "no"}],
                    [],
                    [1],
                    None,
                ]
            )
        )
    if draw(st.booleans()):
        document["parameters"] = draw(
            st.sampled_from([{"binary_data_output": True}, {"sequence_id": 3}, {"timeout": -1}])
        )
    if draw(st.integers(0, 5)) == 0:
        document["id"] = "1"
    sizes = [entry["parameters"]["binary_data_size"] for entry in document["inputs"]]
    total = sum(size for size in sizes if isinstance(size, int) and size > 0)
    return json.dumps(document).encode(), draw(st.binary(min_size=total, max_size=total))


def outcome(text, blob, signature, forms):
    """What a request comes to, in a form that can be compared."""
    body = memoryview(text + blob)
    try:
        request = HttpRequest(body, str(len(text)), 100, None, forms)
        wanted = request.wanted(signature)
        arrays = request.tensors(signature, 8)
    except ServeError as error:
        return type(error), error.message
    shown = [(a.dtype, a.shape, a.tolist() if a.dtype == object else a.tobytes()) for a in arrays]
    return request.envelope, wanted, shown


@given(
    st.lists(bodies(), min_size=1, max_size=3),
    st.lists(st.sampled_from(SIGNATURES), min_size=1, max_size=3),
    st.integers(0, 255),
)
def test_whatever_came_before_a_body_means_what_it_means_alone(drawn, signatures, other):
    forms = BinaryForms()
    for signature in signatures * 2:
        for text, blob in drawn:
            changed = bytes(byte ^ other for byte in blob)
            for behind in (blob, changed, blob[:-1], blob + b"\0"):
                alone = outcome(text, behind, signature, None)
                assert outcome(text, behind, signature, forms) == alone


def plain(name="x"):
    parameters = {"binary_data_size": 8}
    entry = {"name": name, "shape": [1, 2], "datatype": "FP32", "parameters": parameters}
    return json.dumps({"inputs": [entry]}).encode()


def test_a_known_form_is_not_bound_again_and_its_tensors_are_views():
    forms, signature = BinaryForms(), SIGNATURES[0]
    outcome(plain(), bytes(8), signature, forms)
    form = forms.match(plain())
    assert form is not None
    bound = form.bound
    assert bound is not None
    body = memoryview(plain() + np.float32([3.0, 4.0]).tobytes())
    request = HttpRequest(body, str(len(plain())), 100, None, forms)
    request.wanted(signature)
    (array,) = request.tensors(signature, 8)
    assert array.tolist() == [[3.0, 4.0]]
    assert form.bound is bound
    assert not array.flags.owndata


def test_the_memory_of_forms_is_bounded_and_keeps_nothing_that_names_its_request():
    forms = BinaryForms()
    for index in range(FORMS_MAX + 1):
        outcome(plain(f"x{index}"), bytes(8), SIGNATURES[0], forms)
    assert forms.match(plain("x0")) is None
    assert forms.match(plain(f"x{FORMS_MAX}")) is not None
    named = json.dumps({**json.loads(plain()), "id": "7"}).encode()
    outcome(named, bytes(8), SIGNATURES[0], forms)
    assert forms.match(named) is None
