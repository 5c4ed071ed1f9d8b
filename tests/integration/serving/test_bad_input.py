"""Bad input through every door of a running worker, beside a client that behaves.

Every refusal is a 4xx or its gRPC twin, in one sentence that names input,
expected and got, and leaks nothing of ours; nobody else notices.
"""

import base64
import dataclasses
import gzip
import json
import random
import re
import threading
import zlib
from collections.abc import Iterator
from http.client import HTTPConnection

import grpc
import numpy as np
import pytest

from protos import inference_pb2 as pb
from tests.integration.serving import onnx_models
from tests.integration.serving.conftest import LIMITS, LOG
from tests.integration.serving.harness import HOST, WAIT_S, WorkerProcess, tensor

INFER = "/inference.GRPCInferenceService/ModelInfer"
CODES = {
    400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED",
}  # fmt: skip
LEAKS = re.compile(
    r"Traceback|object at 0x|\.py\b|<class|\bdtype\(|\barray\(|/(home|usr|tmp|work)/"
)
FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
DTYPES = {"INT8": "i1", "INT32": "i4", "INT64": "i8", "UINT8": "u1", "FP32": "f4", "FP64": "f8"}


@dataclasses.dataclass(frozen=True)
class Reply:
    """status: HTTP's, or of its gRPC twin; message: the error's sentence."""

    status: int
    message: str


@dataclasses.dataclass(frozen=True)
class Input:
    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[float, ...] = ()
    blob: bytes | None = None

    @property
    def raw(self) -> bytes:
        if self.blob is not None:
            return self.blob
        return np.array(self.values).astype(DTYPES.get(self.datatype, "f4")).tobytes()


class Neighbour:
    """A client that behaves, on one HTTP and one gRPC connection all along."""

    def __init__(self, worker: WorkerProcess) -> None:
        self.answered = 0
        self.problems: list[str] = []
        self._worker = worker
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._http, self._grpc)]

    def __enter__(self) -> "Neighbour":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _http(self) -> None:
        connection = HTTPConnection(HOST, self._worker.http_port, timeout=WAIT_S)
        connection.connect()
        first = connection.sock
        body = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]})
        while not self._stop.wait(0.005):
            try:
                connection.request("POST", "/v2/models/identity/infer", body)
                response = connection.getresponse()
                document = json.loads(response.read())
                self._note(response.status == 200, document)
                self._note(document["outputs"][0]["data"] == [1, 2, 3], document)
                self._note(connection.sock is first, "the connection was closed")
            except Exception as error:
                self.problems.append(repr(error))
        connection.close()

    def _grpc(self) -> None:
        data = np.float32([1, 2, 3]).tobytes()
        message = pb.ModelInferRequest(model_name="identity", raw_input_contents=[data])
        message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
        with grpc.insecure_channel(self._worker.grpc_target) as channel:
            call = channel.unary_unary(INFER)
            while not self._stop.wait(0.005):
                try:
                    reply = call(message.SerializeToString(), timeout=WAIT_S)
                    found = pb.ModelInferResponse.FromString(reply).raw_output_contents
                    self._note(list(found) == [data], found)
                except Exception as error:
                    self.problems.append(repr(error))

    def _note(self, good: bool, what: object) -> None:
        self.answered += good
        if not good:
            self.problems.append(str(what))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(tmp_path_factory.mktemp("bad"), limits=LIMITS, log=LOG)
    models = {
        "identity": onnx_models.identity(),
        "two": onnx_models.two_inputs(),
        "fixed": onnx_models.fixed_shape(),
        **{f"id.{datatype}": onnx_models.identity(datatype) for datatype in FIELDS},
    }
    try:
        worker.serve(models)
        with Neighbour(worker) as neighbour:
            yield worker
        assert worker.process.poll() is None, worker.errors()
        assert neighbour.problems == []
        assert neighbour.answered > 0
    finally:
        worker.stop()


