"""The seeds of the corpus: `python -m tests.fuzz.seeds` writes them, one file each.

Small inputs, each for a form that mutation alone would take long to reach. What
a fuzzer finds is added to corpus/TARGET by hand, minimised, under a name that
says what it was.
"""

import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np

from eventlog import GapReason, Label, encode_labels, encode_predictions, fake_rows
from eventlog.core.kafka_message import to_message
from eventlog.core.marks import end_record, gap_record, heartbeat_record
from protos import inference_pb2 as pb
from serving.core.binary_codec import encode_raw
from serving.core.datatypes import Array, Datatype
from tests.fuzz.http2 import BEGIN, STREAM, UNARY
from tests.fuzz.records import SEPARATOR as RECORD_SEPARATOR
from tests.fuzz.records import TOPIC
from tests.fuzz.targets import DATATYPES, SEPARATOR, SIGNATURES
from tests.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    head,
    message,
    whole_call,
)

CORPUS = Path(__file__).with_name("corpus")


def _values(datatype: Datatype, shape: tuple[int, ...]) -> Array:
    size = math.prod(shape)
    if datatype is Datatype.BYTES:
        array = np.empty(size, dtype=object)
        array[:] = [f"s{i}é".encode() for i in range(size)]
        return array.reshape(shape)
    return np.arange(size).astype(datatype.dtype).reshape(shape)


def _plain(array: Array) -> list[object]:
    return [x.decode() if isinstance(x, bytes) else x for x in array.reshape(-1).tolist()]


def http_seeds() -> dict[str, bytes]:
    seeds = {}
    for index, datatype in enumerate(DATATYPES):
        array = _values(datatype, (1, 2))
        entry = {"name": "x", "shape": [1, 2], "datatype": datatype.wire}
        chosen = bytes([index])
        if datatype.in_json:
            body = json.dumps({"inputs": [entry | {"data": _plain(array)}]}).encode()
            seeds[f"json-{datatype.wire}"] = chosen + b"j" + body + SEPARATOR + body
        blob = encode_raw(array)
        size = {"parameters": {"binary_data_size": len(blob)}}
        head = json.dumps({"inputs": [entry | size]}).encode()
        seeds[f"binary-{datatype.wire}"] = chosen + b"h%d\n" % len(head) + head + blob
        seeds[f"raw-{datatype.wire}"] = chosen + b"r" + blob
    fp32 = bytes([DATATYPES.index(Datatype.FP32)])

    def fp32_body(data: str, more: str = "") -> bytes:
        text = '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":%s}]%s}'
        return (text % (data, more)).encode()

    seeds["json-nan"] = fp32 + b"j" + fp32_body("[NaN,-Infinity]")
    seeds["json-nested"] = fp32 + b"j" + fp32_body("[[1,2e0]]") + SEPARATOR + fp32_body("[[3,4]]")
    more = ',"id":"i","parameters":{"timeout":5,"routing_key":"k","binary_data_output":true}'
    seeds["json-envelope"] = fp32 + b"j" + fp32_body("[1,2]", more)
    more = ',"outputs":[{"name":"y","parameters":{"binary_data":true}}]'
    seeds["json-outputs"] = fp32 + b"j" + fp32_body("[1,2]", more) + SEPARATOR + fp32_body("[1]")
    twice = fp32_body("[1,2]").replace(b'"data"', b'"data":[5,6],"data"')
    seeds["json-key-twice"] = fp32 + b"j" + twice + SEPARATOR + twice
    seeds["json-deep"] = fp32 + b"j" + b"[" * 30 + b"]" * 30
    seeds["json-big-numbers"] = fp32 + b"j" + fp32_body("[1e400,9" + "9" * 30 + "]")
    seeds["json-surrogates"] = bytes([13]) + b"j" + fp32_body('["\\ud800","\\ud83d\\ude00"]')
    seeds["header-beyond"] = fp32 + b"h99999\n{}"
    seeds["header-odd-digits"] = fp32 + b"h\xb2\n{}"
    two = {"inputs": [
        {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["t"]},
        {"name": "a", "shape": [1, 1], "datatype": "FP64", "parameters": {"binary_data_size": 8}},
    ]}  # fmt: skip
    head = json.dumps(two).encode()
    chosen = bytes([len(SIGNATURES) - 1])
    seeds["two-mixed"] = chosen + b"h%d\n" % len(head) + head + bytes(8)
    return seeds


