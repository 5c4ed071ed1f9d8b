"""The V1 protocol of KServe and TensorFlow Serving: JSON values in, JSON values out.

A body has rows (`instances`, answered with `predictions`) or whole tensors
(`inputs`, answered with `outputs`). Neither names a shape or a datatype: the
shape is that of the nesting, the datatype is the model's. Laws:
- element types are as exact as in V2: `decode_elements` decides for both;
- lists that are nested unevenly are refused, whatever they add up to;
- one output is a plain value, several are objects by name.

Source: TensorFlow Serving, "RESTful API"; KServe, "V1 Inference Protocol".
"""

import binascii
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import orjson

from serving.core.datatypes import Array, Datatype
from serving.core.errors import InvalidRequest, shown
from serving.core.json_codec import decode_elements, name_non_finite, parse_json
from serving.core.json_codec_reply import BatchOutputs
from serving.core.request import PLAIN, WantedOutput
from serving.core.shared_memory import FindRegion, no_region
from serving.core.signature import (
    Signature,
    TensorSpec,
    check_tensor,
    find_input,
    missing_inputs,
    show_shape,
)

SIGNATURE_NAME = "serving_default"  # what clients name that must name one; a graph has no other
BASE64_SUFFIX = "_bytes"  # BYTES outputs whose names end so are sent in base64
_MISSING = object()


class V1Request:
    """A parsed body, not yet bound to a version's signature."""

    __slots__ = ("_data", "by_row")
    envelope = PLAIN
    shared_bytes = 0

    def __init__(self, body: bytes, depth_max: int) -> None:
        """Parse. Raises: InvalidRequest."""
        document = parse_json(body, depth_max)
        if type(document) is not dict:
            raise InvalidRequest(f"the request must be a JSON object, got '{shown(document)}'")
        self.by_row = "instances" in document
        if self.by_row == ("inputs" in document):
            raise InvalidRequest(
                "a request must have either 'instances' (rows) or 'inputs' (tensors), got "
                + ("both" if self.by_row else "neither")
            )
        name = document.get("signature_name")
        if name not in (None, "", SIGNATURE_NAME):
            raise InvalidRequest(
                f"'signature_name' must be '{SIGNATURE_NAME}' or absent, got '{shown(name)}'"
            )
        self._data = document["instances" if self.by_row else "inputs"]
        if self.by_row and type(self._data) is not list:
            raise InvalidRequest(f"'instances' must be an array, got '{shown(self._data)}'")

    def wanted(self, signature: Signature, _: FindRegion = no_region) -> tuple[WantedOutput, ...]:
        """All of them. Raises: InvalidRequest for a model whose outputs V1 cannot carry."""
        if not signature.json_everywhere:
            spec = next(spec for spec in signature.outputs if not spec.datatype.in_json)
            raise _not_in_v1(signature, spec, "output")
        return ()

    def tensors(
        self, signature: Signature, tensors_max: int, _: FindRegion = no_region
    ) -> list[Array]:
        """The inputs in the signature's order. Raises: InvalidRequest."""
        arrays: list[Array | None] = [None] * len(signature.inputs)
        named = self._columns(signature, tensors_max)
        for name, data in named.items():
            index = find_input(signature, name, arrays)
            arrays[index] = _tensor(signature, signature.inputs[index], data)
        if len(named) != len(arrays):
            raise missing_inputs(signature, list(named))
        return arrays  # type: ignore[return-value]  # every place is taken: names are unique

    def _columns(self, signature: Signature, tensors_max: int) -> Mapping[str, Any]:
        """What is given for each input, by name. Raises: InvalidRequest."""
        data = self._data
        if not self.by_row:
            if _is_named(data):
                return _bounded(signature, data, tensors_max)
        elif data and _is_named(data[0]):
            return _turned(signature, data, tensors_max)
        if len(signature.inputs) != 1:
            raise InvalidRequest(
                f"model '{signature.model}' has {len(signature.inputs)} inputs, so "
                + ("every instance" if self.by_row else "'inputs'")
                + " must be an object of values by input name, got "
                + f"'{shown(data[0] if self.by_row and data else data)}'"
            )
        return {signature.inputs[0].name: data}


def _is_named(value: object) -> bool:
    """Whether a value is one of several by name: an object, and not a string in base64."""
    return type(value) is dict and not _is_base64(value)


