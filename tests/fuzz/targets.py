"""What the fuzzers call: each takes any bytes, and raises only when something is wrong.

Here are those of what a client sends; `files` and `records` have the others.

The first bytes choose a signature and a form, the rest is what a client sent.
A client's mistake is a ServeError; anything else that comes out is ours. Where
two ways lead to the same result, both are gone.
"""

import gzip
import json
import math
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from protos import inference_pb2 as pb
from serving.core import binary_codec, relayed_requests
from serving.core.binary_forms import BinaryForms
from serving.core.datatypes import Datatype
from serving.core.errors import MESSAGE_CHARACTERS_MAX, InvalidRequest, ServeError, TooLarge
from serving.core.grpc_codec import GrpcRequest
from serving.core.grpc_forms import FormedRequest, Forms
from serving.core.inflate import inflate
from serving.core.json_codec import parse_json
from serving.core.json_template import Templates
from serving.core.request_http import HttpRequest
from serving.core.signature import Signature, TensorSpec, count_rows
from serving.core.v1_codec import V1Request
from tests.fuzz.connection import Gate
from tests.fuzz.files import model_config, model_file
from tests.fuzz.http2 import World
from tests.fuzz.records import log_message
from tests.http2_frames import PREFACE, SETTINGS, frame

TENSORS_MAX = 8
DEPTH_MAX = 20
SEPARATOR = b"\n--\n"  # between the requests of one input
INFLATED_BYTES_MAX = 4096
OUTPUT = TensorSpec("y", Datatype.FP32, (-1,))


def _signature(datatype: Datatype, shape: tuple[int, ...], rows: int) -> Signature:
    return Signature("m", "1", (TensorSpec("x", datatype, shape),), (OUTPUT,), rows)


DATATYPES = tuple(Datatype)
SIGNATURES = (
    *(_signature(datatype, (-1, 2), 8) for datatype in DATATYPES),
    _signature(Datatype.FP32, (), 0),
    _signature(Datatype.BYTES, (-1, -1), 0),
    _signature(Datatype.INT64, (2, 3), 0),
    Signature(
        "m",
        "1",
        (TensorSpec("a", Datatype.FP64, (-1, 1)), TensorSpec("b", Datatype.BYTES, (-1,))),
        (OUTPUT, TensorSpec("z", Datatype.BF16, (-1,))),
        8,
    ),
)


def _outcome(
    request: Callable[[], HttpRequest | GrpcRequest | FormedRequest | V1Request],
    signature: Signature,
) -> object:
    """What a request comes to, in a form that can be compared."""
    try:
        parsed = request()
        wanted = parsed.wanted(signature)
        arrays = parsed.tensors(signature, TENSORS_MAX)
        rows = count_rows(signature, arrays)
    except ServeError as refusal:
        return _checked(refusal)
    for spec, array in zip(signature.inputs, arrays, strict=True):
        assert array.dtype == spec.datatype.dtype
        assert array.ndim == len(spec.shape)
    shown = [(a.shape, a.tolist() if a.dtype == object else a.tobytes()) for a in arrays]
    return parsed.envelope, wanted, rows, shown


def _checked(refusal: ServeError) -> object:
    """A refusal that a reply can hold."""
    message = refusal.message
    assert 0 < len(message) <= MESSAGE_CHARACTERS_MAX
    message.encode()
    return type(refusal), message


def http_infer(data: bytes) -> None:
    """Bodies of infer, one after the other; what came before changes nothing."""
    signature = SIGNATURES[data[0] % len(SIGNATURES)] if data else SIGNATURES[0]
    form, bodies = data[1:2], data[2:]
    if form == b"h":  # a header length, and the body that it is about
        length, _, body = bodies.partition(b"\n")
        text = length.decode("latin-1")
        alone = _outcome(lambda: HttpRequest(body, text, DEPTH_MAX), signature)
        forms = BinaryForms()
        for _ in range(3):
            after = _outcome(lambda: HttpRequest(body, text, DEPTH_MAX, None, forms), signature)
            assert alone == after, f"a form changes a meaning: {alone!r}, {after!r}"
        return
    if form == b"r":
        _outcome(lambda: HttpRequest(bodies, "0", DEPTH_MAX), signature)
        return
    templates = Templates()
    for body in bodies.split(SEPARATOR)[:4] * 2:
        alone = _outcome(lambda body=body: HttpRequest(body, None, DEPTH_MAX), signature)
        after = _outcome(lambda body=body: HttpRequest(body, None, DEPTH_MAX, templates), signature)
        assert alone == after, f"a template changes a meaning: {alone!r}, {after!r}"


