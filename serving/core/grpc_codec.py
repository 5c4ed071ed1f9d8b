"""Infer requests and replies as protobuf.

A reply is assembled from serialized fields: what the replies of one version
share is serialized once, and protobuf messages concatenate. Outputs are always
raw, as clients index them by position.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from protos import inference_pb2 as pb
from serving.core.admission import JSON_BYTES_FACTOR, MESSAGE_RAW_FACTOR, RAW_BYTES_FACTOR
from serving.core.binary_codec import check_text, decode_raw, encode_raw
from serving.core.body import Blob, mostly_tensors
from serving.core.datatypes import Array, Datatype
from serving.core.errors import InvalidRequest, shown
from serving.core.grpc_wire import split_raw
from serving.core.json_codec_reply import BatchOutputs
from serving.core.request import (
    PLAIN,
    Envelope,
    WantedOutput,
    read_envelope,
    refuse_extensions,
    wanted_outputs,
)
from serving.core.shared_memory import FindRegion, Place, no_region, read_place
from serving.core.signature import (
    Signature,
    check_tensor,
    find_input,
    missing_inputs,
    range_error,
)

_HEADS_MAX = 1024

_CONTENTS: Mapping[Datatype, str] = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}


class GrpcRequest:
    """A parsed message, not yet bound to a version's signature."""

    __slots__ = (
        "_raw_factor",
        "envelope",
        "head_bytes",
        "message",
        "model",
        "raw",
        "shared_bytes",
        "version",
    )

    def __init__(self, data: bytes, *, in_place: bool = True) -> None:
        """Parse. in_place: raw tensors become views of `data`, where that can be done.

        Raises: InvalidRequest.
        """
        split = split_raw(data) if in_place else None
        self.raw: Sequence[Blob]
        self.head_bytes = 0  # before raw tensors behind which there is nothing; 0: unknown
        if split is not None and mostly_tensors(len(data) - len(split[0]), len(data)):
            rest, self.raw = split
            # What stands behind a tensor begins with another tag than the tensor does.
            self.head_bytes = len(rest) if data.startswith(rest) else 0
            self.message = message = parse(pb.ModelInferRequest, rest)
            self._raw_factor = RAW_BYTES_FACTOR
        else:
            self.message = message = parse(pb.ModelInferRequest, data)
            self.raw = list(message.raw_input_contents)  # each look would copy again
            self._raw_factor = MESSAGE_RAW_FACTOR
        self.shared_bytes = 0
        self.model: str = message.model_name
        self.version: str = message.model_version
        if message.id or message.parameters:
            parameters = _plain(message.parameters)
            self.envelope = read_envelope(message.id, parameters, reserved_allowed=True)
        else:
            self.envelope = PLAIN

    def cost(self, message_bytes: int, body_bytes_max: int) -> int:
        """Memory that the message may take until it is answered, in bytes."""
        raw_bytes = sum(map(len, self.raw))
        return message_cost(message_bytes, raw_bytes, self._raw_factor, body_bytes_max)

    def wanted(
        self, signature: Signature, find: FindRegion = no_region
    ) -> tuple[WantedOutput, ...]:
        """Raises: InvalidRequest, Unsupported."""
        if not self.message.outputs:
            return ()
        # One more than there are has a name that is wrong, or there twice.
        asked = self.message.outputs[: len(signature.outputs) + 1]
        entries = [
            {"name": output.name, "parameters": _plain(output.parameters)} for output in asked
        ]
        return wanted_outputs(signature, entries, find)

    def tensors(
        self, signature: Signature, tensors_max: int, find: FindRegion = no_region
    ) -> list[Array]:
        """The inputs in the signature's order. Raises: InvalidRequest, Unsupported."""
        message = self.message
        if len(message.inputs) > tensors_max:
            raise InvalidRequest(
                f"a request has at most {tensors_max} inputs, got {len(message.inputs)} for model "
                f"'{signature.model}'"
            )
        places = [_place(tensor, find) for tensor in message.inputs]
        raw = iter(self.raw) if self.raw else None
        in_message = places.count(None)
        if self.raw and len(self.raw) != in_message:
            rest = " that is not in shared memory" if in_message < len(places) else ""
            raise InvalidRequest(
                f"expected {in_message} raw_input_contents for model '{signature.model}', one "
                f"per input{rest}, got {len(self.raw)}"
            )
        arrays: list[Array | None] = [None] * len(signature.inputs)
        for tensor, place in zip(message.inputs, places, strict=True):
            index = find_input(signature, tensor.name, arrays)
            data: Blob | None
            if place is not None:
                self.shared_bytes += place.size
                data = place.read()
            else:
                data = next(raw) if raw is not None else None
            arrays[index] = _tensor(signature, index, tensor, data)
        if len(message.inputs) != len(arrays):
            raise missing_inputs(signature, [tensor.name for tensor in message.inputs])
        return arrays  # type: ignore[return-value]  # every place is taken: names are unique