def _is_base64(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and type(value.get("b64")) is str


def _bounded(signature: Signature, named: Mapping[str, Any], tensors_max: int) -> Mapping[str, Any]:
    if len(named) > tensors_max:
        raise InvalidRequest(
            f"a request has at most {tensors_max} inputs, got {len(named)} for model "
            f"'{signature.model}'"
        )
    return named


def _turned(
    signature: Signature, instances: Sequence[Any], tensors_max: int
) -> Mapping[str, list[Any]]:
    """Rows of named values as named columns of values."""
    names = _bounded(signature, instances[0], tensors_max)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row, instance in enumerate(instances):
        if type(instance) is not dict or len(instance) != len(columns):
            raise _unlike(signature, row, instance, names)
        for name, column in columns.items():
            value = instance.get(name, _MISSING)
            if value is _MISSING:
                raise _unlike(signature, row, instance, names)
            column.append(value)
    return columns


def _unlike(
    signature: Signature, row: int, instance: object, names: Mapping[str, Any]
) -> InvalidRequest:
    got = list(instance) if isinstance(instance, dict) else instance
    return InvalidRequest(
        f"instance {row} for model '{signature.model}' must name the same inputs as instance 0. "
        f"Expected {shown(list(names))}, got {shown(got)}"
    )


def _tensor(signature: Signature, spec: TensorSpec, data: object) -> Array:
    if not spec.datatype.in_json:
        raise _not_in_v1(signature, spec, "input")
    shape = _shape_of(spec, data)
    count = check_tensor(signature, spec, spec.datatype.wire, shape)
    elements = _flatten(signature, spec, data, shape) if shape else [data]
    if spec.datatype is Datatype.BYTES and dict in set(map(type, elements)):
        elements = [_text(signature, spec, element) for element in elements]
    return decode_elements(signature, spec, elements, shape, count)


def _shape_of(spec: TensorSpec, data: object) -> list[int]:
    """The shape that the first elements have; an empty list ends it, the model's then goes on."""
    shape = []
    while type(data) is list:
        shape.append(len(data))
        if not data:
            shape += [max(dim, 0) for dim in spec.shape[len(shape) :]]
            break
        data = data[0]
    return shape


def _flatten(signature: Signature, spec: TensorSpec, data: Any, shape: Sequence[int]) -> list[Any]:
    """Row-major elements of lists that are nested exactly as `shape` says.

    Raises: InvalidRequest naming the place of the first one that is not.
    """
    for axis, size in enumerate(shape[1:], start=1):
        for index, item in enumerate(data):
            if type(item) is not list or len(item) != size:
                got = f"{len(item)} elements" if type(item) is list else f"'{shown(item)}'"
                at = "".join(f"[{i}]" for i in np.unravel_index(index, tuple(shape[:axis])))
                raise InvalidRequest(
                    f"the values for input '{spec.name}' for model '{signature.model}' are nested "
                    f"unevenly. Expected {show_shape(shape)}, so a list of {size} elements at "
                    f"{at}, got {got}"
                )
        data = list(chain.from_iterable(data))
    return data  # type: ignore[no-any-return]


def _text(signature: Signature, spec: TensorSpec, element: object) -> object:
    """A string in base64 as the string; anything else as it is."""
    if not (type(element) is dict and _is_base64(element)):
        return element
    encoded = element["b64"]
    try:
        data = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"a string of input '{spec.name}' for model '{signature.model}' is not UTF-8"
        ) from error
    except ValueError as error:
        raise InvalidRequest(
            f"a 'b64' of input '{spec.name}' for model '{signature.model}' is not base64, got "
            f"'{shown(encoded)}'"
        ) from error


def _not_in_v1(signature: Signature, spec: TensorSpec, what: str) -> InvalidRequest:
    return InvalidRequest(
        f"{what} '{spec.name}' of model '{signature.model}' is {spec.datatype.wire}, which JSON "
        f"cannot carry. Please use the binary form of /v2/models/{signature.model}/infer"
    )


def encode_reply(outputs: BatchOutputs, start: int, stop: int, *, by_row: bool) -> bytes:
    """The body for the rows of one request.

    Raises: InvalidRequest if rows are asked for and an output has none.
    """
    specs = outputs.signature.outputs
    arrays = [outputs.slice(index, start, stop) for index in range(len(specs))]
    if not by_row:
        return b'{"outputs":%b}' % _together(specs, list(map(_value, specs, arrays)))
    if len(specs) == 1 and arrays[0].ndim:
        return b'{"predictions":%b}' % _value(specs[0], arrays[0])
    rows = _common_rows(specs, arrays)
    objects = (
        _together(specs, [_value(*x) for x in zip(specs, (a[row] for a in arrays), strict=True)])
        for row in range(rows)
    )
    return b'{"predictions":[%b]}' % b",".join(objects)


def _common_rows(specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> int:
    rows = {array.shape[0] if array.ndim else -1 for array in arrays}
    if len(rows) != 1 or -1 in rows:
        shapes = ", ".join(
            f"'{spec.name}' {show_shape(array.shape)}"
            for spec, array in islice(zip(specs, arrays, strict=True), 8)
        )
        raise InvalidRequest(
            f"the outputs of this model do not share a first dimension: {shapes}. Please send "
            "'inputs' instead of 'instances'"
        )
    return rows.pop()


def _together(specs: Sequence[TensorSpec], values: Sequence[bytes]) -> bytes:
    if len(specs) == 1:
        return values[0]
    names = (orjson.dumps(spec.name) for spec in specs)
    return b"{%b}" % b",".join(b"%b:%b" % pair for pair in zip(names, values, strict=True))


def _value(spec: TensorSpec, array: Any) -> bytes:
    """An array, or one element of it, as nested JSON."""
    if spec.datatype is Datatype.BYTES:
        return orjson.dumps(_strings(spec, array))
    whole = np.asarray(array)
    text = orjson.dumps(
        whole.reshape(-1) if not whole.ndim else whole, option=orjson.OPT_SERIALIZE_NUMPY
    )
    if b"null" in text:
        text = name_non_finite(text, whole)
    return text if whole.ndim else text[1:-1]


def _strings(spec: TensorSpec, value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if not value.ndim:
            return _strings(spec, value[()])
        return [_strings(spec, item) for item in value]
    data = value if isinstance(value, bytes) else str(value).encode()
    if spec.name.endswith(BASE64_SUFFIX):
        return {"b64": binascii.b2a_base64(data, newline=False).decode()}
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"output '{spec.name}' is not UTF-8. Please use the binary data format for it"
        ) from error
