"""The Open Inference Protocol's datatypes, numpy's and ONNX's names for them.

BYTES are object arrays of `bytes`; BF16 travels as the uint16 of its bits, since
numpy has no such type.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


# What an element of these may be in JSON; of the others a number.
_JSON_TYPES: Mapping[str, frozenset[type]] = {"BOOL": frozenset({bool}), "BYTES": frozenset({str})}

# As the struct module calls them.
_PACK_CODES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}


class Datatype(Enum):
    """One datatype; the value is (wire name, numpy type, ONNX Runtime's name)."""

    BOOL = ("BOOL", "?", "tensor(bool)")
    UINT8 = ("UINT8", "u1", "tensor(uint8)")
    UINT16 = ("UINT16", "<u2", "tensor(uint16)")
    UINT32 = ("UINT32", "<u4", "tensor(uint32)")
    UINT64 = ("UINT64", "<u8", "tensor(uint64)")
    INT8 = ("INT8", "i1", "tensor(int8)")
    INT16 = ("INT16", "<i2", "tensor(int16)")
    INT32 = ("INT32", "<i4", "tensor(int32)")
    INT64 = ("INT64", "<i8", "tensor(int64)")
    FP16 = ("FP16", "<f2", "tensor(float16)")
    FP32 = ("FP32", "<f4", "tensor(float)")
    FP64 = ("FP64", "<f8", "tensor(double)")
    BF16 = ("BF16", "<u2", "tensor(bfloat16)")
    BYTES = ("BYTES", "O", "tensor(string)")

    def __init__(self, wire: str, numpy: str, onnx: str) -> None:
        self.wire = wire
        self.dtype: np.dtype[Any] = np.dtype(numpy)
        self.onnx = onnx
        self.itemsize = 0 if wire == "BYTES" else self.dtype.itemsize  # 0: varies
        self.is_float = wire in {"FP16", "FP32", "FP64"}
        self.in_json = wire not in {"FP16", "BF16"}
        # Attributes, since looking up a member in a mapping runs Enum's hash in Python.
        self.json_types = _JSON_TYPES.get(wire, frozenset({float, int} if self.is_float else {int}))
        self.pack_code = _PACK_CODES.get(wire)

    def out_of_range(self, values: Iterable[Any]) -> Iterator[Any]:
        """The numbers among `values` that this datatype cannot hold; infinities it can."""
        if self.is_float:
            finfo = np.finfo(self.dtype)
            exponent = int(finfo.maxexp)
            limit = 2**exponent - 2 ** (exponent - int(finfo.nmant) - 2)  # rounds to infinity
            return (x for x in values if abs(x) >= limit and abs(x) != math.inf)
        bounds = np.iinfo(self.dtype)
        lowest, highest = int(bounds.min), int(bounds.max)
        return (x for x in values if not lowest <= x <= highest)


BY_WIRE: Mapping[str, Datatype] = {datatype.wire: datatype for datatype in Datatype}
BY_ONNX: Mapping[str, Datatype] = {datatype.onnx: datatype for datatype in Datatype}
# Whose bytes on the wire are not their elements' bytes: no view of them will do.
BYTES_VARY = (Datatype.BYTES, Datatype.BOOL)