def _place(tensor: Any, find: FindRegion) -> Place | None:
    """Where in shared memory an input is; None for one in the message."""
    if not tensor.parameters:
        return None
    parameters, where = _plain(tensor.parameters), f"input '{shown(tensor.name)}'"
    refuse_extensions(parameters, where)
    return read_place(parameters, find, where)


def _tensor(signature: Signature, index: int, tensor: Any, raw: Blob | None) -> Array:
    spec = signature.inputs[index]
    shape = list(tensor.shape)
    count = check_tensor(signature, spec, tensor.datatype, shape)
    if raw is not None:
        if tensor.HasField("contents"):
            raise InvalidRequest(
                "contents field must not be specified when using raw_input_contents for "
                f"'{spec.name}' for model '{signature.model}'"
            )
        return decode_raw(signature, spec, raw, shape, count)
    return _typed(signature, index, tensor.contents, shape, count)


def _typed(
    signature: Signature, index: int, contents: Any, shape: Sequence[int], count: int
) -> Array:
    spec = signature.inputs[index]
    field = _CONTENTS.get(spec.datatype)
    if field is None:
        raise InvalidRequest(
            f"{spec.datatype.wire} data travels only in raw_input_contents, not so for input "
            f"'{spec.name}' for model '{signature.model}'"
        )
    values = getattr(contents, field)
    if len(values) != count:
        raise InvalidRequest(
            f"unexpected number of elements in '{field}' of input '{spec.name}' for model "
            f"'{signature.model}'. Expected {count}, got {len(values)}"
        )
    if spec.datatype is Datatype.BYTES:
        array = np.empty(count, dtype=object)
        array[:] = [check_text(signature, spec, text) for text in values]
        return array.reshape(shape)
    try:
        return np.array(values, dtype=spec.datatype.dtype).reshape(shape)
    except OverflowError:
        raise range_error(signature, spec, values) from None


def message_cost(message_bytes: int, raw_bytes: int, raw_factor: int, body_bytes_max: int) -> int:
    """Memory that a message may take until it is answered, in bytes.

    raw_bytes: of the tensors, each of which takes `raw_factor`. The rest may grow as
    JSON does: an element of one byte is eight as an int64, and an empty string sixteen.
    """
    rest = min(message_bytes - raw_bytes, body_bytes_max)
    return raw_bytes * raw_factor + rest * JSON_BYTES_FACTOR


def parse(message_type: Callable[[], Any], data: bytes) -> Any:
    """`data` as a message. Raises: InvalidRequest if it is none."""
    message = message_type()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise InvalidRequest("the message is not valid protobuf of this method") from error
    return message


def _plain(parameters: Any) -> dict[str, Any]:
    """Parameters as Python values. Raises: InvalidRequest for one without a value."""
    plain = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidRequest(f"parameter '{shown(name)}' has no value")
        plain[name] = getattr(parameter, choice)
    return plain