def grpc_seeds() -> dict[str, bytes]:
    fields = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32",
              "FP64": "fp64", "BYTES": "bytes"}  # fmt: skip
    seeds = {}
    for index, datatype in enumerate(DATATYPES):
        array = _values(datatype, (1, 2))
        raw = pb.ModelInferRequest(model_name="m", raw_input_contents=[encode_raw(array)])
        raw.inputs.add(name="x", datatype=datatype.wire, shape=[1, 2])
        seeds[f"raw-{datatype.wire}"] = bytes([index]) + raw.SerializeToString()
        if not datatype.in_json:
            continue
        field = fields.get(datatype.wire, "uint" if datatype.wire[0] == "U" else "int")
        typed = pb.ModelInferRequest(model_name="m", id="i")
        entry = typed.inputs.add(name="x", datatype=datatype.wire, shape=[1, 2])
        getattr(entry.contents, field + "_contents").extend(array.reshape(-1).tolist())
        typed.parameters["timeout"].int64_param = 7
        typed.outputs.add(name="y").parameters["binary_data"].bool_param = True
        seeds[f"typed-{datatype.wire}"] = bytes([index]) + typed.SerializeToString()
    huge = pb.ModelInferRequest(model_name="m")
    huge.inputs.add(name="x", datatype="FP32", shape=[2**62, 2])
    fp32 = bytes([DATATYPES.index(Datatype.FP32)])
    seeds["huge-shape"] = fp32 + huge.SerializeToString()
    plain = seeds["raw-FP32"]
    field, tensor = plain[-10:-8], plain[-8:]  # of `raw_input_contents`, and its length
    seeds["raw-in-the-middle"] = plain + b"\x1a\1i"
    seeds["raw-before-a-group"] = plain + b"\x43\x0a\0\x44"
    seeds["raw-before-what-is-unknown"] = plain + b"\x42\1u\x4d\0\0\0\0"
    seeds["raw-of-a-long-length"] = plain[:-10] + field[:1] + b"\x88\0" + tensor
    seeds["raw-of-a-long-tag"] = plain[:-10] + b"\xba\0" + field[1:] + tensor
    seeds["raw-cut-off"] = plain[:-1]
    seeds["raw-as-a-number"] = plain[:-10] + b"\x38\7"
    return seeds


def tensor_seeds() -> dict[str, bytes]:
    seeds = {"far-too-many": b"\1\xff\xff\2" + b"\1\0\0\0a"}
    for index, datatype in enumerate(DATATYPES):
        chosen = b"\1" if datatype is Datatype.BYTES else bytes([2 * index])
        seeds[datatype.wire] = chosen + b"\1\2\2" + encode_raw(_values(datatype, (1, 2)))
        seeds[f"{datatype.wire}-scalar"] = chosen + b"\0\0\0" + encode_raw(_values(datatype, ()))
    seeds["cut-in-a-length"] = b"\1\2\0\1" + b"\1\0\0\0a\1\0"
    seeds["a-length-of-4-gib"] = b"\1\1\0\1" + b"\xff\xff\xff\xffabc"
    seeds["not-text"] = b"\1\1\0\1" + b"\1\0\0\0\xff"
    return seeds


