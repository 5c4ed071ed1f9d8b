"""The JSON form of requests and replies.

Laws:
- element types are exact: true is not 1, 1.0 is not an integer, nothing wraps;
- NaN and infinities are data, in both directions, as the tokens that other
  servers and Python's own parser use;
- a number too large for a float is an error, not an infinity;
- nesting and counts are checked before anything of that size is allocated.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from struct import Struct, error
from typing import Any

import numpy as np
import orjson

from serving.core.datatypes import Array, Datatype
from serving.core.errors import InvalidRequest, shown
from serving.core.signature import Signature, TensorSpec, range_error, show_shape

_NOT_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# A float ends at 1.8e308: three digits of exponent, or 210 before an exponent of two.
_MAYBE_HUGE = re.compile(rb"[eE]\+?0*[1-9]\d\d|(?<!\d)\d{210}")

# Packing is faster than numpy's conversion for rows of tabular models, and checks
# ranges by itself; the argument list it needs is copied, hence the bound.
_PACKED_ELEMENTS_MAX = 4096


def parse_json(body: bytes, depth_max: int) -> Any:
    """The value of a JSON text.

    The strict parser refuses NaN, infinities and integers beyond 64 bits; the
    tolerant one then has its turn. Raises: InvalidRequest.
    """
    if body.count(b"[") + body.count(b"{") > depth_max and nesting(body) > depth_max:
        raise InvalidRequest(
            f"JSON nesting depth exceeds maximum allowed limit ({depth_max}) in the request body"
        )
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return _parse_tolerantly(body)
    except json.JSONDecodeError as error:
        reason = str(error)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except UnicodeEncodeError:
        reason = "a string is not valid Unicode"
    except (ValueError, OverflowError):  # the parser's words are for who wrote the program
        reason = "a number is too large"
    except RecursionError:
        reason = "it is nested too deeply"
    raise InvalidRequest(f"failed to parse the request JSON buffer: {reason}")


def _parse_tolerantly(body: bytes) -> Any:
    parse_float = _finite if _MAYBE_HUGE.search(body) else None
    value = json.loads(body.decode(), parse_float=parse_float)
    if _SURROGATE.search(body):
        json.dumps(value, ensure_ascii=False).encode()  # only whole pairs can be encoded
    return value


def _finite(digits: str) -> float:
    """Raises: OverflowError."""
    value = float(digits)
    if math.isinf(value):
        raise OverflowError(digits)
    return value


def nesting(body: bytes) -> int:
    """How deep the brackets of a text go, those inside of strings not counted.

    In time and memory linear in the text, whatever stands in it.
    """
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = np.frombuffer(plain.translate(None, _NOT_MARKS), np.uint8)
    quotes = marks == ord('"')
    inside = np.cumsum(quotes, dtype=np.uint8) & 1  # wraps at 256, which is even
    brackets = marks[~(quotes | inside.astype(bool))]
    if not len(brackets):
        return 0
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    return int(np.cumsum(np.where(opening, np.int8(1), np.int8(-1)), dtype=np.int32).max())


def decode_elements(
    signature: Signature, spec: TensorSpec, data: object, shape: Sequence[int], count: int
) -> Array:
    """An input given as JSON elements, nested as its shape or flat, row-major.

    shape, count: already checked against the signature.
    Raises: InvalidRequest naming input, expected and got.
    """
    datatype = spec.datatype
    if not datatype.in_json:
        raise InvalidRequest(
            f"receiving {datatype.wire} data via JSON is not supported. Please use the "
            f"binary data format for input '{spec.name}'"
        )
    if type(data) is not list:
        if shape or data is None:
            raise InvalidRequest(
                f"'data' of input '{spec.name}' for model '{signature.model}' must be an array, "
                f"got '{shown(data)}'"
            )
        data = [data]
    if data and type(data[0]) is list and len(shape) > 1:
        data = _flatten(signature, spec, data, shape)
    if len(data) != count:
        raise _count_error(signature, spec, count, len(data))
    if not datatype.json_types.issuperset(map(type, data)):
        raise _type_error(signature, spec, data)
    code = datatype.pack_code
    if code is not None and count <= _PACKED_ELEMENTS_MAX:
        try:
            return np.frombuffer(_packer(code, count)(*data), datatype.dtype).reshape(shape)
        except (error, OverflowError):
            raise range_error(signature, spec, data) from None
    return _to_array(signature, spec, data).reshape(shape)


@lru_cache(maxsize=256)
def _packer(code: str, count: int) -> Callable[..., bytes]:
    return Struct(f"<{count}{code}").pack


def _flatten(
    signature: Signature, spec: TensorSpec, data: list[Any], shape: Sequence[int]
) -> list[Any]:
    """Row-major elements of nested lists whose lengths are those of `shape`."""
    for axis, size in enumerate(shape[1:], start=1):
        outer = shape[axis - 1]
        if axis == 1 and len(data) != outer:
            raise _nesting_error(signature, spec, shape, data)
        for item in data:
            if type(item) is not list or len(item) != size:
                raise _nesting_error(signature, spec, shape, data)
        data = list(chain.from_iterable(data))
    return data


@np.errstate(over="raise")
def _to_array(signature: Signature, spec: TensorSpec, data: list[Any]) -> Array:
    try:
        if spec.datatype is Datatype.BYTES:
            array = np.empty(len(data), dtype=object)
            array[:] = [text.encode() for text in data]
            return array
        return np.array(data, dtype=spec.datatype.dtype)
    except (OverflowError, FloatingPointError):
        raise range_error(signature, spec, data) from None
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"a string of input '{spec.name}' for model '{signature.model}' is not valid Unicode"
        ) from error


def _count_error(signature: Signature, spec: TensorSpec, count: int, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"unexpected number of elements for input '{spec.name}' for model '{signature.model}'. "
        f"Expected {count}, got {got}"
    )


def _nesting_error(
    signature: Signature, spec: TensorSpec, shape: Sequence[int], data: object
) -> InvalidRequest:
    return InvalidRequest(
        f"the nesting of 'data' of input '{spec.name}' for model '{signature.model}' does not "
        f"match its shape. Expected {show_shape(shape)} or a flat array, got '{shown(data)}'"
    )


def _type_error(signature: Signature, spec: TensorSpec, data: Sequence[Any]) -> InvalidRequest:
    allowed = spec.datatype.json_types
    index = next(i for i, value in enumerate(data) if type(value) not in allowed)
    return InvalidRequest(
        f"element {index} of input '{spec.name}' for model '{signature.model}' must be "
        f"{spec.datatype.wire}, got {_json_kind(data[index])} {shown(data[index])}"
    )


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def row_texts(spec: TensorSpec, rows: Array) -> list[bytes]:
    """The flat JSON elements of each row, without brackets.

    rows: (n, ...), C-contiguous. One pass over the whole batch: its members
    then only pick their lines.
    Raises: InvalidRequest if strings are not UTF-8.
    """
    if not rows.size:
        return [b""] * len(rows)
    flat = rows.reshape(len(rows), -1)
    if spec.datatype is Datatype.BYTES:
        return [_string_row(spec, row) for row in flat]
    text = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:
        text = name_non_finite(text, flat)
    return text[2:-2].split(b"],[")


def _string_row(spec: TensorSpec, row: Array) -> bytes:
    try:
        texts = [x.decode() if isinstance(x, bytes) else str(x) for x in row]
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"output '{spec.name}' is not UTF-8. Please use the binary data format for it"
        ) from error
    return orjson.dumps(texts)[1:-1]


def name_non_finite(text: bytes, flat: Array) -> bytes:
    """`text` with its nulls replaced by what they stand for, in order."""
    values = flat[~np.isfinite(flat)]
    names = [b"NaN" if np.isnan(x) else b"Infinity" if x > 0 else b"-Infinity" for x in values]
    pieces = text.split(b"null")
    return b"".join(chain.from_iterable(zip(pieces, [*names, b""], strict=True)))
