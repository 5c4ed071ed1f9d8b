"""What a version takes and gives, and the checks of a request's tensors against it.

Shapes include the batch dimension; -1 is any size. A version with
`max_batch_size` 0 runs one request at a time, and a request is one row.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.core.datatypes import BY_WIRE, Array, Datatype
from serving.core.errors import InvalidRequest, shown

ELEMENTS_MAX = 2**40  # far above any body, far below where numpy's arithmetic wraps


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """The metadata form of the protocol."""
        return {"name": self.name, "datatype": self.datatype.wire, "shape": list(self.shape)}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> "TensorSpec":
        """Raises: KeyError, TypeError or ValueError on anything else than `to_json` gives."""
        shape = tuple(int(dim) for dim in entry["shape"])
        return TensorSpec(str(entry["name"]), BY_WIRE[entry["datatype"]], shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything the codecs need to know about a version."""

    model: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    input_index: Mapping[str, int] = field(init=False, repr=False, compare=False)
    output_index: Mapping[str, int] = field(init=False, repr=False, compare=False)
    rows_alike: bool = field(init=False, repr=False, compare=False)  # rows have one shape, known
    json_everywhere: bool = field(init=False, repr=False, compare=False)  # all outputs fit JSON

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "input_index", {spec.name: i for i, spec in enumerate(self.inputs)})
        set_field(self, "output_index", {spec.name: i for i, spec in enumerate(self.outputs)})
        set_field(self, "rows_alike", all(d >= 0 for s in self.inputs for d in s.shape[1:]))
        set_field(self, "json_everywhere", all(s.datatype.in_json for s in self.outputs))


def check_tensor(signature: Signature, spec: TensorSpec, datatype: object, shape: object) -> int:
    """The element count of an input whose datatype and shape fit `spec`.

    Raises: InvalidRequest. Nothing is allocated, whatever the dimensions say.
    """
    if datatype != spec.datatype.wire:
        raise InvalidRequest(
            f"inference input '{spec.name}' data-type is '{shown(datatype)}', "
            f"but model '{signature.model}' expects '{spec.datatype.wire}'"
        )
    if type(shape) is not list or not _fits(spec.shape, shape):
        raise InvalidRequest(
            f"unexpected shape for input '{spec.name}' for model '{signature.model}'. "
            f"Expected {show_shape(spec.shape)}, got {show_shape(shape)}"
        )
    count = math.prod(shape)
    if not 0 < count <= ELEMENTS_MAX and math.prod(dim or 1 for dim in shape) > ELEMENTS_MAX:
        raise InvalidRequest(
            f"the shape of input '{spec.name}' for model '{signature.model}' overflows. "
            f"Expected at most {ELEMENTS_MAX} elements, got {show_shape(shape)}"
        )
    return count


def _fits(expected: tuple[int, ...], got: Sequence[Any]) -> bool:
    if len(expected) != len(got):
        return False
    for want, size in zip(expected, got, strict=True):
        if type(size) is not int or size < 0 or (size != want and want >= 0):
            return False
    return True


def range_error(signature: Signature, spec: TensorSpec, data: Iterable[Any]) -> InvalidRequest:
    """The error for elements of which at least one is beyond the input's datatype."""
    offender = next(spec.datatype.out_of_range(data), "a value")
    return InvalidRequest(
        f"element {shown(offender)} of input '{spec.name}' for model '{signature.model}' is "
        f"out of the range of {spec.datatype.wire}"
    )


def show_shape(shape: object) -> str:
    """A shape for a message, as the protocol's own messages write it."""
    if isinstance(shape, list | tuple):
        return shown("[" + ",".join(shown(dim) for dim in shape[:16]) + "]")
    return shown(shape)


def count_rows(signature: Signature, arrays: Sequence[Array]) -> int:
    """Rows of a request: the first dimension that all its inputs must share.

    Raises: InvalidRequest if they differ, or exceed max_batch_size.
    """
    if not signature.max_batch_size:
        return 1
    rows = len(arrays[0])
    if len(arrays) > 1:
        _check_rows_agree(signature, arrays, rows)
    if rows > signature.max_batch_size:
        raise InvalidRequest(
            f"inference request batch-size must be <= {signature.max_batch_size} for "
            f"'{signature.model}', got {rows}"
        )
    return rows


def _check_rows_agree(signature: Signature, arrays: Sequence[Array], rows: int) -> None:
    for spec, array in zip(signature.inputs, arrays, strict=True):
        if len(array) != rows:
            raise InvalidRequest(
                f"input '{spec.name}' batch size does not match other inputs for "
                f"'{signature.model}'. Expected {rows}, got {len(array)}"
            )


def missing_inputs(signature: Signature, got: Sequence[str]) -> InvalidRequest:
    """The error for a request that lacks inputs."""
    missing = [spec.name for spec in signature.inputs if spec.name not in got]
    return InvalidRequest(
        f"expected {len(signature.inputs)} inputs but got {len(got)} inputs for model "
        f"'{signature.model}'. Got input(s) {_names(got)}, but missing required input(s) "
        f"{_names(missing)}. Please provide all required input(s)."
    )


def _names(names: Sequence[str]) -> str:
    return "[" + ",".join(f"'{shown(name)}'" for name in names[:8]) + "]"


def find_input(signature: Signature, name: object, taken: Sequence[Array | None]) -> int:
    """The index of the input called `name`.

    Raises: InvalidRequest if there is none, or it was given before.
    """
    index = signature.input_index.get(name) if isinstance(name, str) else None
    if index is None:
        expected = _names([spec.name for spec in signature.inputs])
        raise InvalidRequest(
            f"unexpected inference input '{shown(name)}' for model '{signature.model}'. "
            f"Expected {expected}"
        )
    if taken[index] is not None:
        raise InvalidRequest(
            f"input '{shown(name)}' already exists in request for model '{signature.model}'"
        )
    return index
