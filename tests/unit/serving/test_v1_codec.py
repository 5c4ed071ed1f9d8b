"""V1 bodies: values without names, shapes or datatypes, read by the model's signature."""

import base64
import json

import numpy as np
import pytest

from serving.core.datatypes import Datatype
from serving.core.errors import InvalidRequest
from serving.core.json_codec_reply import BatchOutputs
from serving.core.signature import Signature, TensorSpec
from serving.core.v1_codec import V1Request, encode_reply

FP32 = Datatype.FP32


def signature(inputs, outputs=(("y", FP32, (-1, 2)),), max_batch_size=8):
    return Signature(
        "m",
        "1",
        tuple(TensorSpec(*spec) for spec in inputs),
        tuple(TensorSpec(*spec) for spec in outputs),
        max_batch_size,
    )


ONE = signature([("x", FP32, (-1, 2))])
TWO = signature([("a", FP32, (-1, 2)), ("b", Datatype.INT64, (-1,))])
TEXT = signature([("t", Datatype.BYTES, (-1, 2))])


def read(where, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    request = V1Request(body, 100)
    request.wanted(where)
    return request.tensors(where, 64)


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def test_instances_are_rows_of_the_one_input():
    (x,) = read(ONE, {"instances": [[1, 2.5], [3, 4], [5, 6]]})
    assert x.dtype == np.float32
    assert x.tolist() == [[1, 2.5], [3, 4], [5, 6]]


def test_instances_may_name_the_one_input():
    (x,) = read(ONE, {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]})
    assert x.tolist() == [[1, 2], [3, 4]]


def test_instances_of_several_inputs_are_objects_in_any_order():
    a, b = read(TWO, {"instances": [{"b": 7, "a": [1, 2]}, {"a": [3, 4], "b": 8}]})
    assert a.tolist() == [[1, 2], [3, 4]]
    assert b.tolist() == [7, 8]
    assert b.dtype == np.int64


def test_inputs_are_whole_tensors():
    a, b = read(TWO, {"inputs": {"a": [[1, 2], [3, 4]], "b": [7, 8]}})
    assert a.shape == (2, 2)
    assert b.tolist() == [7, 8]
    assert read(ONE, {"inputs": [[1, 2]]})[0].tolist() == [[1, 2]]


def test_a_scalar_input_comes_in_inputs():
    scalar = signature([("x", FP32, ())], max_batch_size=0)
    (x,) = read(scalar, {"inputs": 2.5})
    assert x.shape == ()
    assert x == np.float32(2.5)


@pytest.mark.parametrize(("document", "shape"), [([], (0, 2)), ([[]], None)])
def test_empty_lists_have_the_models_own_shape_below_them(document, shape):
    if shape is None:
        with pytest.raises(InvalidRequest, match=r"Expected \[-1,2\], got \[1,0\]"):
            read(ONE, {"instances": document})
    else:
        assert read(ONE, {"instances": document})[0].shape == shape


def test_strings_come_as_text_or_in_base64():
    (t,) = read(TEXT, {"instances": [["a", b64("é".encode())], ["", b64(b"")]]})
    assert t.tolist() == [[b"a", "é".encode()], [b"", b""]]
    flat = signature([("t", Datatype.BYTES, (-1,))])
    assert read(flat, {"instances": [b64(b"x"), "y"]})[0].tolist() == [b"x", b"y"]
    unpadded = {"b64": "YQ"}
    assert read(flat, {"instances": [unpadded]})[0].tolist() == [b"a"]


def test_nan_and_infinities_are_data():
    (x,) = read(ONE, b'{"instances": [[NaN, Infinity], [-Infinity, 0]]}')
    assert np.isnan(x[0, 0])
    assert x[0, 1] == np.inf
    assert x[1, 0] == -np.inf