def compressed_seeds() -> dict[str, bytes]:
    text = b'{"inputs": []}'
    return {
        "gzip": b"\1\0\0\0" + gzip.compress(text, mtime=0),
        "deflate": b"\0\0\0\0" + zlib.compress(text),
        "deflate-without-frame": b"\0\0\0\0" + zlib.compress(text)[2:-4],
        "gzip-twice": b"\1\0\0\0" + gzip.compress(text, mtime=0) * 2,
        "gzip-of-a-bomb": b"\1\0\0\0" + gzip.compress(bytes(1_000_000), mtime=0),
        "gzip-made-and-cut": b"\3\x20\3\0" + text,
        "deflate-made": b"\2\xff\0\0" + text,
    }


def connection_seeds() -> dict[str, bytes]:
    chosen = bytes([DATATYPES.index(Datatype.FP32)])

    def request(target: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
        lines = [f"{method} {target} HTTP/1.1", "Host: h", *headers]
        if not any(header.startswith(("Transfer", "Content-L")) for header in headers):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    infer, text = "/v2/models/m/infer", b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32",'
    body = text + b'"data":[1,2]}]}'
    one = request(infer, body)
    raw = np.float32([1, 2]).tobytes()
    binary = text + b'"parameters":{"binary_data_size":8}}]}'
    streams = {
        "infer": one,
        "infer-twice": one + one,
        "infer-of-a-version": request("/v2/models/m/versions/1/infer?a=b", body),
        "infer-encoded": request("/v2/models/%6d/inf%65r/", body),
        "infer-binary": request(
            infer, binary + raw, f"Inference-Header-Content-Length: {len(binary)}"
        ) + one,
        "infer-raw": request(infer, raw, "Inference-Header-Content-Length: 0"),
        "infer-gzip": request(infer, gzip.compress(body, mtime=0), "Content-Encoding: gzip"),
        "infer-bad-gzip": request(infer, body, "content-encoding: gzip", "X-Routing-Key: k"),
        "infer-chunked": request(
            infer, b"%x;e=1\r\n%b\r\n0\r\nt: v\r\n\r\n" % (len(body), body),
            "Transfer-Encoding: chunked", "x-request-timeout-ms: 5",
        ),
        "infer-continue": request(infer, body, "Expect: 100-continue"),
        "infer-traced": b"".join(
            request(infer, body, f"X-Request-Id: {n}", f"traceparent: 00-{n:032x}-{n:016x}-01")
            for n in (1, 2)
        ),
        "infer-last": request(infer, body, "Connection: close") + one,
        "upgrade": request(infer, body, "Connection: Upgrade", "Upgrade: h2c") + one,
        "two-lengths": request(infer, body, "Content-Length: 5", "Content-Length: 6"),
        "get-and-infer": request("/v2", b"", method="GET") + one,
        "head-and-get": request("/v2", b"", method="HEAD") + request("/v2", b"", method="GET"),
        "labels": request("/v2/models/m/labels", b"[]") + one,
        "hidden-slash": request("/v2/models/a%2fb/infer", body),
        "connect": request("/v2", b"", method="CONNECT"),
        "http-1.0": one.replace(b"HTTP/1.1", b"HTTP/1.0") + one,
        "nonsense-behind": one + b"\r\n\0\xff",
    }  # fmt: skip
    return {name: chosen + b"\x28\0" + stream for name, stream in streams.items()}


def http2_seeds() -> dict[str, bytes]:
    one = message(b"text" * 8)
    packed = message(gzip.compress(b"text" * 40, mtime=0), 1)
    opened = frame(HEADERS, END_HEADERS, 1, block(head(STREAM, grpc_accept_encoding="gzip")))
    long = block([*head(UNARY), ("x-long", "v" * 9000)])
    streams = {
        "begin": whole_call(1, one, BEGIN, x_routing_key="k", grpc_timeout="5S"),
        "unary-packed": whole_call(1, packed, UNARY, grpc_encoding="gzip"),
        "stream": whole_call(1, one * 3, STREAM, grpc_accept_encoding="deflate"),
        "refused": whole_call(1, message(b"!no"), BEGIN) + whole_call(3, message(b"!"), STREAM),
        "parts": opened + frame(DATA, PADDED, 1, b"\2" + one[:3] + b"pp")
        + frame(DATA, 0, 1, one[3:])
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, block([("t", "v")])),
        "cancelled": opened + frame(DATA, 0, 1, one) + frame(RST_STREAM, 0, 1, bytes(3) + b"\x08"),
        "continued": frame(HEADERS, END_STREAM, 1, block(head(UNARY))[:40])
        + frame(CONTINUATION, END_HEADERS, 1, block(head(UNARY))[40:]),
        "window": frame(SETTINGS, 0, 0, b"\0\4\0\0\0\5") + whole_call(1, one, BEGIN)
        + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x40") + frame(WINDOW_UPDATE, 0, 1, bytes(4)),
        "too-long": whole_call(1, b"\0\0\1\0\0", UNARY) + whole_call(3, one, UNARY),
        "metadata": frame(HEADERS, END_HEADERS | END_STREAM, 1, long) + whole_call(3, one, BEGIN),
        "no-grpc": whole_call(1, one, BEGIN, content_type="a/b") + whole_call(3, one, "/no"),
        "ping-goaway": frame(PING, 0, 0, bytes(8)) + whole_call(1, one, UNARY)
        + frame(GOAWAY, 0, 0, bytes(8)),
    }  # fmt: skip
    return {name: b"\0\0" + sent for name, sent in streams.items()} | {
        f"{name}-slowly": b"\5\0" + streams[name] for name in ("stream", "parts", "window")
    }


