"""Infer messages that differ in nothing but the bytes of their tensors.

A client mostly sends the same names, datatypes and shapes again, at most under another
id. Of such a message only the id and the tensors are read: the rest was parsed and
checked when it first came. Laws:
- a form is made of a message that ends with its raw tensors, each a field of its
  own, behind a head that is a message without any: serialized messages concatenate,
  so the same head before tensors of the same lengths means the same. An id stands
  right behind the model's name and version, and nowhere else;
- what it comes to for a version is what parsing in full came to, for that very
  signature, which decides whenever it is another one;
- parameters that differ from request to request, and those of a tensor, make a message
  one that is parsed each time.
"""

from dataclasses import dataclass

import numpy as np

from protos import inference_pb2 as pb
from serving.core.admission import RAW_BYTES_FACTOR
from serving.core.datatypes import BYTES_VARY, Array
from serving.core.grpc_codec import GrpcRequest, message_cost, varint
from serving.core.request import COMMON_PARAMETERS, ID_CHARACTERS_MAX, Envelope, WantedOutput
from serving.core.shared_memory import FindRegion, no_region
from serving.core.signature import Signature

FORMS_MAX = 1024
HEAD_BYTES_MAX = 2048  # bounds what is kept
# A form costs some four times what a message of no known form does, and messages whose
# heads are never the same again would pay it for nothing: so many are learned at once,
# then one of so many messages.
_LEARNED_AT_ONCE = 256
_MESSAGES_PER_FORM = 16
# Tags of fields with a length.
_ID_TAG = bytes((3 << 3 | 2,))
_RAW_TAG = bytes((7 << 3 | 2,))  # raw_input_contents
_NO_ID = (0, 0)


@dataclass(frozen=True, slots=True)
class _Piece:
    """An input for one signature: where it stands, and what it is."""

    start: int
    dtype: "np.dtype[np.generic]"
    shape: tuple[int, ...]


class Form:
    """Everything of a message but its id and its tensors, of which there is at least one."""

    __slots__ = ("_bound", "_chooses", "_names", "_pieces", "_seams", "_starts", "_wanted",
                 "_wanted_of", "envelope", "head", "id_start", "id_stop", "model", "raw_bytes",
                 "version")  # fmt: skip

    def __init__(
        self,
        head: bytes,
        id_at: tuple[int, int],
        seams: list[bytes],
        request: GrpcRequest,
    ) -> None:
        """head: up to the first tensor. id_at: where in it the id begins and ends.
        seams: what stands before each of the other tensors.
        """
        self.head = head
        self.id_start, self.id_stop = id_at
        self.model, self.version = request.model, request.version
        self.envelope = request.envelope
        self.raw_bytes = sum(map(len, request.raw))
        self._names = [tensor.name for tensor in request.message.inputs]
        self._starts: list[int] = []
        self._seams: list[tuple[int, int, bytes]] = []
        at = len(head)
        for seam, tensor in zip([b"", *seams], request.raw, strict=True):
            if seam:
                self._seams.append((at, at + len(seam), seam))
                at += len(seam)
            self._starts.append(at)
            at += len(tensor)
        self._bound: Signature | None = None
        self._pieces: list[_Piece] = []
        self._chooses = bool(request.message.outputs)
        self._wanted_of: Signature | None = None
        self._wanted: tuple[WantedOutput, ...] = ()

    @property
    def key(self) -> bytes:
        """What the heads of all messages of this form have in common."""
        return self.head[: self.id_start] + self.head[self.id_stop :]

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
        for name, start in zip(self._names, self._starts, strict=True):
            index = signature.input_index[name]
            array = arrays[index]
            pieces[index] = _Piece(start, array.dtype, array.shape)
        self._pieces = [piece for piece in pieces if piece is not None]
        self._bound = signature

    def wanted(self, signature: Signature, data: bytes) -> tuple[WantedOutput, ...]:
        """The chosen outputs, of any message of this form. Raises: InvalidRequest."""
        if self._chooses and signature is not self._wanted_of:
            self._wanted = GrpcRequest(data).wanted(signature)
            self._wanted_of = signature
        return self._wanted