REFUSED = [
    (ONE, {"instances": [[1, 2], [3]]}, r"input 'x'.*unevenly.*\[2,2\].*\[1\], got 1 elements"),
    (ONE, {"instances": [[1, 2], 3]}, r"input 'x'.*unevenly.*at \[1\], got '3'"),
    (ONE, {"instances": [[1, 2], [3, [4]]]}, r"element 3 of input 'x'.*FP32, got array"),
    (ONE, {"instances": [1, 2]}, r"Expected \[-1,2\], got \[2\]"),
    (ONE, {"instances": [[[1, 2]]]}, r"Expected \[-1,2\], got \[1,1,2\]"),
    (ONE, {"instances": [[1, 2, 3]]}, r"Expected \[-1,2\], got \[1,3\]"),
    (ONE, {"instances": [[1, True]]}, r"element 1 of input 'x'.*must be FP32, got boolean"),
    (ONE, {"instances": [[1, None]]}, r"must be FP32, got null"),
    (ONE, {"instances": [[1, "2"]]}, r"must be FP32, got string"),
    (ONE, {"instances": [[1, 1e39]]}, r"out of the range of FP32"),
    (ONE, {"instances": [[1, 2], {"x": [1, 2]}]}, r"unevenly.*at \[1\]"),
    (ONE, {"instances": [{"x": [1, 2]}, [1, 2]]}, r"instance 1 .* same inputs as instance 0"),
    (ONE, {"instances": {"x": [1, 2]}}, r"'instances' must be an array"),
    (ONE, {"instances": 3}, r"'instances' must be an array, got '3'"),
    (ONE, {"instances": [{"q": [1, 2]}]}, r"unexpected inference input 'q'"),
    (ONE, {"instances": [{"x": [1, 2], "q": 1}]}, r"unexpected inference input 'q'"),
    (ONE, {}, r"either 'instances' .* or 'inputs' .*, got neither"),
    (ONE, {"instances": [], "inputs": []}, r"got both"),
    (ONE, [1], r"must be a JSON object"),
    (ONE, {"instances": [], "signature_name": "other"}, r"'signature_name'.*got 'other'"),
    (ONE, b"{", r"failed to parse"),
    (TWO, {"instances": [[1, 2]]}, r"has 2 inputs, so every instance must be an object"),
    (TWO, {"instances": []}, r"has 2 inputs, so every instance must be an object"),
    (TWO, {"inputs": [1]}, r"has 2 inputs, so 'inputs' must be an object"),
    (TWO, {"instances": [{"a": [1, 2]}]}, r"missing required input\(s\) \['b'\]"),
    (
        TWO,
        {"instances": [{"a": [1, 2], "b": 1}, {"a": [1, 2], "c": 1}]},
        r"instance 1 .*Expected \['a', 'b'\], got \['a', 'c'\]",
    ),
    (TWO, {"instances": [{"a": [1, 2], "b": 1.0}]}, r"element 0 of input 'b'.*INT64, got number"),
    (TWO, {"instances": [{"a": [1, 2], "b": 2**63}]}, r"out of the range of INT64"),
    (TEXT, {"instances": [["a", {"b64": "%"}]]}, r"'b64' of input 't'.*not base64, got '%'"),
    (TEXT, {"instances": [["a", b64(b"\xff")]]}, r"a string of input 't'.*not UTF-8"),
    (TEXT, {"instances": [["a", {"b64": "", "c": 1}]]}, r"must be BYTES, got object"),
]


@pytest.mark.parametrize(("where", "document", "message"), REFUSED)
def test_what_does_not_fit_is_refused_with_its_place(where, document, message):
    with pytest.raises(InvalidRequest, match=message):
        read(where, document)


def test_more_inputs_than_a_request_may_have_are_refused_before_they_are_turned():
    request = V1Request(json.dumps({"instances": [dict.fromkeys("abc", 1)]}).encode(), 100)
    with pytest.raises(InvalidRequest, match="at most 2 inputs, got 3"):
        request.tensors(TWO, 2)


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.BF16])
def test_datatypes_that_json_cannot_carry_point_to_v2(datatype):
    takes = signature([("x", datatype, (-1,))])
    with pytest.raises(InvalidRequest, match=r"input 'x'.*/v2/models/m/infer"):
        read(takes, {"instances": [1]})
    gives = signature([("x", FP32, (-1,))], [("y", datatype, (-1,))])
    with pytest.raises(InvalidRequest, match=r"output 'y'.*/v2/models/m/infer"):
        read(gives, {"instances": [1]})


