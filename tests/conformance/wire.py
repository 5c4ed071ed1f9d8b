"""Tensors as their bytes on the wire, and the files that hand cases to client processes.

Used on both sides, by plain name in the clients' processes; needs numpy alone.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

import numpy as np

NUMPY = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BF16": "<u2",  # its bits: numpy has no such type
    "BYTES": "O",
}
NOT_IN_JSON = ("FP16", "BF16")


@dataclass(frozen=True)
class Tensor:
    """One tensor: little-endian, row-major; BYTES with a uint32 length each."""

    datatype: str
    shape: tuple[int, ...]
    raw: bytes


@dataclass(frozen=True)
class Case:
    """One request and the outputs that ONNX Runtime itself gives for it.

    exact: the bytes must be equal; else values within 1e-5, relative or absolute.
    in_json: every tensor of it can be written as JSON.
    finite: no NaN and no infinity in it, which some JSON libraries cannot write.
    """

    name: str
    model: str
    datatype: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor] = field(default_factory=dict)
    exact: bool = True
    in_json: bool = True
    finite: bool = True


def from_numpy(datatype: str, array: Any) -> Tensor:
    """array: of the numpy type of `datatype`; BYTES as objects, bytes or str."""
    if datatype == "BYTES":
        parts = []
        for item in array.reshape(-1):
            text = item if isinstance(item, bytes) else str(item).encode()
            parts.append(pack("<I", len(text)) + text)
        return Tensor(datatype, tuple(array.shape), b"".join(parts))
    return Tensor(datatype, tuple(array.shape), array.tobytes())


def to_numpy(tensor: Tensor) -> Any:
    """The array; BYTES as objects of `bytes`, BF16 as the uint16 of its bits."""
    if tensor.datatype == "BYTES":
        texts, offset = [], 0
        while offset < len(tensor.raw):
            (length,) = unpack_from("<I", tensor.raw, offset)
            offset += 4 + length
            texts.append(tensor.raw[offset - length : offset])
        array = np.empty(len(texts), dtype=object)
        array[:] = texts
        return array.reshape(tensor.shape)
    return np.frombuffer(tensor.raw, NUMPY[tensor.datatype]).reshape(tensor.shape)


def difference(got: Tensor, expected: Tensor, *, exact: bool) -> str | None:
    """What is wrong with `got`, or None."""
    if (got.datatype, got.shape) != (expected.datatype, expected.shape):
        return f"{got.datatype} {got.shape} instead of {expected.datatype} {expected.shape}"
    if got.raw == expected.raw:
        return None
    ours, theirs = to_numpy(got), to_numpy(expected)
    if not exact and np.allclose(ours, theirs, rtol=1e-5, atol=1e-5, equal_nan=True):
        return None
    return f"{ours.reshape(-1)[:8]} instead of {theirs.reshape(-1)[:8]}"


def save_cases(path: Path, cases: list[Case]) -> None:
    def tensors(named: dict[str, Tensor]) -> dict[str, Any]:
        return {name: [t.datatype, list(t.shape), t.raw.hex()] for name, t in named.items()}

    documents = [
        {**vars(case), "inputs": tensors(case.inputs), "outputs": tensors(case.outputs)}
        for case in cases
    ]
    path.write_text(json.dumps(documents))


def load_cases(path: Path) -> list[Case]:
    def tensors(named: dict[str, Any]) -> dict[str, Tensor]:
        return {n: Tensor(d, tuple(s), bytes.fromhex(raw)) for n, (d, s, raw) in named.items()}

    return [
        Case(**{**entry, "inputs": tensors(entry["inputs"]), "outputs": tensors(entry["outputs"])})
        for entry in json.loads(path.read_text())
    ]
