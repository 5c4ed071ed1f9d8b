"""Tenants on a real worker, over both protocols: one floods, and others do not feel it."""

import json
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np

from protos import inference_pb2 as pb
from serving.settings import LimitSettings
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import HOST, WAIT_S, eventually, tensor

ENGINES = ("nghttp2", "grpcio")
METHOD = "/inference.GRPCInferenceService/"
LIMITS = LimitSettings(rows_in_flight_max=10, tenant_header="X-Tenant")
FLOODS = 6  # at a time and protocol, of one row each: more than the eight rows it may have
STEPS = 20_000  # so long that floods overlap, and no deadline matters on a busy machine
OF_TENANT = "rows of this tenant are in flight"


def over_http(worker, tenant):
    """What is wrong; empty if nothing is."""
    document = {"inputs": [tensor("x", "FP32", [1, 1], [1])]}
    status, reply = worker.infer("slow", document, X_Tenant=tenant)
    return "" if status == 200 else reply["error"]


def request():
    message = pb.ModelInferRequest(
        model_name="slow", raw_input_contents=[np.float32([1]).tobytes()]
    )
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    return message.SerializeToString()


def over_grpc(channel, tenant):
    call = channel.unary_unary(METHOD + "ModelInfer")
    try:
        call(request(), timeout=WAIT_S, metadata=[("x-tenant", tenant)])
    except grpc.RpcError as error:
        return error.details()
    return ""


def over_a_stream(channel, tenant):
    call = channel.stream_stream(METHOD + "ModelStreamInfer")
    (reply,) = call(iter([request()]), timeout=WAIT_S, metadata=[("x-tenant", tenant)])
    return pb.ModelStreamInferResponse.FromString(reply).error_message


def over_v1(worker, tenant):
    body = json.dumps({"instances": [[1.0]]}).encode()
    path = "/v1/models/slow:predict"
    status, reply, _ = worker.request("POST", path, body, {"X-Tenant": tenant})
    return "" if status == 200 else reply.decode()


def test_a_flooding_tenant_is_refused_and_another_is_not(start_worker):
    worker = start_worker(limits=LIMITS)
    worker.serve({"slow": onnx_models.slow(STEPS)})
    over, refusals = threading.Event(), Counter()

    def flood(ask, target):
        while not over.is_set():
            refusal = ask(target, "loud")
            refusals[ask, OF_TENANT in refusal] += 1
            if refusal:
                over.wait(0.02)

    with grpc.insecure_channel(worker.grpc_target) as channel:
        ways = [
            (over_http, worker),
            (over_grpc, channel),
            (over_v1, worker),
            (over_a_stream, channel),
        ]
        with ThreadPoolExecutor(4 * FLOODS) as pool:
            floods = [pool.submit(flood, *way) for way in ways for _ in range(FLOODS)]
            try:
                eventually(lambda: all(refusals[ask, True] for ask, _ in ways))
                answers = [ask(target, "quiet") for _ in range(3) for ask, target in ways]
            finally:
                over.set()
        assert [each.result() for each in floods] == [None] * len(floods)
        assert answers == [""] * len(answers)
        assert [ask(target, "loud") for ask, target in ways] == [""] * len(ways)
    assert "loud" not in repr(worker.metrics().cells), "names of tenants are told to nobody"


def test_a_request_that_names_two_tenants_is_refused(start_worker):
    worker = start_worker(limits=LIMITS)
    worker.serve({"identity": onnx_models.identity()})
    lines = [b"POST /v2/models/identity/infer HTTP/1.1", b"Host: h", b"X-Tenant: a", b"x-tenant: b"]
    with socket.create_connection((HOST, worker.http_port), WAIT_S) as sock:
        sock.sendall(b"\r\n".join([*lines, b"", b""]))
        assert b"header 'x-tenant' may be given only once" in sock.recv(4096)
