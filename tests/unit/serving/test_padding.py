"""Padding of one version: what it accepts, and what it makes of requests."""

import numpy as np
import pytest

from serving.core.batch import Batch, Member
from serving.core.datatypes import Datatype
from serving.core.errors import InvalidRequest, ModelFailed
from serving.core.padding import Padder, PaddingSettings
from serving.core.signature import Signature, TensorSpec

IDS = TensorSpec("ids", Datatype.INT64, (-1, -1))
MASK = TensorSpec("mask", Datatype.FP32, (-1, -1))
TAGS = TensorSpec("tags", Datatype.FP32, (-1, -1, 3))
LABEL = TensorSpec("label", Datatype.FP32, (-1, 2))
AXES = [["rows", "n"], ["rows", "n"]]
OUT_AXES = [["rows", "n", ""], ["rows", ""]]


def signature(inputs=(IDS, MASK), outputs=(TAGS, LABEL), rows_max=8):
    return Signature("m", "1", inputs, outputs, rows_max)


def padder(settings=PaddingSettings("n"), outputs=OUT_AXES, **fields):  # noqa: B008 - frozen
    return Padder(signature(**fields), settings, AXES, outputs)


def request(length, rows=1, start=1):
    ids = np.arange(start, start + rows * length, dtype=np.int64).reshape(rows, length)
    return [ids, np.ones((rows, length), np.float32)]