class GrpcReplies:
    """Encodes the replies of one version."""

    __slots__ = ("_digest", "_heads", "_signature")

    def __init__(self, signature: Signature, digest: str) -> None:
        self._signature, self._digest = signature, digest
        self._heads: dict[tuple[tuple[int, tuple[int, ...]], ...], bytes] = {}

    def encode(
        self,
        outputs: BatchOutputs,
        start: int,
        stop: int,
        envelope: Envelope,
        wanted: Sequence[WantedOutput],
        prediction_id: str,
    ) -> bytes:
        """A serialized ModelInferResponse."""
        rows = stop - start
        if wanted and any(want.place for want in wanted):
            return self._encode_shared(outputs, start, stop, envelope, wanted, prediction_id)
        chosen = [want.index for want in wanted] if wanted else range(len(outputs.arrays))
        head = None if wanted else outputs.heads.get(rows)
        if head is None:
            head = self._head(tuple((i, outputs.shape(i, rows)) for i in chosen))
            if not wanted:
                outputs.heads[rows] = head
        pieces = [head, *self._own(envelope, prediction_id)]
        for index in chosen:
            raw = outputs.raw(index, start, stop)
            pieces += (_raw_head(len(raw)), raw)
        return b"".join(pieces)

    def _own(self, envelope: Envelope, prediction_id: str) -> list[bytes]:
        """What only this reply has."""
        pieces: list[bytes] = []
        if prediction_id:
            pieces += (_PREDICTION_ID_HEAD, prediction_id.encode())
        if envelope.id or envelope.details:
            tail = pb.ModelInferResponse(id=envelope.id)
            if envelope.details:
                tail.parameters["model_digest"].string_param = self._digest
            pieces.append(tail.SerializeToString())
        return pieces

    def _encode_shared(
        self,
        outputs: BatchOutputs,
        start: int,
        stop: int,
        envelope: Envelope,
        wanted: Sequence[WantedOutput],
        prediction_id: str,
    ) -> bytes:
        """A reply of which outputs are in shared memory; in the message they are empty."""
        chosen = [(want.index, outputs.shape(want.index, stop - start)) for want in wanted]
        message = pb.ModelInferResponse.FromString(self._describe(chosen))
        for want, tensor in zip(wanted, message.outputs, strict=True):
            raw = encode_raw(outputs.slice(want.index, start, stop))
            if want.place is not None:
                want.place.write(raw, f"output '{tensor.name}'")
                for name, value in want.place.parameters(len(raw)).items():
                    if isinstance(value, str):
                        tensor.parameters[name].string_param = value
                    else:
                        tensor.parameters[name].int64_param = value
                raw = b""
            message.raw_output_contents.append(raw)
        return b"".join((message.SerializeToString(), *self._own(envelope, prediction_id)))

    def _head(self, chosen: tuple[tuple[int, tuple[int, ...]], ...]) -> bytes:
        head = self._heads.get(chosen)
        if head is None:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            head = self._heads[chosen] = self._describe(chosen)
        return head

    def _describe(self, chosen: Sequence[tuple[int, tuple[int, ...]]]) -> bytes:
        signature = self._signature
        message = pb.ModelInferResponse(model_name=signature.model, model_version=signature.version)
        for index, shape in chosen:
            spec = signature.outputs[index]
            message.outputs.add(name=spec.name, datatype=spec.datatype.wire, shape=shape)
        return message.SerializeToString()


def _prediction_id_head() -> bytes:
    """The bytes of the parameter up to its 36 characters of text."""
    text = "x" * 36
    message = pb.ModelInferResponse()
    message.parameters["prediction_id"].string_param = text
    return message.SerializeToString()[: -len(text)]


_PREDICTION_ID_HEAD = _prediction_id_head()


def stream_reply(reply: bytes) -> bytes:
    """A serialized ModelStreamInferResponse around a ModelInferResponse.

    Every request has one reply, so each says that it is the final one, as
    clients expect that wait for the last of several.
    """
    return b"".join((b"\x12", varint(len(reply) + len(_FINAL)), reply, _FINAL))


def stream_error(message: str, id: str) -> bytes:
    """A serialized ModelStreamInferResponse for a request that failed."""
    reply = pb.ModelInferResponse(id=id)
    return pb.ModelStreamInferResponse(
        error_message=message, infer_response=reply
    ).SerializeToString()


def _final() -> bytes:
    message = pb.ModelInferResponse()
    message.parameters["triton_final_response"].bool_param = True
    return message.SerializeToString()


_FINAL = _final()


@lru_cache(maxsize=1024)
def _raw_head(size: int) -> bytes:
    """What stands before an output of `size` bytes: field 6, bytes."""
    return b"\x32" + varint(size)


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
