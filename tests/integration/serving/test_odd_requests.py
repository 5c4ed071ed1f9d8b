"""Methods, targets and members that no client library sends are answered, and in one way."""

import json
import socket

import pytest

from tests.integration.serving.harness import HOST, WAIT_S, tensor


def raw(worker, request: bytes):
    """Status, headers and body of a request that a client library would not send."""
    with socket.create_connection((HOST, worker.http_port), timeout=WAIT_S) as sock:
        sock.sendall(request)
        file = sock.makefile("rb")
        status = int(file.readline().split()[1])
        headers: dict[str, str] = {}
        while (line := file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, file.read(int(headers["content-length"]))


def lines(method: bytes, target: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    head = [b"%b %b HTTP/1.1" % (method, target), b"Host: h", *headers]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


INFER = json.dumps({"inputs": [tensor("x", "FP32", [1, 3], [1, 2, 3])]}).encode()


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("GET", "/v2/models/identity/infer", {"POST"}),
        ("DELETE", "/v2/models/identity/versions/1/infer/", {"POST"}),
        ("POST", "/v2", {"GET", "HEAD"}),
        ("OPTIONS", "/v2/health/live/", {"GET", "HEAD"}),
        ("PUT", "/v2/models/identity/labels/", {"POST"}),
        ("CONNECT", "/v2", {"GET", "HEAD", "POST"}),
    ],
)
def test_a_wrong_method_is_405_and_told_the_right_ones(shared_worker, method, target, allowed):
    status, headers, body = raw(shared_worker, lines(method.encode(), target.encode()))
    assert (status, json.loads(body)) == (405, {"error": "Method Not Allowed"})
    assert set(headers["allow"].replace(" ", "").split(",")) == allowed


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v2/models/identity/inf%65r", 200),
        (b"/v2/m%6Fdels/ident%69ty/infer/?a=%2f%00", 200),
        (b"/v2/models/identity%00/infer", 404),
        (b"/v2/models/identity%ff/infer", 404),
        (b"/v2/models/%25/infer", 404),
        (b"/v2/models/%/infer", 404),
        (b"/v2/models/%zz/infer", 404),
        (b"/v2/models/..%2fidentity/infer", 400),
        (b"/v2/models/identity%2Finfer", 400),
        (b"/v2/models/identity\xff/infer", 400),
        (b"/v2/models/identity\xe2\x80\xa6", 400),
        (b"/v2/models/identity/infer#x", 400),
        (b"/v2/models//infer", 404),
        (b"//v2/models/identity/infer", 404),
        (b"/v2/models/identity/infer//", 404),
        (b"http://h/v2/models/identity/infer", 400),
        (b"*", 400),
    ],
)
def test_odd_targets_are_read_in_one_way_or_refused(shared_worker, target, status):
    got, headers, body = raw(shared_worker, lines(b"POST", target, body=INFER))
    assert (got, headers["content-type"]) == (status, "application/json")
    assert (b'"error"' in body) == (status != 200)


def test_connect_gets_one_answer_and_the_connection_ends(shared_worker):
    with socket.create_connection((HOST, shared_worker.http_port), timeout=WAIT_S) as sock:
        sock.sendall(b"CONNECT /v2 HTTP/1.1\r\nHost: h\r\n\r\nand what follows is no HTTP")
        assert sock.makefile("rb").read().count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("path", ["/v2/models/identity/labels/", "/v2/models/identity/labels"])
def test_no_path_redirects(shared_worker, path):
    assert raw(shared_worker, lines(b"POST", path.encode(), body=b"[]"))[0] == 200
    assert raw(shared_worker, lines(b"POST", path.encode() + b"/x/", body=b"[]"))[0] == 404


def test_a_header_length_of_superscript_digits_is_the_clients_mistake(shared_worker):
    header = "Inference-Header-Content-Length: ²".encode("latin-1")
    status, _, body = raw(
        shared_worker, lines(b"POST", b"/v2/models/identity/infer", header, body=INFER)
    )
    assert status == 400, body


@pytest.mark.parametrize("member", ["id", "parameters", "outputs"])
@pytest.mark.parametrize("value", [0, False, "", [], {}, 0.0])
def test_members_of_a_wrong_type_are_refused_also_when_they_are_empty(shared_worker, member, value):
    right = {"id": "", "parameters": {}, "outputs": []}[member]
    status, _ = shared_worker.infer("identity", json.loads(INFER) | {member: value})
    assert status == (200 if value == right and type(value) is type(right) else 400)
    status, _ = shared_worker.infer("identity", json.loads(INFER) | {member: None})
    assert status == 200


def test_a_bad_head_behind_an_ignored_upgrade_is_the_clients_mistake(shared_worker):
    upgrade = lines(b"GET", b"/v2", b"Connection: Upgrade", b"Upgrade: h2c")
    with socket.create_connection((HOST, shared_worker.http_port), timeout=WAIT_S) as sock:
        sock.sendall(upgrade + b"GET /v2 HTTP/1.1\r\n\r\n")
        replies = sock.makefile("rb").read()
    assert replies.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 Bad Request" in replies