def grpc_message(data: bytes) -> None:
    """A serialized request, known or not; what is read of it can be sent again as raw tensors."""
    signature = SIGNATURES[data[0] % len(SIGNATURES)] if data else SIGNATURES[0]
    first = _outcome(lambda: GrpcRequest(data[1:]), signature)
    whole = _outcome(lambda: GrpcRequest(data[1:], in_place=False), signature)
    assert whole == first, f"where its tensors lie changes what a message means: {whole!r}"
    forms = Forms()
    for _ in range(3):
        assert _outcome(lambda: forms.parse(data[1:]), signature) == first
    if not isinstance(first, tuple) or len(first) != 4:
        return
    message = pb.ModelInferRequest.FromString(data[1:])
    arrays = GrpcRequest(data[1:]).tensors(signature, TENSORS_MAX)
    del message.inputs[:], message.raw_input_contents[:]
    for spec, array in zip(signature.inputs, arrays, strict=True):
        message.inputs.add(name=spec.name, datatype=spec.datatype.wire, shape=array.shape)
        message.raw_input_contents.append(binary_codec.encode_raw(array))
    again = message.SerializeToString()
    assert _outcome(lambda: GrpcRequest(again), signature) == first


def bytes_tensor(data: bytes) -> None:
    """A tensor's bytes; the first ones are its datatype and its shape."""
    if len(data) < 5:
        return
    datatype = DATATYPES[-1] if data[0] & 1 else DATATYPES[data[0] // 2 % len(DATATYPES)]
    # Small sizes mostly, and now and then one far beyond the data.
    shape = [size if size < 250 else 2 ** (size - 230) for size in data[1:3][: data[3] % 3]]
    blob = data[4:]
    signature = _signature(datatype, (-1,) * len(shape), 0)
    expected = _slowly(datatype, blob, math.prod(shape))
    try:
        array = binary_codec.decode_raw(
            signature, signature.inputs[0], blob, shape, math.prod(shape)
        )
    except ServeError:
        assert expected is None, "refused, and it is right"
        return
    assert expected is not None, "taken, and it is wrong"
    assert array.shape == tuple(shape)
    assert binary_codec.encode_raw(array) == expected


def _slowly(datatype: Datatype, blob: bytes, count: int) -> bytes | None:
    """The same bytes, BOOL as 0 and 1, if they are `count` elements; one after the other."""
    if datatype is Datatype.BOOL:
        return bytes(byte != 0 for byte in blob) if len(blob) == count else None
    if datatype is not Datatype.BYTES:
        return blob if len(blob) == count * datatype.itemsize else None
    rest = blob
    while rest:
        size = int.from_bytes(rest[:4], "little")
        if len(rest) < 4 + size:
            return None
        with suppress(UnicodeDecodeError):
            rest[4 : 4 + size].decode()
            rest, count = rest[4 + size :], count - 1
            continue
        return None
    return blob if count == 0 else None


def inflated(data: bytes) -> None:
    """A compressed body, as it came or made of the rest and then cut or changed."""
    if len(data) < 4:
        return
    coding = "gzip" if data[0] & 1 else "deflate"
    body = data[4:]
    if data[0] & 2:
        plain = body * (1 + data[1])
        body = gzip.compress(plain, 1, mtime=0) if coding == "gzip" else zlib.compress(plain, 1)
        body = body[: len(body) - data[2] % 16] + bytes(data[3] % 3)
    try:
        got = inflate(body, coding, INFLATED_BYTES_MAX)
    except TooLarge:
        stream = zlib.decompressobj(31 if coding == "gzip" else 15)
        assert len(stream.decompress(body, INFLATED_BYTES_MAX + 1)) > INFLATED_BYTES_MAX
        return
    except ServeError:
        return
    assert len(got) <= INFLATED_BYTES_MAX
    assert got == zlib.decompress(body, 31 if coding == "gzip" else 15)
    with suppress(ServeError):
        inflate(body + b"x", coding, INFLATED_BYTES_MAX)
        raise AssertionError("bytes behind the end are taken")


def http_connection(data: bytes) -> None:
    """A connection; in pieces, or with its heads known from before, it is answered alike."""
    if len(data) < 3:
        return
    signature = SIGNATURES[data[0] % len(SIGNATURES)]
    sent = data[3:]
    cut = int.from_bytes(data[1:3], "little") % (len(sent) + 1)
    gate = Gate(signature)
    answer = gate.exchange([sent])
    assert b"HTTP/1.1 500" not in answer
    assert gate.exchange([sent]) == answer, "what was seen before is answered differently"
    pieces = gate.exchange([sent[:cut], sent[cut:]])
    assert pieces == answer, "in pieces it is answered differently"


def http2_connection(data: bytes) -> None:
    """Frames behind the preface; nothing of a call outlives its connection."""
    if len(data) < 2:
        return
    sent = PREFACE + frame(SETTINGS, 0, 0) + data[2:]
    size = int.from_bytes(data[:2], "little") % (len(sent) + 1) or len(sent)
    said = World().exchange([sent[at : at + size] for at in range(0, len(sent), size)])
    for answer in said.answers.values():
        for fields in (answer.head, answer.trailers):
            assert fields.get("grpc-message") != "internal error", "a fault of ours"


class _Memory:
    """A region that is used inside of its bounds alone."""

    byte_size = 64

    def __init__(self) -> None:
        self._bytes = bytes(range(self.byte_size))

    def read(self, offset: int, size: int) -> bytes:
        self._check(offset, size)
        return self._bytes[offset : offset + size]

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))

    def _check(self, offset: int, size: int) -> None:
        assert 0 <= offset <= offset + size <= self.byte_size, "outside of the region"