class FormedRequest:
    """A message of a known form; as GrpcRequest."""

    __slots__ = ("_data", "_form", "envelope", "model", "shared_bytes", "version")

    def __init__(self, data: bytes, form: Form, envelope: Envelope) -> None:
        self._data, self._form, self.envelope = data, form, envelope
        self.model, self.version = form.model, form.version
        self.shared_bytes = 0

    def cost(self, message_bytes: int, body_bytes_max: int) -> int:
        """Memory that the message may take until it is answered, in bytes."""
        raw_bytes = self._form.raw_bytes
        return message_cost(message_bytes, raw_bytes, RAW_BYTES_FACTOR, body_bytes_max)

    def wanted(self, signature: Signature, _: FindRegion = no_region) -> tuple[WantedOutput, ...]:
        """Raises: InvalidRequest."""
        return self._form.wanted(signature, self._data)

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
        # Views, aligned or not: a batch copies them once.
        return [np.ndarray(piece.shape, piece.dtype, data, piece.start) for piece in pieces]


class _OfOneLength:
    """Forms of messages of one length, whose ids and heads end at the same places."""

    __slots__ = ("by_key", "head_bytes", "id_start", "id_stop")

    def __init__(self, form: Form) -> None:
        self.id_start, self.id_stop = form.id_start, form.id_stop
        self.head_bytes = len(form.head)
        self.by_key: dict[bytes, Form] = {}

    def holds(self, form: Form) -> bool:
        places = (form.id_start, form.id_stop, len(form.head))
        return places == (self.id_start, self.id_stop, self.head_bytes)


class Forms:
    """The forms that a worker has seen, by length and head."""

    def __init__(self) -> None:
        self._known: dict[int, _OfOneLength] = {}
        self._count = 0
        self._credit = _LEARNED_AT_ONCE * _MESSAGES_PER_FORM

    def parse(self, data: bytes) -> GrpcRequest | FormedRequest:
        """A message, not yet bound to a version's signature. Raises: InvalidRequest."""
        known = self._known.get(len(data))
        if known is not None:
            start, stop = known.id_start, known.id_stop
            form = known.by_key.get(data[:start] + data[stop : known.head_bytes])
            if form is not None and form.fits(data):
                envelope = _under(form.envelope, data[start:stop]) if stop else form.envelope
                if envelope is not None:
                    return FormedRequest(data, form, envelope)
        request = GrpcRequest(data)
        self._learn(data, request)
        return request

    def _learn(self, data: bytes, request: GrpcRequest) -> None:
        self._credit += 1
        if self._credit < _MESSAGES_PER_FORM:
            return
        self._credit = min(self._credit - _MESSAGES_PER_FORM, _LEARNED_AT_ONCE * _MESSAGES_PER_FORM)
        form = form_of(data, request)
        if form is None or len(form.head) > HEAD_BYTES_MAX:
            return
        if self._count >= FORMS_MAX:
            self._known.clear()
            self._count = 0
        # Of one length the first places stay: two must not oust each other.
        known = self._known.setdefault(len(data), _OfOneLength(form))
        if known.holds(form):
            self._count += form.key not in known.by_key
            known.by_key.setdefault(form.key, form)


def _under(envelope: Envelope, request_id: bytes) -> Envelope | None:
    """It with another id; None for one that the parser has to refuse, or might."""
    if len(request_id) > ID_CHARACTERS_MAX:
        return None
    try:
        return envelope.named(request_id.decode())
    except UnicodeDecodeError:
        return None


def _id_in(bare: bytes, message: pb.ModelInferRequest) -> tuple[int, int] | None:
    """Where the id stands in a head; None where it does not stand once, behind the version."""
    if not message.id:
        return _NO_ID
    value = message.id.encode()
    before = pb.ModelInferRequest(
        model_name=message.model_name, model_version=message.model_version
    ).SerializeToString()
    before += _ID_TAG + varint(len(value))
    start, stop = len(before), len(before) + len(value)
    if bare[:start] != before or bare[start:stop] != value:
        return None
    # A later one would win, whatever this one says.
    return None if pb.ModelInferRequest.FromString(bare[stop:]).id else (start, stop)


def form_of(data: bytes, request: GrpcRequest) -> Form | None:
    """The form of a message, which was parsed; None if it has to be parsed each time."""
    message = request.message
    if (
        not request.head_bytes
        or len(request.raw) != len(message.inputs)
        or not message.parameters.keys() <= COMMON_PARAMETERS
        or any(tensor.parameters for tensor in message.inputs)
        or any(output.parameters for output in message.outputs)
    ):
        return None
    bare = data[: request.head_bytes]
    seams = [_RAW_TAG + varint(len(tensor)) for tensor in request.raw]
    id_at = _id_in(bare, message)
    return Form(bare + seams[0], id_at, seams[1:], request) if id_at is not None else None
