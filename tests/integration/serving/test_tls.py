"""TLS on both data ports, with the standard library's client, tritonclient and grpcio."""

import http.client
import json
import socket
import ssl
import time
from contextlib import closing

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from serving.settings import LimitSettings, TlsSettings
from tests.broker.authority import Authority
from tests.integration.serving import onnx_models
from tests.integration.serving.harness import HOST, WAIT_S, WorkerProcess, eventually, tensor

ENGINES = ("nghttp2", "grpcio")
LIMITS = LimitSettings(first_byte_s=1.0, connections_max=8)
WIDTH = 300_000  # of a row: many TLS records


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "ca").create()


@pytest.fixture(scope="module")
def server_files(authority):
    return [str(path) for path in authority.issue("server")]


@pytest.fixture
def start(tmp_path, server_files, engine):
    """Starts workers with TLS, one at a time."""
    started = []

    def begin(client_ca="", files=server_files):
        settings = TlsSettings(*files, client_ca)
        worker = WorkerProcess(tmp_path, limits=LIMITS, tls=settings, engine=engine)
        started.append(worker)
        worker.serve({"m": onnx_models.identity(width="w")})
        return worker

    yield begin
    for worker in started:
        worker.stop()


def trusting(authority, client=None):
    context = ssl.create_default_context(cafile=str(authority.ca))
    if client is not None:
        context.load_cert_chain(*client)
    return context


def ask(worker, context, body, headers=None):
    """An infer request in a connection of its own: status, reply and the server's certificate."""
    link = http.client.HTTPSConnection(HOST, worker.http_port, timeout=WAIT_S, context=context)
    with closing(link):
        link.request("POST", "/v2/models/m/infer", body, headers or {})
        shown = link.sock.getpeercert(binary_form=True)
        reply = link.getresponse()
        return reply.status, reply.read(), shown


def small():
    return json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()


def infer_grpc(worker, rows, **credentials):
    client = triton_grpc.InferenceServerClient(worker.grpc_target, ssl=True, **credentials)
    with closing(client):
        given = triton_grpc.InferInput("x", list(rows.shape), "FP32")
        given.set_data_from_numpy(rows)
        return client.infer("m", [given], client_timeout=WAIT_S).as_numpy("y")


def binary(rows):
    """The body and the headers of a binary request for these rows."""
    given = {"name": "x", "datatype": "FP32", "shape": list(rows.shape)}
    given["parameters"] = {"binary_data_size": rows.nbytes}
    document = {"inputs": [given], "parameters": {"binary_data_output": True}}
    head = json.dumps(document).encode()
    return head + rows.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


def test_large_and_small_requests_pass_through_tls(start, authority):
    worker, context = start(), trusting(authority)
    status, reply, _ = ask(worker, context, small())
    assert (status, json.loads(reply)["outputs"][0]["data"]) == (200, [1, 2, 3])
    rows = np.random.default_rng(3).normal(size=(1, WIDTH)).astype(np.float32)
    for row in (rows, rows[:, :5]):
        status, reply, _ = ask(worker, context, *binary(row))
        assert (status, reply[-row.nbytes :]) == (200, row.tobytes())
        assert np.array_equal(infer_grpc(worker, row, root_certificates=str(authority.ca)), row)


def test_a_connection_is_kept_and_http_1_1_is_agreed_on(start, authority):
    worker, context = start(), trusting(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    link = http.client.HTTPSConnection(HOST, worker.http_port, timeout=WAIT_S, context=context)
    with closing(link):
        for _ in range(3):
            link.request("POST", "/v2/models/m/infer", small())
            reply = link.getresponse()
            assert (reply.status, bool(reply.read())) == (200, True)
            assert link.sock.selected_alpn_protocol() == "http/1.1"
    with (
        socket.create_connection((HOST, worker.grpc_port), WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as shown,
    ):
        assert shown.selected_alpn_protocol() == "h2"


def test_clients_without_a_certificate_are_kept_out_where_one_is_asked_for(start, authority):
    worker = start(client_ca=str(authority.ca))
    mine = [str(path) for path in authority.issue("client")]
    rows = np.ones((1, 3), np.float32)
    status, _, _ = ask(worker, trusting(authority, mine), small())
    assert status == 200
    shown = {"private_key": mine[1], "certificate_chain": mine[0]}
    ca = str(authority.ca)
    assert np.array_equal(infer_grpc(worker, rows, root_certificates=ca, **shown), rows)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        ask(worker, trusting(authority), small())
    with pytest.raises(triton_grpc.InferenceServerException):
        infer_grpc(worker, rows, root_certificates=ca)


def test_plain_text_and_silence_end_and_hurt_nobody(start, authority):
    worker = start()
    for port in (worker.http_port, worker.grpc_port):
        with socket.create_connection((HOST, port), WAIT_S) as plain:
            plain.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\n\r\n")
            while plain.recv(4096):  # at most an alert
                pass
    silent = [socket.create_connection((HOST, worker.http_port), WAIT_S) for _ in range(12)]
    # Beyond so many handshakes at once they are closed, and after a while all are.
    for each in silent:
        with each:
            assert each.recv(4096) == b""

    def answered():
        try:
            return ask(worker, trusting(authority), small())[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    eventually(answered)


def test_replaced_files_are_shown_to_new_connections(start, authority, tmp_path):
    files = [tmp_path / "live.pem", tmp_path / "live.key"]

    def replace(name):
        for source, target in zip(authority.issue(name), files, strict=True):
            new = target.with_suffix(".new")
            new.write_bytes(source.read_bytes())
            new.replace(target)

    replace("first")
    worker, context = start(files=[str(path) for path in files]), trusting(authority)
    before = ask(worker, context, small())[2]
    files[1].write_bytes(b"no key")
    time.sleep(1.2)  # it has looked, and keeps what it has
    assert ask(worker, context, small())[2] == before
    replace("second")
    eventually(lambda: ask(worker, context, small())[2] != before)
    rows = np.ones((1, 3), np.float32)
    assert infer_grpc(worker, rows, root_certificates=str(authority.ca)).tolist() == [[1, 1, 1]]
    credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
    with grpc.secure_channel(worker.grpc_target, credentials) as channel:
        grpc.channel_ready_future(channel).result(WAIT_S)


def test_a_drain_waits_for_no_handshake(start):
    worker = start()
    with socket.create_connection((HOST, worker.http_port), WAIT_S):
        assert worker.drain() == 0