def v1_seeds() -> dict[str, bytes]:
    fp32, text = bytes([DATATYPES.index(Datatype.FP32)]), bytes([DATATYPES.index(Datatype.BYTES)])
    two = bytes([len(SIGNATURES) - 1])
    bodies = {
        "rows": fp32 + b'{"instances": [[1, 2], [3, 4.5]]}',
        "rows-named": fp32 + b'{"signature_name": "", "instances": [{"x": [NaN, 2]}]}',
        "tensors": fp32 + b'{"inputs": [[1, 2]]}',
        "tensors-named": fp32 + b'{"inputs": {"x": [[1, -Infinity]]}}',
        "base64": text + b'{"instances": [[{"b64": "aGE="}, "\\u00e9"]]}',
        "uneven": fp32 + b'{"instances": [[1, 2], [3]]}',
        "two-rows": two + b'{"instances": [{"a": [1], "b": "t"}, {"b": "u", "a": [2]}]}',
        "two-tensors": two + b'{"inputs": {"a": [[1]], "b": ["t"]}}',
    }
    scalar = bytes([len(DATATYPES)])
    return bodies | {"scalar": scalar + b'{"inputs": 3}'}


def relayed_seeds() -> dict[str, bytes]:
    return {
        "index": b'\0{"ready": true}',
        "load": b'\1{"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}}',
        "unload": b'\2{"parameters": {"unload_dependents": false, "n": 7}}',
        "trace": b'\3{"trace_level": ["OFF"], "trace_rate": "5", "log_frequency": null}',
        "log": b'\4{"log_info": true, "log_verbose_level": 1, "log_format": "default"}',
        "register": b'\5{"key": "/k", "offset": 8, "byte_size": 64}',
    }


def memory_seeds() -> dict[str, bytes]:
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 8, "shared_memory_offset": 56}
    entry = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": place}
    output = {
        "name": "y",
        "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 4},
    }
    fp32 = bytes([DATATYPES.index(Datatype.FP32)])
    document = {"inputs": [entry], "outputs": [output]}
    beyond = {"inputs": [entry | {"parameters": place | {"shared_memory_offset": 57}}]}
    message = pb.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    tensor.parameters["shared_memory_region"].string_param = "r"
    tensor.parameters["shared_memory_byte_size"].int64_param = 8
    asked = message.outputs.add(name="y")
    asked.parameters["shared_memory_region"].string_param = "r"
    asked.parameters["shared_memory_byte_size"].int64_param = 64
    return {
        "http": fp32 + b"j" + json.dumps(document).encode(),
        "http-beyond": fp32 + b"j" + json.dumps(beyond).encode(),
        "grpc": fp32 + b"g" + message.SerializeToString(deterministic=True),
    }