@pytest.fixture(scope="module")
def channel(worker: WorkerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(worker.grpc_target) as channel:
        yield channel


@pytest.fixture
def ask(worker: WorkerProcess, channel: grpc.Channel):
    def over_http(model: str, body: bytes, headers: dict[str, str]) -> Reply:
        status, data, _ = worker.request("POST", f"/v2/models/{model}/infer", body, headers)
        return Reply(status, "" if status == 200 else json.loads(data)["error"])

    def over_json(model: str, inputs: list[Input]) -> Reply:
        entries = [tensor(i.name, i.datatype, i.shape, i.values) for i in inputs]
        return over_http(model, json.dumps({"inputs": entries}).encode(), {})

    def over_binary(model: str, inputs: list[Input]) -> Reply:
        entries = [
            {"name": i.name, "datatype": i.datatype, "shape": i.shape,
             "parameters": {"binary_data_size": len(i.raw)}}
            for i in inputs
        ]  # fmt: skip
        head = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
        body = head + b"".join(i.raw for i in inputs)
        return over_http(model, body, {"Inference-Header-Content-Length": str(len(head))})

    def over_grpc(model: str, inputs: list[Input], *, typed: bool = False) -> Reply:
        message = pb.ModelInferRequest(model_name=model)
        for i in inputs:
            entry = message.inputs.add(name=i.name, datatype=i.datatype, shape=i.shape)
            if typed:
                field = getattr(entry.contents, FIELDS.get(i.datatype, "fp32_contents"))
                field.extend(int(v) if "fp" not in FIELDS.get(i.datatype, "fp") else v
                             for v in i.values)  # fmt: skip
            else:
                message.raw_input_contents.append(i.raw)
        return grpc_reply(channel, message.SerializeToString())

    doors = {
        "json": over_json,
        "binary": over_binary,
        "grpc raw": over_grpc,
        "grpc typed": lambda model, inputs: over_grpc(model, inputs, typed=True),
    }
    return lambda door, model, inputs: doors[door](model, inputs)


def grpc_reply(channel: grpc.Channel, data: bytes) -> Reply:
    try:
        channel.unary_unary(INFER)(data, timeout=WAIT_S)
    except grpc.RpcError as error:
        by_name = {name: status for status, name in CODES.items()}
        return Reply(by_name.get(error.code().name, 500), error.details())
    return Reply(200, "")


def refused(reply: Reply, status: int, *words: str) -> None:
    assert reply.status == status, reply
    assert len(reply.message) <= 400
    assert reply.message.isprintable(), "one line, no control characters"
    assert not LEAKS.search(reply.message), reply.message
    for word in words:
        assert word in reply.message


EVERY = ("json", "binary", "grpc raw", "grpc typed")
RAW = ("binary", "grpc raw")
TYPED = ("json", "grpc typed")
X = Input("x", "FP32", (1, 3), (1, 2, 3))
A = Input("a", "FP32", (1, 4), (1, 2, 3, 4))
B = Input("b", "FP32", (1, 4), (1, 2, 3, 4))


def x(**changes) -> list[Input]:
    return [
        Input(**{"name": "x", "datatype": "FP32", "shape": (1, 3), "values": (1, 2, 3)} | changes)
    ]


CASES = {
    "wrong shape": ("identity", x(shape=(1, 4), values=(1, 2, 3, 4)), EVERY,
                    ("'x'", "'identity'", "Expected [-1,3]", "got [1,4]")),
    "wrong rank": ("identity", x(shape=(3,)), EVERY, ("'x'", "Expected [-1,3]", "got [3]")),
    "no dimensions": ("identity", x(shape=()), EVERY, ("'x'", "Expected [-1,3]", "got []")),
    "rank beyond all bounds": ("identity", x(shape=(1,) * 500), EVERY, ("'x'",)),
    "negative dimension": ("identity", x(shape=(-1, 3)), EVERY, ("'x'", "got [-1,3]")),
    "most negative dimension": ("identity", x(shape=(-(2**63), 3)), EVERY, ("'x'", "got [-9223")),
    "overflowing dimensions": ("identity", x(shape=(2**62, 3)), EVERY, ("'x'", "overflow")),
    "dimensions beyond all memory": ("identity", x(shape=(2**45, 3)), EVERY, ("'x'", "3", "got")),
    "a fixed shape": ("fixed", x(shape=(3, 2), values=(1,) * 6), EVERY,
                      ("'x'", "Expected [2,2]", "got [3,2]")),
    "more rows than a batch": ("identity", x(shape=(65, 3), values=(1,) * 195), EVERY,
                               ("batch-size must be <= 64", "got 65")),
    "wrong datatype": ("identity", x(datatype="INT32"), EVERY, ("'x'", "'INT32'", "'FP32'")),
    "unknown datatype": ("identity", x(datatype="FP33"), EVERY, ("'x'", "'FP33'", "'FP32'")),
    "no datatype": ("identity", x(datatype=""), EVERY, ("'x'", "''", "'FP32'")),
    "unknown input": ("identity", x(name="z"), EVERY, ("'z'", "'identity'", "Expected ['x']")),
    "nameless input": ("identity", x(name=""), EVERY, ("''", "Expected ['x']")),
    "a name of lines": ("identity", x(name="a\nb\x00\u2028"), EVERY, ("Expected ['x']",)),
    "a name without end": ("identity", x(name="n" * 10_000), EVERY, ("nnn", "Expected ['x']")),
    "missing input": ("two", [A], EVERY, ("expected 2 inputs but got 1", "'two'", "['b']")),
    "no input": ("identity", [], EVERY, ("expected 1 inputs but got 0", "'identity'")),
    "extra input": ("two", [A, B, Input("c", "FP32", (1, 4), (1, 2, 3, 4))], EVERY,
                    ("'c'", "'two'", "Expected ['a','b']")),
    "the same input twice": ("two", [A, A], EVERY, ("'a'", "already exists")),
    "more inputs than the limit": ("two", [A] * 65, EVERY, ("at most 64 inputs", "got 65")),
    "rows that differ": ("two", [A, Input("b", "FP32", (2, 4), (1,) * 8)], EVERY,
                         ("'b'", "batch size")),
    "too few elements": ("identity", x(values=(1, 2)), TYPED, ("'x'", "Expected 3", "got 2")),
    "too many elements": ("identity", x(values=(1, 2, 3, 4)), TYPED,
                          ("'x'", "Expected 3", "got 4")),
    "too few bytes": ("identity", x(blob=bytes(11)), RAW, ("'x'", "Expected 12", "got 11")),
    "too many bytes": ("identity", x(blob=bytes(13)), RAW, ("'x'", "Expected 12", "got 13")),
    "int8 above": ("id.INT8", x(datatype="INT8", values=(1, 128, 2)), TYPED, ("'x'", "INT8")),
    "int8 below": ("id.INT8", x(datatype="INT8", values=(-129, 1, 2)), TYPED, ("'x'", "INT8")),
    "uint8 above": ("id.UINT8", x(datatype="UINT8", values=(256, 1, 2)), TYPED, ("'x'", "UINT8")),
    "uint8 negative": ("id.UINT8", x(datatype="UINT8", values=(-1, 1, 2)), ("json",),
                       ("'x'", "UINT8")),
    "int32 above": ("id.INT32", x(datatype="INT32", values=(2**31, 1, 2)), ("json",),
                    ("'x'", "INT32")),
    "int64 above": ("id.INT64", x(datatype="INT64", values=(2**63, 1, 2)), ("json",),
                    ("'x'", "INT64")),
    "uint64 above": ("id.UINT64", x(datatype="UINT64", values=(2**64, 1, 2)), ("json",),
                     ("'x'", "UINT64")),
    "float for an integer": ("id.INT32", x(datatype="INT32", values=(1.5, 1, 2)), ("json",),
                             ("'x'", "INT32", "1.5")),
    "float out of range": ("identity", x(values=(1e39, 1, 2)), ("json",), ("'x'", "FP32", "1e+39")),
    "strings cut in a length": ("id.BYTES", x(datatype="BYTES", blob=b"\1\0\0"), RAW, ("'x'",)),
    "strings cut in the text": ("id.BYTES", x(datatype="BYTES", blob=b"\x09\0\0\0abc"), RAW,
                                ("'x'",)),
    "a string of 4 GiB": ("id.BYTES", x(datatype="BYTES", blob=b"\xff\xff\xff\xffabc"), RAW,
                          ("'x'",)),
    "too few strings": ("id.BYTES", x(datatype="BYTES", blob=b"\1\0\0\0a"), RAW,
                        ("'x'", "Expected 12", "got 5")),
    "strings that are no text": ("id.BYTES", x(datatype="BYTES", blob=b"\1\0\0\0\xff" * 3), RAW,
                                 ("'x'", "UTF-8")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "inputs", "door", "words"),
    [
        pytest.param(model, inputs, door, words, id=f"{name}, {door}")
        for name, (model, inputs, doors, words) in CASES.items()
        for door in doors
    ],
)
def test_a_bad_tensor_is_refused_by_name_through_every_door(ask, model, inputs, door, words):
    refused(ask(door, model, inputs), 400, *words)


@pytest.mark.parametrize("door", EVERY)
def test_what_is_right_is_answered_through_every_door(ask, door):
    assert ask(door, "identity", [X]) == Reply(200, "")
    assert ask(door, "two", [B, A]) == Reply(200, "")


@pytest.mark.parametrize("door", EVERY)
@pytest.mark.parametrize("model", ["nope", "identity2", "Identity", "n" * 129])
def test_an_unknown_model_is_not_found(ask, door, model):
    refused(ask(door, model, [X]), 404, "unknown model", model[:60])


def test_an_unknown_version_is_not_found(worker, channel):
    body = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
    for version in ("2", "0", "-1", "latest", "99999999999999999999"):
        status, data, _ = worker.request(
            "POST", f"/v2/models/identity/versions/{version}/infer", body
        )
        refused(Reply(status, json.loads(data)["error"]), 404, f"version '{version}'")
        message = pb.ModelInferRequest(model_name="identity", model_version=version)
        refused(grpc_reply(channel, message.SerializeToString()), 404, f"version '{version}'")


def test_nan_infinities_and_odd_zeros_are_data_through_every_door(worker, channel):
    bits = np.uint32([0x7FC00001, 0xFF800000, 0x7F800000, 0x80000000, 0x00000001, 0x7F800001])
    data = bits.tobytes()
    entry = {"name": "x", "datatype": "FP32", "shape": [2, 3]}
    head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": 24}}],
                       "parameters": {"binary_data_output": True}}).encode()  # fmt: skip
    status, body, headers = worker.request(
        "POST", "/v2/models/identity/infer", head + data,
        {"Inference-Header-Content-Length": str(len(head))},
    )  # fmt: skip
    assert status == 200
    assert body[int(headers["Inference-Header-Content-Length"]) :] == data
    message = pb.ModelInferRequest(model_name="identity", raw_input_contents=[data])
    message.inputs.add(**entry)
    reply = channel.unary_unary(INFER)(message.SerializeToString(), timeout=WAIT_S)
    assert pb.ModelInferResponse.FromString(reply).raw_output_contents == [data]
    text = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[NaN,-Infinity,1e-50]}]}'
    status, document = worker.infer("identity", text)
    assert status == 200
    assert str(document["outputs"][0]["data"]) == "[nan, -inf, 0.0]"


