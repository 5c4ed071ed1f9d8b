"""Clients that stall, dribble, leave or lie, on raw sockets."""

import contextlib
import dataclasses
import json
import socket
import struct
import threading
import time

import pytest

from tests.integration.serving import onnx_models
from tests.integration.serving.conftest import LIMITS
from tests.integration.serving.harness import HOST, eventually, tensor

BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()
SLOW = json.dumps({"inputs": [tensor("x", "FP32", [1, 1], [1.0])]}).encode()


def head(body=BODY, model="identity", **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"Host": "h", "Content-Length": str(len(body))} | given
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"POST /v2/models/{model}/infer HTTP/1.1\r\n{lines}\r\n".encode()


class Client:
    def __init__(self, worker):
        self.sock = socket.create_connection((HOST, worker.http_port), timeout=20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def rest(self):
        """Everything until the server closes."""
        data = b""
        try:
            while piece := self.sock.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    def replies(self, count):
        """Status codes and bodies of so many replies."""
        file = self.sock.makefile("rb")
        found = []
        for _ in range(count):
            status = int(file.readline().split()[1])
            length = 0
            while (line := file.readline()) not in {b"\r\n", b""}:
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            found.append((status, file.read(length)))
        return found


def still_serves(worker):
    return worker.infer("identity", BODY)[0] == 200


def test_a_connection_that_says_nothing_is_closed(shared_worker):
    with Client(shared_worker) as client:
        assert client.rest() == b""


def test_a_stalled_head_is_answered_with_408_and_closed(shared_worker):
    with Client(shared_worker) as client:
        client.send(b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: h\r\n")
        assert client.rest().startswith(b"HTTP/1.1 408 ")


def test_a_dribbling_head_is_cut_off_at_its_deadline_not_extended(shared_worker):
    with Client(shared_worker) as client:
        client.sock.settimeout(0.2)
        client.send(b"POST /v2/models/identity/infer HTTP/1.1\r\nX: ")
        data = b""
        began = time.monotonic()
        while time.monotonic() - began < 20:
            try:
                client.send(b"a")
                data = client.sock.recv(100)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        assert data.startswith(b"HTTP/1.1 408 ")


def test_a_stalled_body_is_answered_with_408_and_closed(shared_worker):
    with Client(shared_worker) as client:
        client.send(head() + BODY[:10])
        assert client.rest().startswith(b"HTTP/1.1 408 ")
    assert still_serves(shared_worker)


def test_an_idle_connection_is_kept_for_a_while_and_then_closed(shared_worker):
    with Client(shared_worker) as client:
        for _ in range(3):
            client.send(head() + BODY)
            assert client.replies(1)[0][0] == 200
        assert client.rest() == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /v2 HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: a/?x\r\n\r\n", 400),
        (b"GET http://h/v2 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /v2/models/..%2f..%2fetc HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (head(Transfer_Encoding="chunked") + b"0\r\n\r\n", 400),
        (head(Transfer_Encoding="gzip", Content_Length=""), 400),
        (b"POST /v2 HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\nHost: h\n\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /v2 HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 17000 + b"\r\n\r\n", 431),
        (b"GET /v2 HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431),
        (head(body=b"x" * 300_000), 413),
        (head(Content_Length="99999999999999999999999"), 400),
        (head(X_Routing_Key="1\r\nX-Routing-Key: 2"), 400),
    ],
    ids=range(17),
)  # fmt: skip
def test_a_request_that_two_parsers_could_read_differently_ends_the_connection(
    shared_worker, request_bytes, status
):
    with Client(shared_worker) as client:
        client.send(request_bytes)
        reply = client.rest()
    assert reply.startswith(b"HTTP/1.1 %d " % status), reply[:100]
    assert b"connection: close" in reply
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["error"]
    assert reply.count(b"HTTP/1.1") == 1


def test_a_head_that_never_ends_is_cut_off(shared_worker):
    with Client(shared_worker) as client:
        client.send(b"GET /v2 HTTP/1.1\r\nHost: h\r\nX: ")
        sent = 0
        try:
            while sent < 20_000_000:
                client.send(b"a" * 65536)
                sent += 65536
        except OSError:
            pass
        assert client.rest()[:12] in {b"HTTP/1.1 431", b""}
    assert still_serves(shared_worker)


def test_a_chunked_body_is_read_and_bounded(shared_worker):
    chunked = head(Content_Length="", Transfer_Encoding="chunked")
    with Client(shared_worker) as client:
        client.send(chunked)
        for start in range(0, len(BODY), 7):
            piece = BODY[start : start + 7]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\nTrailer: x\r\n\r\n")
        assert client.replies(1)[0][0] == 200
    with Client(shared_worker) as client:
        client.send(chunked)
        try:
            for _ in range(100):
                client.send(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        except OSError:
            pass
        assert client.rest()[:12] in {b"HTTP/1.1 413", b""}
    with Client(shared_worker) as client:
        client.send(chunked)
        try:
            for _ in range(70_000):
                client.send(b"1\r\na\r\n")
        except OSError:
            pass
        assert client.rest()[:12] in {b"HTTP/1.1 400", b""}
    assert still_serves(shared_worker)


def test_chunk_extensions_may_not_outgrow_the_data(shared_worker):
    with Client(shared_worker) as client:
        client.send(head(Content_Length="", Transfer_Encoding="chunked"))
        with contextlib.suppress(OSError):
            client.send(b"1;" + b"x" * 300_000)
        assert client.rest()[:12] in {b"HTTP/1.1 400", b""}


def test_pipelined_requests_are_answered_in_order(shared_worker):
    with Client(shared_worker) as client:
        get = b"GET /v2/models/two HTTP/1.1\r\nHost: h\r\n\r\n"
        bad = head(body=b"{}") + b"{}"
        slow = head(body=SLOW, model="slow") + SLOW
        client.send(slow + get + head() + BODY + bad + get + head() + BODY)
        found = client.replies(6)
    assert [status for status, _ in found] == [200, 200, 200, 400, 200, 200]
    assert json.loads(found[0][1])["model_name"] == "slow"
    assert json.loads(found[1][1])["name"] == "two"
    assert json.loads(found[5][1])["model_name"] == "identity"


def test_hundreds_of_pipelined_errors_do_not_exhaust_the_stack(shared_worker):
    with Client(shared_worker) as client:
        client.send((head(body=b"x") + b"x") * 400)
        assert {status for status, _ in client.replies(400)} == {400}
    assert still_serves(shared_worker)


def test_a_client_may_wait_for_100_continue(shared_worker):
    with Client(shared_worker) as client:
        client.send(head(Expect="100-continue"))
        assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(BODY)
        assert client.replies(1)[0][0] == 200
    with Client(shared_worker) as client:
        client.send(head(body=b"x" * 300_000, Expect="100-continue"))
        assert client.rest().startswith(b"HTTP/1.1 413 ")


def test_an_upgrade_is_answered_as_plain_http(shared_worker):
    with Client(shared_worker) as client:
        client.send(head(Connection="Upgrade, HTTP2-Settings", Upgrade="h2c") + BODY)
        assert client.rest().startswith(b"HTTP/1.1 200 ")


def test_http_1_0_and_connection_close_are_honoured(shared_worker):
    for request in (head(Connection="close"), head().replace(b"HTTP/1.1", b"HTTP/1.0")):
        with Client(shared_worker) as client:
            client.send(request + BODY)
            reply = client.rest()
            assert reply.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in reply


def test_a_client_that_leaves_in_mid_batch_takes_nobody_with_it(shared_worker):
    before = shared_worker.metric("driftgate_requests_cancelled_total", "slow")
    clients = [Client(shared_worker) for _ in range(6)]
    for client in clients:
        client.send(head(body=SLOW, model="slow") + SLOW)
    for client in clients[::2]:
        client.sock.close()
    for client in clients[1::2]:
        status, body = client.replies(1)[0]
        assert status == 200
        assert json.loads(body)["outputs"][0]["data"] == [1.0]
        client.sock.close()
    eventually(
        lambda: shared_worker.metric("driftgate_requests_cancelled_total", "slow") == before + 3
    )
    assert still_serves(shared_worker)


# Whatever is asked for, one body of the largest size must fit: 24 times 256 KiB.
SMALL_BUDGET = dataclasses.replace(LIMITS, bytes_in_flight_max=1)
PADDED = BODY + b" " * (200_000 - len(BODY))  # three quarters of that budget


@pytest.fixture
def tight(start_worker):
    """A worker that notices when a quarter of its small budget is not given back."""
    worker = start_worker(limits=SMALL_BUDGET)
    worker.serve({"identity": onnx_models.identity(), "slow": onnx_models.slow()})
    yield worker
    eventually(lambda: worker.metric("driftgate_connections", "http") == 0)
    assert worker.infer("identity", PADDED)[0] == 200
    assert worker.process.poll() is None


def test_a_client_that_leaves_in_mid_body_gives_its_budget_back(tight):
    for _ in range(60):
        with Client(tight) as client:
            client.send(head(body=PADDED) + PADDED[:10])
            time.sleep(0.005)  # apart, so that the rest is held
            client.send(PADDED[:150_000])


def test_requests_that_wait_behind_another_give_their_budget_back_when_their_client_leaves(tight):
    chunked = head(Content_Length="", Transfer_Encoding="chunked")
    chunked += b"a\r\n" + b" " * 10 + b"\r\nc000\r\n" + b" " * 0xC000 + b"\r\n0\r\n\r\n"
    for _ in range(60):
        with Client(tight) as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.send(head(body=SLOW, model="slow") + SLOW + chunked * 4)
            time.sleep(0.005)  # long enough to be read


def test_bodies_of_labels_are_held_against_the_budget_and_given_back(tight):
    before = tight.metric("driftgate_labels_total", "identity", "refused")
    part = head(body=b" " * 250_000).replace(b"infer", b"labels") + b" " * 200_000
    clients = [Client(tight) for _ in range(40)]  # 8 MB
    for client in clients:
        client.send(part)
    said = []
    for client in clients:
        client.sock.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            said.append(client.sock.recv(4096))
    assert any(reply.startswith(b"HTTP/1.1 503 ") for reply in said)
    assert all(b"retry-after: 1" in reply for reply in said if b" 503 " in reply)
    for client in clients:
        client.sock.close()
    assert tight.metric("driftgate_labels_total", "identity", "refused") == before


def test_a_client_that_leaves_in_mid_labels_is_no_line_in_the_log(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    for _ in range(5):
        with Client(worker) as client:
            client.send(head(body=b" " * 100).replace(b"infer", b"labels") + b" " * 50)
            time.sleep(0.01)
    eventually(lambda: worker.metric("driftgate_connections", "http") == 0)
    assert worker.drain() == 0
    assert worker.errors() == ""


def test_connections_beyond_the_cap_are_refused_and_the_others_served(shared_worker):
    clients = []
    try:
        clients += [Client(shared_worker) for _ in range(70)]
        last = clients[-1].rest()
        assert last.startswith(b"HTTP/1.1 503 ") or last == b""
        clients[0].send(head() + BODY)
        assert clients[0].replies(1)[0][0] == 200
    finally:
        for client in clients:
            client.sock.close()
    eventually(lambda: shared_worker.metric("driftgate_connections", "http") == 0)
    assert still_serves(shared_worker)


def test_errors_name_no_place_of_this_machine(shared_worker):
    bodies = [b"", b"{", b"[" * 200, b'{"inputs":5}', BODY.replace(b"FP32", b"BF16")]
    for body in bodies:
        _, reply = shared_worker.infer("identity", body)
        assert len(json.dumps(reply)) <= 512
        assert "/" not in reply["error"].replace("'/", "")
        assert "Traceback" not in reply["error"]


def test_a_head_seen_before_is_answered_alike_however_its_bytes_arrive(shared_worker):
    """Remembered heads skip the parser; pieces, pipelines and other lengths do not."""
    request = head() + BODY
    with Client(shared_worker) as client:
        client.send(request)
        first = client.replies(1)[0]
        assert first[0] == 200
        outputs = json.loads(first[1])["outputs"]
        for pieces in ([request], [request[:20], request[20:]], [head(), BODY], [request * 3]):
            for piece in pieces:
                client.send(piece)
                time.sleep(0.02)  # apart, so that they arrive apart
            for status, body in client.replies(len(b"".join(pieces)) // len(request)):
                assert status == 200
                assert json.loads(body)["outputs"] == outputs


def test_a_remembered_head_with_a_broken_body_is_refused_and_the_connection_goes_on(shared_worker):
    broken = BODY[:-1] + b"!"
    with Client(shared_worker) as client:
        for body, status in ((BODY, 200), (broken, 400), (BODY, 200), (broken, 400), (BODY, 200)):
            client.send(head() + body)
            assert client.replies(1)[0][0] == status


def test_a_connection_that_repeats_a_remembered_head_with_too_little_body_times_out(shared_worker):
    with Client(shared_worker) as client:
        client.send(head() + BODY)
        assert client.replies(1)[0][0] == 200
        client.send(head() + BODY[:-1])
        assert client.rest().startswith(b"HTTP/1.1 408 ")


def test_nonsense_behind_a_request_that_runs_is_answered_after_its_reply(shared_worker):
    with Client(shared_worker) as client:
        client.send(head(body=SLOW, model="slow") + SLOW + head() + BODY + b"nonsense\r\n\r\n")
        assert [status for status, _ in client.replies(3)] == [200, 200, 400]
        assert client.sock.recv(100) == b""


LARGE = json.dumps(
    {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [64, 3], "data": [1.2345678806304932] * 192}
        ],
    }
).encode()  # a reply of about 4 kB


class SlowReader(Client):
    """Sends many requests at once and has a small window for what comes back."""

    def __init__(self, worker):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(20)
        self.sock.connect((HOST, worker.http_port))

    def send_until_refused(self, data, count):
        """How many times the server took `data`, while nothing of its replies is read."""
        self.sock.settimeout(0.2)
        sent = 0
        try:
            for _ in range(count):
                self.sock.sendall(data)
                sent += 1
        except OSError:
            pass
        return sent


def test_one_who_does_not_read_is_not_worked_for_and_is_hung_up_on(shared_worker):
    key = ("driftgate_connections_closed_total", "http", "write_timeout")
    closed = shared_worker.metric(*key)
    with SlowReader(shared_worker) as client:
        request = head(body=LARGE) + LARGE
        # 80 MB of replies, were they all made; sockets hold a tenth of it at most.
        assert client.send_until_refused(request, 20_000) < 20_000
        eventually(lambda: shared_worker.metric(*key) == closed + 1)
    assert still_serves(shared_worker)


def test_one_who_reads_slowly_but_steadily_gets_every_reply(shared_worker):
    count = 2_000  # about 8 MB of replies, more than sockets hold by themselves
    with SlowReader(shared_worker) as client:
        sender = threading.Thread(
            target=client.sock.sendall, args=((head(body=LARGE) + LARGE) * count,)
        )
        sender.start()
        received = bytearray()
        while received.count(b"HTTP/1.1 200") < count:
            piece = client.sock.recv(65536)
            assert piece, (received[-300:], received.count(b"HTTP/1.1 200"))
            received += piece
            time.sleep(0.0005)
        sender.join()
