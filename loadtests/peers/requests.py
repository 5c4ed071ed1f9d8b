"""The same prediction in every form that a server of the field understands."""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np

from loadtests.wrk import JSON
from protos import inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
ANSWER_S = 30.0

Row = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, slots=True)
class Request:
    """One form of it. form: "HTTP JSON", "HTTP binary" or "gRPC".

    read: takes the outputs from a reply's body or message.
    """

    form: str
    url: str
    body: bytes
    headers: Mapping[str, str]
    read: Callable[[bytes], Row]

    @property
    def is_grpc(self) -> bool:
        return self.form == "gRPC"

    def ask(self) -> bytes:
        """One reply. Raises: OSError, RuntimeError, grpc.RpcError."""
        place = urlsplit(self.url)
        if self.is_grpc:
            with grpc.insecure_channel(place.netloc) as channel:
                message: bytes = channel.unary_unary(place.path)(self.body, timeout=ANSWER_S)
            return message
        connection = http.client.HTTPConnection(place.netloc, timeout=ANSWER_S)
        try:
            connection.request("POST", place.path, self.body, dict(self.headers))
            reply = connection.getresponse()
            data = reply.read()
        finally:
            connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{self.url} answered {reply.status}: {data[:200]!r}")
        return data


def v2_json(port: int, row: Row) -> Request:
    """The Open Inference Protocol, numbers as JSON."""
    body = json.dumps({"inputs": [_described(row) | {"data": _numbers(row)}]}).encode()
    return Request("HTTP JSON", _infer(port), body, JSON, _read_json)


def v2_binary(port: int, row: Row) -> Request:
    """Triton's binary tensors, in and out."""
    tensor = _described(row) | {"parameters": {"binary_data_size": row.nbytes}}
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return Request("HTTP binary", _infer(port), head + row.tobytes(), headers, _read_tail)


def v2_grpc(port: int, row: Row) -> Request:
    """ModelInfer with raw contents."""
    message = pb.ModelInferRequest(model_name="bench", raw_input_contents=[row.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=row.shape)
    url = f"http://127.0.0.1:{port}{INFER}"
    return Request("gRPC", url, message.SerializeToString(), {}, _read_message)


def plain_json(url: str, body: Mapping[str, Any]) -> Request:
    """A server's own form of JSON; it answers {"y": [[...]]}."""
    return Request(
        "HTTP JSON", url, json.dumps(body).encode(), JSON,
        lambda data: np.array(json.loads(data)["y"], np.float32).reshape(-1),
    )  # fmt: skip


def rows_of(row: Row) -> list[list[float]]:
    return [[round(float(value), 4) for value in line] for line in row]


def _infer(port: int) -> str:
    return f"http://127.0.0.1:{port}/v2/models/bench/infer"


def _described(row: Row) -> dict[str, Any]:
    return {"name": "x", "shape": list(row.shape), "datatype": "FP32"}


def _numbers(row: Row) -> list[float]:
    return [number for line in rows_of(row) for number in line]


def _read_json(data: bytes) -> Row:
    return np.array(json.loads(data)["outputs"][0]["data"], np.float32)


def _read_tail(data: bytes) -> Row:
    head = data[: data.rindex(b"}") + 1]
    size: int = json.loads(head)["outputs"][0]["parameters"]["binary_data_size"]
    return np.frombuffer(data[-size:], np.float32)


def _read_message(data: bytes) -> Row:
    reply = pb.ModelInferResponse.FromString(data)
    if reply.raw_output_contents:
        return np.frombuffer(reply.raw_output_contents[0], np.float32)
    return np.array(reply.outputs[0].contents.fp32_contents, np.float32)