GOOD = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
BODIES = {
    "nothing": b"",
    "cut": GOOD[:-1],
    "cut in a string": GOOD[:10],
    "something after": GOOD + b"x",
    "two documents": GOOD + GOOD,
    "no object": b"[1]",
    "not UTF-8": b'{"id": "\xff", ' + GOOD[1:],
    "a lone surrogate": b'{"id": "\\ud800", ' + GOOD[1:],
    "deep arrays": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "deep and never closed": b"[" * 200_000,
    "deep data": GOOD.replace(b"[1, 2, 3]", b"[" * 99 + b"1" + b"]" * 99),
    "a number without end": GOOD.replace(b"2,", b"9" * 100_000 + b","),
    "an exponent without end": GOOD.replace(b"2,", b"1e" + b"9" * 1000 + b","),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "NaN where no data is": GOOD.replace(b"[1, 3]", b"[NaN, 3]"),
    "many small things": b'{"inputs":[' + b"{}," * 60_000 + b"{}]}",
    "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(20_000)) + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_bad_document_is_refused(worker, body):
    status, document = worker.infer("identity", body)
    refused(Reply(status, document.get("error", "")), 400)
    assert "sys." not in document["error"]


PACKED = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", PACKED)
def test_packed_bodies_that_lie_are_refused(worker, encoding):
    def sent(data: bytes) -> Reply:
        status, document = worker.infer("identity", data, Content_Encoding=encoding)
        return Reply(status, document.get("error", ""))

    pack = PACKED[encoding]
    bomb = pack(bytes(50_000_000))
    assert len(bomb) < LIMITS.body_bytes_max
    refused(sent(bomb), 413, f"exceeds the limit of {LIMITS.body_bytes_max}")
    refused(sent(pack(GOOD)[:-3]), 400, f"not complete {encoding} data")
    refused(sent(b"x" * 50), 400, f"not valid {encoding} data")
    refused(sent(b""), 400, "")
    refused(sent(pack(GOOD) + b"xyz"), 400, "3 bytes after the end")
    refused(sent(pack(pack(GOOD))), 400, "failed to parse")
    assert sent(pack(GOOD)).status == 200


NO_NUMBERS = ["\u00b2", "\u00b9\u00b2", "-1", "+1", "1e3", "1_0", "0x1", "1 1", "9" * 25]


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("header", ["Inference-Header-Content-Length", "X-Request-Timeout-Ms"])
def test_a_header_that_is_no_number_is_refused_by_name(worker, header, text):
    status, data, _ = worker.request("POST", "/v2/models/identity/infer", GOOD, {header: text})
    refused(
        Reply(status, json.loads(data)["error"]),
        400,
        "must be a non-negative integer",
        f"got '{text}'",
    )


def test_every_refused_request_is_counted_also_one_that_could_not_be_read(worker, channel):
    def counted(model: str, protocol: str) -> float:
        return worker.metric("driftgate_requests_total", model, "unknown", protocol, "400")

    def bad(**headers: str) -> None:
        assert worker.infer("identity", b"x", **headers)[0] == 400

    http, grpc_known, grpc_unknown = (
        ("identity", "http"), ("identity", "grpc"), ("unknown", "grpc")
    )  # fmt: skip
    before = {key: counted(*key) for key in (http, grpc_known, grpc_unknown)}
    bad()
    bad(Content_Encoding="gzip")
    bad(X_Request_Timeout_Ms="soon")
    refused(grpc_reply(channel, b"\xff\xff"), 400)
    without_value = pb.ModelInferRequest(model_name="identity")
    without_value.parameters["p"].SetInParent()
    refused(grpc_reply(channel, without_value.SerializeToString()), 400, "'p' has no value")
    refused(grpc_reply(channel, pb.ModelInferRequest(model_name="identity").SerializeToString()),
            400, "missing required input")  # fmt: skip
    assert {key: counted(*key) - before[key] for key in before} == {
        http: 3, grpc_known: 1, grpc_unknown: 2,
    }  # fmt: skip


METHODS = (
    "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/Check", INFER,
    *(f"/inference.GRPCInferenceService/{name}" for name in
      ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata")),
)  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_are_refused_by_every_method(channel, method):
    with pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(method)(b"\xff\xff", timeout=WAIT_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "the message is not valid protobuf of this method"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/identity/labels", 200),
        ("POST", "/v2/models/identity/labels/", 200),
        ("POST", "/v2/models/identity/infer/", 200),
        ("GET", "/v2/", 200),
        ("GET", "/v2/models/identity/ready/", 200),
        ("GET", "/v2//", 404),
        ("GET", "/v2/models/identity//", 404),
        ("GET", "/v2/models/identity/labels/", 405),
        ("PUT", "/v2", 405),
    ],
)
def test_a_path_may_end_in_a_slash_and_none_is_redirected(worker, method, path, status):
    connection = HTTPConnection(HOST, worker.http_port, timeout=WAIT_S)
    body = {"labels": b"[]", "infer": GOOD}.get(path.strip("/").split("/")[-1], b"")
    connection.request(method, path, body)
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    assert response.status == status
    assert status == 200 or list(document) == ["error"]
    assert (response.getheader("Allow") is not None) == (status == 405)


def test_messages_beyond_the_limit_are_refused_also_when_they_are_packed(worker):
    message = pb.ModelInferRequest(model_name="identity", raw_input_contents=[bytes(4_000_000)])
    message.inputs.add(name="x", datatype="FP32", shape=[333_333, 3])
    for packing in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(worker.grpc_target, compression=packing) as channel:
            refused(grpc_reply(channel, message.SerializeToString()), 413)
            small = pb.ModelInferRequest(model_name="nope")
            refused(grpc_reply(channel, small.SerializeToString()), 404)


@pytest.fixture(scope="module")
def prediction_id(worker) -> str:
    return str(worker.infer("identity", GOOD)[1]["parameters"]["prediction_id"])


def changed(prediction_id: str, place: int) -> str:
    """The id with one hexadecimal digit changed."""
    digit = "0" if prediction_id[place] != "0" else "1"
    return prediction_id[:place] + digit + prediction_id[place + 1 :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: changed(i, -1), ("was not issued here",)),  # the MAC
        (lambda i: changed(i, -5), ("was not issued here",)),  # the sequence number
        (lambda i: changed(i, 0), ("was not issued here",)),  # the time
        (lambda i: i[:-1], ("was not issued here",)),
        (lambda i: i + "0", ("was not issued here",)),
        (lambda i: i.replace("-", ""), ("was not issued here",)),
        (lambda i: f"{{{i}}}", ("was not issued here",)),
        (lambda i: "", ("was not issued here",)),
        (lambda i: "x" * 100_000, ("was not issued here",)),
        (lambda i: i + ".", ("is not a number from 0 to 4294967295",)),
        (lambda i: i + ".-1", ("is not a number from 0 to 4294967295",)),
        (lambda i: i + ".1.1", ("is not a number from 0 to 4294967295",)),
        (lambda i: i + ".4294967296", ("is not a number from 0 to 4294967295",)),
        (lambda i: i + "." + "9" * 5000, ("is not a number from 0 to 4294967295",)),
        (lambda i: i + ".\u0661", ("is not a number from 0 to 4294967295",)),
        (lambda i: None, ("must be a string", "'None'")),
        (lambda i: [i], ("must be a string",)),
    ],
    ids=range(17),
)
def test_a_label_of_a_malformed_prediction_id_is_refused(worker, prediction_id, change, words):
    labels = [
        {"prediction_id": prediction_id, "label": 1},
        {"prediction_id": change(prediction_id), "label": 1},
    ]
    refused(post_labels(worker, json.dumps(labels).encode()), 400, "label 1", *words)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("null", ("'label' must be", "'None'")),
        ("[1]", ("'label' must be",)),
        ("NaN", ()),
        ("1e400", ("a number is too large",)),
        ("1" + "0" * 400, ("'label' must be",)),
        ('"' + "x" * 1025 + '"', ("at most 1024 characters",)),
        ('"\\ud800"', ()),
        ("1,", ()),
        ("[" * 50_000, ()),
        ('1, "ts": -1', ("'ts' must be", "'-1'")),
        ('1, "ts": 1e300', ("'ts' must be",)),
        ('1, "ts": "2024-01-01"', ("'ts' must be", "with a zone")),
        ('1, "ts": true', ("'ts' must be",)),
        ('1, "ts": "0001-01-01T00:00:00+23:59"', ("'ts' must be",)),
        ('1, "ts": "9999-12-31T23:59:59-23:59"', ("'ts' must be",)),
    ],
    ids=range(15),
)
def test_a_malformed_label_is_refused(worker, prediction_id, label, words):
    body = f'[{{"prediction_id": "{prediction_id}", "label": {label}}}]'.encode()
    refused(post_labels(worker, body), 400, *words)


