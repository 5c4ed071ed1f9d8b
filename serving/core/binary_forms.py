"""HTTP bodies with binary tensors that differ in nothing but the bytes of their tensors.

A client mostly sends the same JSON text before its tensors again. It was parsed and
checked when it first came. Laws:
- a form is made of a text that was parsed in full, all of whose inputs are numbers in
  binary, and the same text means the same;
- what it comes to for a version is what binding in full came to, for that very
  signature; another signature, or another number of bytes behind the text, is bound in
  full, and that decides;
- a text that speaks of shared memory is bound each time, for a region may be gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.core.datatypes import BYTES_VARY, Array
from serving.core.request import Envelope, WantedOutput
from serving.core.signature import Signature

FORMS_MAX = 512
TEXT_BYTES_MAX = 2048  # bounds what is kept
_SIZE = "binary_data_size"


@dataclass(frozen=True, slots=True)
class Bound:
    """What a form comes to for one version."""

    signature: Signature
    wanted: tuple[WantedOutput, ...]
    # In the signature's order: type, number of elements, first byte, shape.
    pieces: tuple[tuple["np.dtype[np.generic]", int, int, tuple[int, ...]], ...]
    tensor_bytes: int

    def tensors(self, blob: memoryview) -> list[Array]:
        """The inputs as views of `blob`, which has `tensor_bytes` bytes."""
        return [
            np.frombuffer(blob, dtype, count, start).reshape(shape)
            for dtype, count, start, shape in self.pieces
        ]


class BinaryForm:
    """Everything of a body but its tensors."""

    __slots__ = ("_names", "_sizes", "bound", "document", "envelope")

    def __init__(self, document: Mapping[str, Any], envelope: Envelope) -> None:
        self.document, self.envelope = document, envelope
        self._names = [entry["name"] for entry in document["inputs"]]
        self._sizes = [entry["parameters"][_SIZE] for entry in document["inputs"]]
        self.bound: Bound | None = None

    def bind(
        self, signature: Signature, wanted: tuple[WantedOutput, ...], arrays: list[Array]
    ) -> None:
        """Remember what a body of this form came to: inputs in the signature's order."""
        if any(spec.datatype in BYTES_VARY for spec in signature.inputs):
            return
        starts, total = {}, 0
        for name, size in zip(self._names, self._sizes, strict=True):
            starts[name], total = total, total + size
        pieces = tuple(
            (array.dtype, array.size, starts[spec.name], array.shape)
            for spec, array in zip(signature.inputs, arrays, strict=True)
        )
        self.bound = Bound(signature, wanted, pieces, total)


class BinaryForms:
    """A bounded memory of forms by their text; when it is full it starts anew."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, BinaryForm] = {}

    def match(self, text: bytes) -> BinaryForm | None:
        return self._known.get(text)

    def learn(
        self, text: bytes, document: Mapping[str, Any], envelope: Envelope
    ) -> BinaryForm | None:
        """Keep a text that was parsed; None if it has to be bound each time.

        One that names its request comes once, and is not kept.
        """
        own = envelope.id or envelope.routing_key
        if own or len(text) > TEXT_BYTES_MAX or not _is_plain(document):
            return None
        if len(self._known) >= FORMS_MAX:
            self._known.clear()
        form = self._known[text] = BinaryForm(document, envelope)
        return form


def _is_plain(document: Mapping[str, Any]) -> bool:
    """Whether each input is a size in binary, and no output has a place of its own."""
    inputs, outputs = document.get("inputs"), document.get("outputs") or ()
    if type(inputs) is not list or not inputs or type(outputs) not in {list, tuple}:
        return False
    return all(map(_is_sized, inputs)) and all(map(_has_no_place, outputs))


def _is_sized(entry: object) -> bool:
    return (
        type(entry) is dict
        and entry.get("data") is None
        and type(entry.get("name")) is str
        and type(entry.get("parameters")) is dict
        and entry["parameters"].keys() == {_SIZE}
    )


def _has_no_place(entry: object) -> bool:
    if type(entry) is not dict:
        return False
    parameters = entry.get("parameters")
    return parameters is None or (
        type(parameters) is dict and not any(key.startswith("shared_memory") for key in parameters)
    )