def model_seeds() -> dict[str, bytes]:
    """Written field by field: what a library makes may change with its version."""

    def field(number: int, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return bytes([number << 3 | 2, len(body)]) + body

    dims = field(2, field(1, b"\x12\x01N"), field(1, b"\x08\x02"))
    value = field(1, b"x") + field(2, field(1, b"\x08\x01", dims))
    location = field(13, field(1, b"location"), field(2, b"weights.bin"))
    outside = field(13, field(1, b"location"), field(2, b"../secret"))
    tensor = b"\x08\x04\x10\x01" + field(8, b"w")
    external = tensor + location + field(13, field(1, b"length"), field(2, b"16")) + b"\x70\x01"
    node = field(1, field(5, field(5, tensor)), field(5, field(6, field(11, value))))
    ports = field(11, value) + field(12, value)
    return {
        "ports": b"\x08\x08" + field(7, ports),
        "external": field(7, ports, field(5, external)),
        "outside": field(7, ports, field(5, tensor, outside, b"\x70\x01")),
        "nested": field(7, node, ports),
        "cut": field(7, ports, field(5, external))[:-9],
    }


def config_seeds() -> dict[str, bytes]:
    tensors = 'input [{ name: "x" data_type: TYPE_FP32 dims: [ -1, 2 ] }]\n'
    batching = "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 5 }"
    return {
        "file": f'fname: "m"\nmax_batch_size: 8\n{tensors}{batching}'.encode(),
        "file-odd": b"fname: 'a' \"b\\x41\" # c\nversion_policy: { specific { versions: [1, 3] } }",
        "file-deep": b"f" + b"a {" * 40,
        "override": b'j{"max_batch_size": 4, "parameters": {"k": {"string_value": "v"}}}',
        "override-batching": b'j{"dynamic_batching": {"max_queue_delay_microseconds": 9}}',
    }


def log_seeds() -> dict[str, bytes]:
    producer = "aaaaaa"
    records = {
        "predictions": encode_predictions(fake_rows(3, 2, ts_ns=1), producer, 1),
        "strings": encode_predictions(
            fake_rows(0, 1, ts_ns=1, inputs={"x": np.array([[b"a", b""]], dtype=object)}),
            producer,
            1,
        ),
        "labels": encode_labels("m", [Label("id", 0, 1, "cat"), Label("id", 1, 1, 2.0)],
                                producer, 0, 7),
        "gap": gap_record(producer, [(3, 2), (9, 1)], GapReason.SAMPLED, model="m", watermark_ns=5),
        "heartbeat": heartbeat_record(producer, 10, 6),
        "end": end_record(producer, 10, 8, clean=True),
    }  # fmt: skip
    seeds = {}
    for name, record in records.items():
        message = to_message(record, TOPIC, "")
        kept = [pair for pair in message.headers if pair[0] not in ("topic", "crc32")]
        lines = b"\n".join(b"%b: %b" % (key.encode(), text) for key, text in kept)
        seeds[name] = lines + RECORD_SEPARATOR + message.value
    return seeds


SEEDS = {
    "http_connection": connection_seeds,
    "http2_connection": http2_seeds,
    "http_infer": http_seeds,
    "grpc_message": grpc_seeds,
    "bytes_tensor": tensor_seeds,
    "inflated": compressed_seeds,
    "v1_predict": v1_seeds,
    "relayed_request": relayed_seeds,
    "shared_memory": memory_seeds,
    "model_file": model_seeds,
    "model_config": config_seeds,
    "log_message": log_seeds,
}

if __name__ == "__main__":
    for target, seeds in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds().items():
            (folder / name).write_bytes(data)
