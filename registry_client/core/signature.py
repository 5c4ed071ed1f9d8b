"""What a model takes and gives: tensors, and the features inside a row.

Datatypes are the words of the Open Inference Protocol. ONNX's element types
and the names that ONNX Runtime and Triton's config.pbtxt use map onto them.
"""

from dataclasses import dataclass
from enum import StrEnum

from registry_client.core.errors import Invalid
from registry_client.core.names import shown

RANK_MAX = 8
TENSOR_NAME_CHARS_MAX = 256


class FeatureKind(StrEnum):
    """How a feature is binned; decided by whoever pushes, never by live data."""

    CONTINUOUS = "continuous"
    DISCRETE = "discrete"
    CATEGORICAL = "categorical"


_KINDS = frozenset(FeatureKind)

_UNSIGNED = ("UINT8", "UINT16", "UINT32", "UINT64")
_SIGNED = ("INT8", "INT16", "INT32", "INT64")
_FLOATS = ("FP16", "FP32", "FP64", "BF16")
DATATYPES = frozenset(("BOOL", *_UNSIGNED, *_SIGNED, *_FLOATS, "BYTES"))

# onnx.TensorProto.DataType; complex and the 8-bit floats have no OIP word.
ONNX_ELEMENT_TYPES = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "BYTES",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
    16: "BF16",
}

ONNXRUNTIME_TYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
    "tensor(bool)": "BOOL",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
}

TRITON_TYPES = {f"TYPE_{'STRING' if word == 'BYTES' else word}": word for word in sorted(DATATYPES)}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. shape: -1 is any size; the batch dimension is included."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > TENSOR_NAME_CHARS_MAX:
            raise Invalid(f"tensor name {shown(self.name)} is empty or too long")
        if self.datatype not in DATATYPES:
            raise Invalid(f"tensor {shown(self.name)}: datatype {shown(self.datatype)} is unknown")
        if len(self.shape) > RANK_MAX:
            raise Invalid(
                f"tensor {shown(self.name)}: rank {len(self.shape)} is over the limit of {RANK_MAX}"
            )
        if any(type(dim) is not int or dim < -1 for dim in self.shape):
            raise Invalid(
                f"tensor {shown(self.name)}: shape {list(self.shape)} has a dimension below -1"
            )


@dataclass(frozen=True, slots=True)
class Feature:
    """One element of a row of an input tensor, the unit that drift is told in.

    kind:  a FeatureKind, or its word.
    index: position in the row, flattened row-major without the batch dimension.
    """

    name: str
    kind: str
    tensor: str
    index: int

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise Invalid(f"feature {shown(self.name)}: kind {shown(self.kind)} is unknown")
        if type(self.index) is not int or self.index < 0:
            raise Invalid(f"feature {shown(self.name)}: index {self.index!r} is not 0 or more")
