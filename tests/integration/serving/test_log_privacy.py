"""What of a request's surroundings reaches the log: its trace, and nothing else."""

import json
import socket
import subprocess
import sys

import grpc

from eventlog.core.traceparent import traceparent_text
from protos import inference_pb2 as pb
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import tensor
from tests.integration.serving.test_worker_log import predictions, send

INFERENCE = "inference.GRPCInferenceService"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "hunter2secret"
SECRETS = {
    "authorization": f"Bearer {SECRET}",
    "cookie": f"session={SECRET}",
    "x-api-key": SECRET,
    "x-request-id": SECRET,
    "tracestate": f"vendor={SECRET}",
    "baggage": f"user={SECRET}",
    "x-routing-key": SECRET,
    "user-agent": f"client {SECRET}",
    "referer": f"https://{SECRET}",
    "x-forwarded-for": SECRET,
}


def traceparent(number):
    return f"00-{TRACE}-{number:016x}-01"


def document(number, **parameters):
    return {
        "id": SECRET,
        "inputs": [tensor("x", "FP32", [1, 3], [number, 0, 0])],
        "parameters": {"routing_key": SECRET, "token": SECRET, **parameters},
    }


def grpc_request(number):
    request = pb.ModelInferRequest(model_name="m", id=SECRET)
    request.inputs.append(
        pb.ModelInferRequest.InferInputTensor(
            name="x",
            datatype="FP32",
            shape=[1, 3],
            contents=pb.InferTensorContents(fp32_contents=[number, 0, 0]),
        )
    )
    request.parameters["token"].string_param = SECRET
    return request


def call(channel, number, metadata):
    method = channel.unary_unary(f"/{INFERENCE}/ModelInfer")
    assert method(grpc_request(number).SerializeToString(), metadata=metadata, timeout=30)


def stream(channel, number, metadata):
    method = channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
    requests = iter([grpc_request(number).SerializeToString()])
    assert len(list(method(requests, metadata=metadata, timeout=30))) == 1


def traces_by_number(worker):
    """What was logged: the first value of each row -> its trace."""
    found = {}
    for rows in predictions(worker):
        for i, values in enumerate(rows.inputs["x"].tolist()):
            trace = b"" if rows.traces is None else rows.traces[i].tobytes()
            found[int(values[0])] = traceparent_text(trace)
    return found


def test_nothing_of_headers_metadata_and_parameters_is_logged(start_worker, tmp_path):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()}, log_mode="durable")
    for i in range(3):
        assert worker.infer("m", document(i), **SECRETS)[0] == 200
    v1 = json.dumps({"instances": [{"x": [3.0, 0.0, 0.0]}], "token": SECRET}).encode()
    path = f"/v1/models/m:predict?token={SECRET}"
    assert worker.request("POST", path, v1, SECRETS)[0] == 200
    path = f"/v2/models/m/infer?token={SECRET}"
    body = json.dumps(document(4)).encode()
    assert worker.request("POST", path, body, SECRETS)[0] == 200
    metadata = tuple(item for item in SECRETS.items() if item[0] != "user-agent")
    with grpc.insecure_channel(worker.grpc_target) as channel:
        call(channel, 5, metadata)
        stream(channel, 6, metadata)
    worker.drain()
    assert set(traces_by_number(worker)) == set(range(7))
    written = [path for path in worker.state_dir.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in written)
    for path in written:
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in worker.errors()
    output = tmp_path / "rows.parquet"
    for verb in (["export", "--output", str(output)], ["tail", "-n", "100", "--json"]):
        command = [sys.executable, "-m", "driftgate", "log", *verb]
        ran = subprocess.run(
            [*command, "--state-dir", str(worker.state_dir)], capture_output=True, check=True
        )
        assert SECRET.encode() not in ran.stdout + ran.stderr
    assert SECRET.encode() not in output.read_bytes()


def test_a_valid_traceparent_is_kept_with_each_row_over_every_protocol(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    sent = {}
    for number, header in enumerate([traceparent(1), None, "00-nonsense", traceparent(2)]):
        headers = {} if header is None else {"traceparent": header}
        assert worker.infer("m", document(number), **headers)[0] == 200
        sent[number] = header if header and "nonsense" not in header else ""
    v1 = json.dumps({"instances": [{"x": [4.0, 0.0, 0.0]}, {"x": [5.0, 0.0, 0.0]}]}).encode()
    headers = {"traceparent": traceparent(3)}
    assert worker.request("POST", "/v1/models/m:predict", v1, headers)[0] == 200
    sent |= {4: traceparent(3), 5: traceparent(3)}
    with grpc.insecure_channel(worker.grpc_target) as channel:
        call(channel, 6, (("traceparent", traceparent(4)),))
        call(channel, 7, ())
        stream(channel, 8, (("traceparent", traceparent(5)),))
    sent |= {6: traceparent(4), 7: "", 8: traceparent(5)}
    worker.drain()
    assert traces_by_number(worker) == sent


def test_two_traceparents_are_none(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    body = json.dumps(document(1)).encode()
    head = (
        f"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"traceparent: {traceparent(1)}\r\ntraceparent: {traceparent(2)}\r\n"
        "Connection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", worker.http_port), timeout=30) as sock:
        sock.sendall(head.encode() + body)
        reply = b""
        while data := sock.recv(65536):
            reply += data
    assert reply.startswith(b"HTTP/1.1 200")
    worker.drain()
    assert traces_by_number(worker) == {1: ""}


def test_a_failed_row_has_its_trace_too(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.table_lookup()})
    body = {"inputs": [tensor("x", "INT64", [1, 1], [77])]}
    assert worker.infer("m", body, traceparent=traceparent(9))[0] == 500
    worker.drain()
    (rows,) = predictions(worker)
    assert traceparent_text(rows.traces[0].tobytes()) == traceparent(9)


def test_rows_without_a_trace_have_no_column_for_one(start_worker):
    worker = start_worker()
    worker.serve({"m": onnx_models.identity()})
    assert send(worker, 1)[1] == 200
    worker.drain()
    assert all(rows.traces is None for rows in predictions(worker))