def reply(outputs, arrays, start, stop, *, by_row=True, max_batch_size=8):
    where = signature([("x", FP32, (-1,))], outputs, max_batch_size)
    return encode_reply(BatchOutputs(where, arrays), start, stop, by_row=by_row)


def test_one_output_is_plain_values():
    y = np.arange(8, dtype=np.float32).reshape(4, 2) / 10
    one = [("y", FP32, (-1, 2))]
    assert reply(one, [y], 1, 3) == b'{"predictions":[[0.2,0.3],[0.4,0.5]]}'
    assert reply(one, [y], 1, 3, by_row=False) == b'{"outputs":[[0.2,0.3],[0.4,0.5]]}'
    assert reply(one, [y], 0, 0) == b'{"predictions":[]}'


def test_several_outputs_are_objects_by_name():
    arrays = [np.array([1, 2], np.int64), np.array([[True], [False]])]
    two = [("label", Datatype.INT64, (-1,)), ("ok", Datatype.BOOL, (-1, 1))]
    assert json.loads(reply(two, arrays, 0, 2)) == {
        "predictions": [{"label": 1, "ok": [True]}, {"label": 2, "ok": [False]}]
    }
    assert json.loads(reply(two, arrays, 0, 2, by_row=False)) == {
        "outputs": {"label": [1, 2], "ok": [[True], [False]]}
    }


def test_nan_and_infinities_keep_their_places():
    y = np.array([[np.nan, 1], [np.inf, -np.inf]], np.float32)
    assert reply([("y", FP32, (-1, 2))], [y], 0, 2) == (
        b'{"predictions":[[NaN,1.0],[Infinity,-Infinity]]}'
    )
    arrays = [np.array([np.nan, 1], np.float32), np.array([-np.inf, np.nan])]
    two = [("null", FP32, (-1,)), ("z", Datatype.FP64, (-1,))]
    assert reply(two, arrays, 0, 2) == (
        b'{"predictions":[{"null":NaN,"z":-Infinity},{"null":1.0,"z":NaN}]}'
    )


def test_strings_are_text_and_base64_where_the_name_says_bytes():
    words = np.array([[b"a", "é".encode()], [b"", b"c"]], dtype=object)
    text, data = ("t", Datatype.BYTES, (-1, 2)), ("image_bytes", Datatype.BYTES, (-1, 2))
    assert json.loads(reply([text], [words], 0, 2)) == {"predictions": [["a", "é"], ["", "c"]]}
    assert json.loads(reply([data], [words], 1, 2)) == {"predictions": [[b64(b""), b64(b"c")]]}


def test_a_scalar_output_fits_only_whole_tensors():
    loss = [("loss", FP32, ())]
    array = np.array(0.5, np.float32)
    assert reply(loss, [array], 0, 1, by_row=False, max_batch_size=0) == b'{"outputs":0.5}'
    with pytest.raises(InvalidRequest, match=r"'loss' \[\].*'inputs' instead of 'instances'"):
        reply(loss, [array], 0, 1, max_batch_size=0)
    word = np.array(b"w", dtype=object)
    text = [("t", Datatype.BYTES, ())]
    assert reply(text, [word], 0, 1, by_row=False, max_batch_size=0) == b'{"outputs":"w"}'


def test_outputs_of_different_lengths_fit_only_whole_tensors():
    two = [("a", FP32, (2,)), ("b", FP32, (3,))]
    arrays = [np.zeros(2, np.float32), np.zeros(3, np.float32)]
    with pytest.raises(InvalidRequest, match="do not share a first dimension: 'a' \\[2\\]"):
        reply(two, arrays, 0, 1, max_batch_size=0)
    assert json.loads(reply(two, arrays, 0, 1, by_row=False, max_batch_size=0)) == {
        "outputs": {"a": [0, 0], "b": [0, 0, 0]}
    }


def test_empty_dimensions_inside_of_rows_are_empty_lists():
    y = np.zeros((2, 0, 3), np.float32)
    assert reply([("y", FP32, (-1, -1, 3))], [y], 0, 2) == b'{"predictions":[[],[]]}'