def test_labels_have_a_limit_of_number_and_size(worker):
    refused(post_labels(worker, b"[" + b"0," * 65_536 + b"0]"), 400, "65536", "65537")
    refused(post_labels(worker, b" " * 300_000), 413, "300000", str(LIMITS.body_bytes_max))
    refused(post_labels(worker, b"{}"), 400, "labels must be an array")
    refused(post_labels(worker, b""), 400)


def post_labels(worker: WorkerProcess, body: bytes) -> Reply:
    status, data, _ = worker.request("POST", "/v2/models/identity/labels", body)
    return Reply(status, json.loads(data).get("error", ""))


def mutations(rng: random.Random, data: bytes, count: int) -> Iterator[bytes]:
    """`data` with bytes changed, cut out, doubled, or cut off."""
    spice = [b"\x00", b"\xff", b"-", b"9" * 30, b"[", b"{", b'"', b"\\u", b"null", b"NaN", b"e"]
    for _ in range(count):
        found = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(found) + 1)
            length = rng.randrange(12)
            piece = rng.choice(
                [b"", rng.choice(spice), rng.randbytes(length), bytes(found[place : place + 20])]
            )
            found[place : place + rng.choice([0, len(piece), length])] = piece
        yield bytes(found[: rng.randrange(len(found) + 1)] if rng.random() < 0.1 else found)


