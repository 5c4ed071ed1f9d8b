"""What a V1 reply says, a V1 request can send: values survive in both forms."""

import numpy as np
from hypothesis import given

from serving.core.json_codec_reply import BatchOutputs
from serving.core.signature import Signature, TensorSpec
from serving.core.v1_codec import V1Request, encode_reply
from tests.property.test_wire_codecs import IN_JSON, equal, tensors

BATCHES = tensors(IN_JSON).filter(lambda drawn: drawn[1].ndim > 0)


def open_shape(array):
    return (-1, *array.shape[1:])


@given(BATCHES)
def test_one_tensor_survives_reply_and_request(drawn):
    datatype, array = drawn
    for name in ("x", "x_bytes"):
        spec = TensorSpec(name, datatype, open_shape(array))
        signature = Signature("m", "1", (spec,), (spec,), 8)
        outputs = BatchOutputs(signature, [array])
        for by_row in (True, False):
            reply = encode_reply(outputs, 0, len(array), by_row=by_row)
            sent = reply.replace(b'{"predictions":', b'{"instances":', 1)
            sent = sent.replace(b'{"outputs":', b'{"inputs":', 1)
            (back,) = V1Request(sent, 100).tensors(signature, 64)
            assert equal(back, array)


@given(BATCHES, BATCHES)
def test_two_tensors_survive_as_objects(first, second):
    rows = min(len(first[1]), len(second[1])) or 1
    drawn = [
        (datatype, np.resize(array, (rows, *array.shape[1:])))
        for datatype, array in (first, second)
        if array.size
    ]
    if len(drawn) < 2:
        return
    specs = tuple(
        TensorSpec(name, datatype, open_shape(array))
        for name, (datatype, array) in zip(("null", "b"), drawn, strict=True)
    )
    signature = Signature("m", "1", specs, specs, 64)
    outputs = BatchOutputs(signature, [np.ascontiguousarray(array) for _, array in drawn])
    for by_row in (True, False):
        reply = encode_reply(outputs, 0, rows, by_row=by_row)
        sent = reply.replace(b'{"predictions":', b'{"instances":', 1)
        sent = sent.replace(b'{"outputs":', b'{"inputs":', 1)
        back = V1Request(sent, 100).tensors(signature, 64)
        for got, (datatype, array) in zip(back, drawn, strict=True):
            assert equal(got, array), (datatype, got, array)