def _find_memory(name: str) -> _Memory:
    if name != "r":
        raise InvalidRequest("there is no such region")
    return _Memory()


def shared_memory(data: bytes) -> None:
    """A request whose tensors lie in a region, and whose outputs shall."""
    signature = SIGNATURES[data[0] % len(SIGNATURES)] if data else SIGNATURES[0]
    body = data[2:]
    request: HttpRequest | GrpcRequest
    try:
        is_grpc = data[1:2] == b"g"
        request = GrpcRequest(body) if is_grpc else HttpRequest(body, None, DEPTH_MAX)
        wanted = request.wanted(signature, _find_memory)
        arrays = request.tensors(signature, TENSORS_MAX, _find_memory)
        for output in wanted:
            if output.place is not None:
                output.place.write(bytes(output.place.size), "y")
                output.place.write(bytes(output.place.size + 1), "y")
    except ServeError as refusal:
        _checked(refusal)
        return
    for spec, array in zip(signature.inputs, arrays, strict=True):
        assert array.dtype == spec.datatype.dtype


# V1 cannot carry the last one's output.
V1_SIGNATURES = (*SIGNATURES[:-1], replace(SIGNATURES[-1], outputs=(OUTPUT,)))


def v1_predict(data: bytes) -> None:
    """A body of `:predict`; what is taken of it is what V2 takes of the same values."""
    signature = V1_SIGNATURES[data[0] % len(V1_SIGNATURES)] if data else V1_SIGNATURES[0]
    body = data[1:]
    first = _outcome(lambda: V1Request(body, DEPTH_MAX), signature)
    if not isinstance(first, tuple) or len(first) != 4:
        return
    arrays = V1Request(body, DEPTH_MAX).tensors(signature, TENSORS_MAX)
    entries = [
        {"name": spec.name, "datatype": spec.datatype.wire, "shape": array.shape}
        | {"parameters": {"binary_data_size": len(binary_codec.encode_raw(array))}}
        for spec, array in zip(signature.inputs, arrays, strict=True)
    ]
    head = json.dumps({"inputs": entries}).encode()
    blob = b"".join(binary_codec.encode_raw(array) for array in arrays)
    again = _outcome(lambda: HttpRequest(head + blob, str(len(head)), DEPTH_MAX), signature)
    assert isinstance(again, tuple)
    assert again[2:] == first[2:]


RELAYED = (
    *(relayed_requests.index, relayed_requests.load, relayed_requests.unload),
    *(relayed_requests.trace_setting, relayed_requests.log_settings),
    relayed_requests.system_memory_register,
)
PATH = {"model": "m", "version": "1", "region": "r", "repository": ""}


def relayed_request(data: bytes) -> None:
    """The JSON body of an endpoint that the supervisor answers."""
    build = RELAYED[data[0] % len(RELAYED)] if data else RELAYED[0]
    try:
        document = parse_json(data[1:], DEPTH_MAX)
        if isinstance(document, dict):
            build(PATH, document).SerializeToString()
    except ServeError as refusal:
        _checked(refusal)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(http_infer, http_connection, grpc_message, bytes_tensor, inflated),
        http2_connection,
        *(v1_predict, relayed_request, shared_memory),
        *(model_file, model_config, log_message),
    )
}
