"""Infer messages that differ in nothing but the bytes of their tensors.

A client mostly sends the same names, datatypes and shapes again. Of such a message
only the tensors are read: the rest was parsed and checked when it first came. Laws:
- a form is made of a message that ends with its raw tensors, each a field of its
  own, behind a head that is a message without any: serialized messages concatenate,
  so the same head before tensors of the same lengths means the same;
- what it comes to for a version is what parsing in full came to, for that very
  signature, which decides whenever it is another one;
- an id, parameters or chosen outputs make a message one that is parsed each time;
  a long one has its tensors found without a parser (`grpc_wire.py`).
"""

from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from protos import inference_pb2 as pb
from serving.core.admission import MESSAGE_RAW_FACTOR
from serving.core.datatypes import BYTES_VARY, Array
from serving.core.grpc_codec import SPLIT_BYTES_MIN, GrpcRequest, message_cost, varint
from serving.core.request import PLAIN, WantedOutput
from serving.core.shared_memory import FindRegion, no_region
from serving.core.signature import Signature

FORMS_MAX = 1024
HEAD_BYTES_MAX = 2048  # bounds what is kept
_RAW_TAG = bytes((7 << 3 | 2,))  # of raw_input_contents, a field with a length


@dataclass(frozen=True, slots=True)
class _Piece:
    """An input for one signature: where it stands, and what it is."""

    start: int
    stop: int
    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]


class Form:
    """Everything of a message but its tensors, of which there is at least one."""

    __slots__ = ("_bound", "_names", "_pieces", "_seams", "_spans", "head", "model", "raw_bytes",
                 "version")  # fmt: skip

    def __init__(
        self, head: bytes, seams: list[bytes], raw: list[bytes], message: pb.ModelInferRequest
    ) -> None:
        """head: up to the first tensor. seams: what stands before each of the others."""
        self.head = head
        self.model, self.version = message.model_name, message.model_version
        self.raw_bytes = sum(map(len, raw))
        self._names = [tensor.name for tensor in message.inputs]
        self._spans: list[tuple[int, int]] = []
        self._seams: list[tuple[int, int, bytes]] = []
        at = len(head)
        for seam, tensor in zip([b"", *seams], raw, strict=True):
            if seam:
                self._seams.append((at, at + len(seam), seam))
                at += len(seam)
            self._spans.append((at, at + len(tensor)))
            at += len(tensor)
        self._bound: Signature | None = None
        self._pieces: list[_Piece] = []

    def fits(self, data: bytes) -> bool:
        """Whether `data`, which has the right length and begins with the head, has this form."""
        return all(data[start:stop] == seam for start, stop, seam in self._seams)

    def pieces(self, signature: Signature) -> list[_Piece] | None:
        """The inputs in the signature's order; None before `bind`."""
        return self._pieces if signature is self._bound else None

    def bind(self, signature: Signature, arrays: list[Array]) -> None:
        """Remember what a message of this form came to."""
        if any(spec.datatype in BYTES_VARY for spec in signature.inputs):
            return
        pieces: list[_Piece | None] = [None] * len(arrays)
        for name, (start, stop) in zip(self._names, self._spans, strict=True):
            index = signature.input_index[name]
            array = arrays[index]
            pieces[index] = _Piece(start, stop, array.dtype, array.shape)
        self._pieces = [piece for piece in pieces if piece is not None]
        self._bound = signature


class FormedRequest:
    """A message of a known form; as GrpcRequest."""

    __slots__ = ("_data", "_form", "model", "shared_bytes", "version")
    envelope = PLAIN

    def __init__(self, data: bytes, form: Form) -> None:
        self._data, self._form = data, form
        self.model, self.version = form.model, form.version
        self.shared_bytes = 0

    def cost(self, message_bytes: int, body_bytes_max: int) -> int:
        """Memory that the message may take until it is answered, in bytes."""
        raw_bytes = self._form.raw_bytes
        return message_cost(message_bytes, raw_bytes, MESSAGE_RAW_FACTOR, body_bytes_max)

    def wanted(self, _: Signature, __: FindRegion = no_region) -> tuple[WantedOutput, ...]:
        """All outputs: none were chosen."""
        return ()

    def tensors(
        self, signature: Signature, tensors_max: int, find: FindRegion = no_region
    ) -> list[Array]:
        """The inputs in the signature's order. Raises: InvalidRequest."""
        data = self._data
        pieces = self._form.pieces(signature)
        if pieces is None:
            arrays = GrpcRequest(data).tensors(signature, tensors_max, find)
            self._form.bind(signature, arrays)
            return arrays
        return [
            np.frombuffer(data[piece.start : piece.stop], piece.dtype).reshape(piece.shape)
            for piece in pieces
        ]


class Forms:
    """The forms that a worker has seen, by length and head."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, dict[bytes, Form]]] = {}
        self._count = 0

    def parse(self, data: bytes) -> GrpcRequest | FormedRequest:
        """A message, not yet bound to a version's signature. Raises: InvalidRequest."""
        size = len(data)
        if size >= SPLIT_BYTES_MIN:
            return GrpcRequest(data)
        known = self._known.get(size)
        if known is not None:
            head_bytes, forms = known
            form = forms.get(data[:head_bytes])
            if form is not None and form.fits(data):
                return FormedRequest(data, form)
        request = GrpcRequest(data)
        if request.envelope is PLAIN:
            self._learn(data)
        return request

    def _learn(self, data: bytes) -> None:
        form = form_of(data)
        if form is None or len(form.head) > HEAD_BYTES_MAX:
            return
        if self._count >= FORMS_MAX:
            self._known.clear()
            self._count = 0
        # Of one length the first length of a head stays: two must not oust each other.
        head_bytes, forms = self._known.setdefault(len(data), (len(form.head), {}))
        if len(form.head) == head_bytes and form.head not in forms:
            forms[form.head] = form
            self._count += 1


def _is_head(bare: bytes) -> bool:
    """Whether it is a message without tensors. What ends like tensors need not be any."""
    try:
        return not pb.ModelInferRequest.FromString(bare).raw_input_contents
    except DecodeError:
        return False


def form_of(data: bytes) -> Form | None:
    """The form of a valid message; None if it has to be parsed each time."""
    message = pb.ModelInferRequest.FromString(data)
    raw = list(message.raw_input_contents)
    if (
        not raw
        or len(raw) != len(message.inputs)
        or message.id
        or message.parameters
        or message.outputs
        or any(tensor.parameters for tensor in message.inputs)
    ):
        return None
    seams = [_RAW_TAG + varint(len(tensor)) for tensor in raw]
    tail = b"".join(part for pair in zip(seams, raw, strict=True) for part in pair)
    bare = data[: -len(tail)]
    if not data.endswith(tail) or not _is_head(bare):
        return None
    return Form(bare + seams[0], seams[1:], raw, message)
