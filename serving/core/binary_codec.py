"""Tensors as bytes: little-endian, row-major; BYTES with a uint32 length each.

Also the binary-tensor extension's layout of an HTTP body: a JSON prefix, then
the blobs of its inputs in order.
"""

from collections.abc import Sequence
from struct import pack, unpack_from

import numpy as np

from serving.core.body import Blob, mostly_tensors
from serving.core.datatypes import Array, Datatype
from serving.core.errors import InvalidRequest, shown
from serving.core.request_head import is_count
from serving.core.signature import Signature, TensorSpec

SMALL_BYTES = 4096  # below, a pass that makes a copy takes no longer than one that makes none


def split_body(body: Blob, header_length: str) -> tuple[bytes, memoryview]:
    """JSON prefix and blobs of a body.

    header_length: the value of Inference-Header-Content-Length.
    Raises: InvalidRequest if it is no number, or beyond the body.
    """
    if not is_count(header_length):
        raise InvalidRequest(
            "Inference-Header-Content-Length must be a non-negative integer, "
            f"got '{shown(header_length)}'"
        )
    length = int(header_length)
    if length > len(body):
        raise InvalidRequest(
            f"inference header size should be in range (0, {len(body)}), got: {length}"
        )
    blobs = memoryview(body)[length:]
    if not mostly_tensors(len(blobs), len(body)):
        blobs = memoryview(bytes(blobs))
    return bytes(body[:length]), blobs


class BlobReader:
    """Hands out the blobs of a body in order."""

    __slots__ = ("_blob", "_model", "_offset")

    def __init__(self, blob: memoryview, model: str) -> None:
        self._blob, self._model, self._offset = blob, model, 0

    def take(self, name: str, size: object) -> memoryview:
        """The next `size` bytes. Raises: InvalidRequest if there are fewer."""
        if type(size) is not int or size < 0:
            raise InvalidRequest(
                f"'binary_data_size' of input '{shown(name)}' must be a non-negative integer, "
                f"got '{shown(size)}'"
            )
        start, left = self._offset, len(self._blob) - self._offset
        if size > left:
            raise InvalidRequest(
                f"unexpected size for input '{shown(name)}', expecting {size - left} additional "
                f"bytes for model '{self._model}'"
            )
        self._offset = start + size
        return self._blob[start : self._offset]

    def finish(self) -> None:
        """Raises: InvalidRequest if bytes are left over."""
        left = len(self._blob) - self._offset
        if left:
            raise InvalidRequest(
                f"unexpected additional input data for model '{self._model}': {left} bytes"
            )


def decode_raw(
    signature: Signature, spec: TensorSpec, data: Blob, shape: Sequence[int], count: int
) -> Array:
    """An input given as bytes: numbers as a view of `data`, aligned or not.

    shape, count: already checked against the signature.
    Raises: InvalidRequest if the length is not what shape and datatype say.
    """
    if spec.datatype is Datatype.BYTES:
        return _decode_strings(signature, spec, data, count).reshape(shape)
    if len(data) != count * spec.datatype.itemsize:
        raise _size_error(signature, spec, count * spec.datatype.itemsize, len(data))
    if spec.datatype is Datatype.BOOL:
        return _flags(data).reshape(shape)
    return np.frombuffer(data, spec.datatype.dtype).reshape(shape)


def _flags(data: Blob) -> Array:
    """BOOL is a byte each; whatever is not 0 is true."""
    array: Array = np.frombuffer(data, np.uint8)
    if len(data) >= SMALL_BYTES and array.max() <= 1:
        return array.view(np.bool_)
    flags: Array = array != 0
    return flags


def _size_error(signature: Signature, spec: TensorSpec, expected: int, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"input byte size mismatch for input '{spec.name}' for model '{signature.model}'. "
        f"Expected {expected}, got {got}"
    )


def _decode_strings(signature: Signature, spec: TensorSpec, data: Blob, count: int) -> Array:
    if len(data) < 4 * count:  # before `count` slots are allocated
        raise _size_error(signature, spec, 4 * count, len(data))
    view = memoryview(data)
    array = np.empty(count, dtype=object)
    offset = 0
    for index in range(count):
        if offset + 4 > len(view):
            raise _string_error(signature, spec, index, count)
        (length,) = unpack_from("<I", view, offset)
        offset += 4 + length
        if offset > len(view):
            raise _string_error(signature, spec, index, count)
        array[index] = check_text(signature, spec, bytes(view[offset - length : offset]))
    if offset != len(view):
        raise _size_error(signature, spec, offset, len(view))
    return array


def check_text(signature: Signature, spec: TensorSpec, text: bytes) -> bytes:
    """`text`, if ONNX can hold it. Raises: InvalidRequest if it is not UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"a string of input '{spec.name}' for model '{signature.model}' is not UTF-8"
        ) from error
    return text


def _string_error(signature: Signature, spec: TensorSpec, index: int, count: int) -> InvalidRequest:
    return InvalidRequest(
        f"incomplete string at inference input '{spec.name}' for model '{signature.model}'. "
        f"Expected {count} strings, the data ends in string {index}"
    )


def encode_raw(array: Array) -> bytes:
    """An output as bytes; object arrays as length-prefixed strings."""
    if array.dtype == object:
        parts: list[bytes] = []
        for item in array.reshape(-1):
            text = item if isinstance(item, bytes) else str(item).encode()
            parts += (pack("<I", len(text)), text)
        return b"".join(parts)
    return array.tobytes()


def raw_request_input(signature: Signature, blob: memoryview) -> tuple[list[int], int]:
    """Shape and element count of a request that is nothing but one tensor's bytes.

    Raises: InvalidRequest if the model cannot be called that way.
    """
    if len(signature.inputs) != 1:
        raise InvalidRequest(
            f"raw binary request requires a model with 1 input, model '{signature.model}' has "
            f"{len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    shape = list(spec.shape)
    if signature.max_batch_size:
        shape[0] = 1
    variable = [axis for axis, dim in enumerate(shape) if dim < 0]
    known = 1
    for dim in shape:
        known *= dim if dim >= 0 else 1
    if spec.datatype is Datatype.BYTES:
        if known != 1:
            raise _raw_error(spec, "a BYTES input must have one element")
        return [1 if dim < 0 else dim for dim in shape], 1
    if len(variable) > 1:
        raise _raw_error(spec, "at most one dimension may vary")
    if variable:
        size = known * spec.datatype.itemsize
        if not size or len(blob) % size:
            raise _raw_error(spec, f"its bytes must be a multiple of {size}, got {len(blob)}")
        shape[variable[0]] = len(blob) // size
    count = 1
    for dim in shape:
        count *= dim
    return shape, count


def _raw_error(spec: TensorSpec, what: str) -> InvalidRequest:
    return InvalidRequest(f"raw binary request for input '{spec.name}': {what}")