EXPECTED = {200, 400, 404, 413, 501}


def test_whatever_arrives_is_answered_and_is_never_our_fault(worker, channel):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    two = {"inputs": [tensor(n, "FP32", [1, 4], [1, 2, 3, 4]) for n in "ab"], "id": "q",
           "outputs": [{"name": "s", "parameters": {"binary_data": True}}],
           "parameters": {"binary_data_output": False, "sequence_id": 7}}  # fmt: skip
    words = {"inputs": [tensor("x", "BYTES", [1, 3], ["a", "\u20ac", ""])]}
    for model, document in (("two", two), ("id.BYTES", words)):
        for body in mutations(rng, json.dumps(document).encode(), 300):
            status, data, _ = worker.request("POST", f"/v2/models/{model}/infer", body)
            assert status in EXPECTED, (body, data)
            assert status == 200 or not LEAKS.search(data.decode()), (body, data)
    entry = {"name": "x", "datatype": "BYTES", "shape": [1, 3],
             "parameters": {"binary_data_size": 18}}  # fmt: skip
    head = json.dumps({"inputs": [entry]}).encode()
    for body in mutations(rng, head + b"\2\0\0\0hi" * 3, 300):
        status, data, _ = worker.request(
            "POST", "/v2/models/id.BYTES/infer", body,
            {"Inference-Header-Content-Length": str(len(head))},
        )  # fmt: skip
        assert status in EXPECTED, (body, data)
        assert status == 200 or not LEAKS.search(data.decode()), (body, data)
    message = pb.ModelInferRequest(model_name="id.INT8", id="q")
    message.parameters["sequence_id"].int64_param = 7
    message.inputs.add(name="x", datatype="INT8", shape=[1, 3]).contents.int_contents.extend(
        [1, -2, 3]
    )
    raw = pb.ModelInferRequest(model_name="two", raw_input_contents=[bytes(16), bytes(16)])
    for name in "ab":
        raw.inputs.add(name=name, datatype="FP32", shape=[1, 4])
    for request in (message, raw):
        for data in mutations(rng, request.SerializeToString(), 300):
            reply = grpc_reply(channel, data)
            assert reply.status in EXPECTED, (base64.b64encode(data), reply)
            assert not LEAKS.search(reply.message), (base64.b64encode(data), reply)