def test_shorter_requests_are_padded_to_the_longest():
    settings = PaddingSettings("n", "mask", {"ids": "-7"})
    ids, mask = padder(settings).gather([request(2), request(4, rows=2)])
    assert ids.tolist() == [[1, 2, -7, -7], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_lengths_that_are_given_are_padded_to_also_alone():
    ours = padder(PaddingSettings("n", lengths=(4, 8)))
    assert [ours.padded_length(n) for n in (0, 1, 4, 5, 8, 9)] == [0, 4, 4, 8, 8, 9]
    assert ours.gather([request(3)])[0].tolist() == [[1, 2, 3, 0]]
    assert ours.gather([request(4)]) is None  # as it came
    assert ours.key("g", request(3)) == ours.key("g", request(4))
    assert ours.key("g", request(3)).length == 4


def test_one_request_that_needs_nothing_is_left_as_it_is():
    assert padder().gather([request(3)]) is None


def test_requests_without_a_position_are_never_padded():
    ours = padder()
    assert ours.key("g", request(0)).family != ours.key("g", request(3)).family


def test_other_open_dimensions_must_agree():
    wide = TensorSpec("ids", Datatype.INT64, (-1, -1, -1))
    ours = Padder(
        signature((wide, MASK)),
        PaddingSettings("n"),
        [["rows", "n", "w"], ["rows", "n"]],
        OUT_AXES,
    )
    keys = [
        ours.key("g", [np.zeros((1, n, w), np.int64), np.zeros((1, n), np.float32)])
        for n, w in ((3, 2), (4, 2), (3, 5))
    ]
    assert keys[0].family == keys[1].family
    assert keys[0].family != keys[2].family


def test_outputs_and_inputs_come_back_in_the_shape_of_the_request():
    ours = padder()
    requests = [request(2), request(4, rows=2), request(4)]
    batch = Batch([Member(None, len(arrays[0])) for arrays in requests])
    inputs = ours.gather(requests)
    tags = np.repeat(inputs[0][:, :, None], 3, axis=2).astype(np.float32)
    label = inputs[0][:, :2].astype(np.float32)
    parts = ours.parts(batch, requests, inputs, [tags, label])
    assert [(part.first, part.rows, list(part.starts)) for part in parts] == [
        (0, 1, [0]),
        (1, 3, [0, 2]),
    ]
    assert [part.outputs[0].shape for part in parts] == [(1, 2, 3), (3, 4, 3)]
    assert parts[0].inputs[0].tolist() == requests[0][0].tolist()
    assert parts[1].inputs[0].tolist() == [*requests[1][0].tolist(), *requests[2][0].tolist()]
    assert parts[0].outputs[1].tolist() == [[1.0, 2.0]]
    assert all(array.flags.c_contiguous for part in parts for array in part.outputs)


def test_an_axis_that_stands_twice_is_padded_and_cut_in_both_places():
    square = TensorSpec("s", Datatype.BOOL, (-1, -1, -1))
    own = Signature("m", "1", (square,), (TensorSpec("o", Datatype.BOOL, (-1, -1, -1)),), 8)
    ours = Padder(own, PaddingSettings("n"), [["rows", "n", "n"]], [["rows", "n", "n"]])
    requests = [[np.ones((1, n, n), np.bool_)] for n in (2, 3)]
    inputs = ours.gather(requests)
    assert inputs[0][0].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    batch = Batch([Member(None, 1), Member(None, 1)])
    parts = ours.parts(batch, requests, inputs, inputs)
    assert [part.outputs[0].shape for part in parts] == [(1, 2, 2), (1, 3, 3)]


def test_inputs_of_different_lengths_in_one_request_are_refused():
    ids, _ = request(3)
    with pytest.raises(InvalidRequest, match="'mask' has 4 in dimension 1, 'ids' has 3"):
        padder().check([ids, np.ones((1, 4), np.float32)])


def test_an_output_that_does_not_follow_its_input_fails_the_run():
    outputs = [np.zeros((1, 2, 3), np.float32), np.zeros((1, 2), np.float32)]
    with pytest.raises(ModelFailed, match=r"'tags' .* for inputs of 3 along 'n'"):
        padder().check_outputs(request(3), outputs)


@pytest.mark.parametrize(
    ("settings", "fields", "words"),
    [
        (PaddingSettings("m"), {}, r"'m' is no dimension of any input; they have \['n'\]"),
        (PaddingSettings("rows"), {}, "is the batch dimension"),
        (PaddingSettings("n"), {"rows_max": 0}, "one request at a time"),
        (PaddingSettings("n", "label"), {}, "pad_mask names 'label', which is no input"),
        (PaddingSettings("n", values={"x": "1"}), {}, "pad_values names 'x'"),
        (PaddingSettings("n", values={"ids": "1.5"}), {}, "'1.5' is no INT64"),
        (PaddingSettings("n", values={"ids": str(2**63)}), {}, "is no INT64"),
        (
            PaddingSettings("n"),
            {"outputs": [["rows", "Add_dim", ""], ["rows", ""]]},
            "dimension 1 of output 'tags' follows pad_axis 'n' cannot be known.*'Add_dim'",
        ),
        (
            PaddingSettings("n"),
            {"outputs": [["rows", "", ""], ["rows", ""]]},
            "cannot be known",
        ),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused_with_the_reason(settings, fields, words):
    with pytest.raises(ValueError, match=words):
        padder(settings, **fields)


@pytest.mark.parametrize(
    ("datatype", "text", "value"),
    [
        (Datatype.FP32, "-inf", -np.inf),
        (Datatype.FP16, "0.5", 0.5),
        (Datatype.BOOL, "1", True),
        (Datatype.UINT8, "255", 255),
        (Datatype.BF16, "1.0", 0x3F80),
        (Datatype.BYTES, "<pad>", b"<pad>"),
        (Datatype.BYTES, "", b""),
        (Datatype.INT64, "", 0),
    ],
)
def test_every_datatype_has_its_padding(datatype, text, value):
    spec = TensorSpec("x", datatype, (-1, -1))
    own = Signature("m", "1", (spec,), (LABEL,), 8)
    settings = PaddingSettings("n", values={"x": text} if text else {})
    ours = Padder(own, settings, [["rows", "n"]], [["rows", ""]])
    (array,) = ours.gather([[np.zeros((1, n), datatype.dtype)] for n in (1, 2)])
    assert array.dtype == datatype.dtype
    assert array[0, 1] == value


def test_settings_survive_their_document():
    settings = PaddingSettings("n", "mask", {"ids": "1"}, (4, 8))
    document = {"padding": {"axis": "n", "mask": "mask", "values": {"ids": "1"}, "lengths": [4, 8]}}
    assert PaddingSettings.from_settings(document) == settings
    assert PaddingSettings.from_settings({}) is None
    assert settings.parameters() == {
        "pad_axis": "n",
        "pad_mask": "mask",
        "pad_values": "ids=1",
        "pad_lengths": "4, 8",
    }
    with pytest.raises(ValueError, match="do not rise"):
        PaddingSettings.from_settings({"padding": {**document["padding"], "lengths": [8, 4]}})
