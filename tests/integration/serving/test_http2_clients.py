"""Clients of the nghttp2 engine that send what no gRPC library would, frame by frame."""

import gzip
import struct
import time

import grpc
import numpy as np
import pytest

from protos import channel_pb2
from protos import inference_pb2 as pb
from serving.settings import LimitSettings
from tests.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INFER,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawClient,
    block,
    frame,
    head,
    message,
)
from tests.integration.serving import onnx_models
from tests.integration.serving.conftest import LIMITS
from tests.integration.serving.harness import HOST, eventually

ENGINES = ("nghttp2",)
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
CANCEL, ENHANCE_YOUR_CALM = 8, 11


def request_of(model="identity", array=None, **fields):
    array = np.float32([[1, 2, 3]]) if array is None else array
    sent = pb.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()], **fields)
    sent.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return sent.SerializeToString()


BODY = message(request_of())


@pytest.fixture
def client(shared_worker):
    with RawClient((HOST, shared_worker.grpc_port)) as client:
        yield client.greet()


def still_serves(worker):
    with RawClient((HOST, worker.grpc_port)) as client:
        client.greet().call(1, BODY)
        return client.answer(1).status == 0


def closes(worker, reason):
    return worker.metric("driftgate_connections_closed_total", "grpc", reason)


# What is answered


def test_a_call_is_answered_with_head_message_and_trailers(client):
    client.call(1, BODY)
    answer = client.answer(1)
    assert answer.head == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity, deflate, gzip",
    }
    assert answer.trailers == {"grpc-status": "0"}
    assert answer.data[0] == 0
    assert struct.unpack(">I", answer.data[1:5])[0] == len(answer.data) - 5
    assert pb.ModelInferResponse.FromString(answer.data[5:]).model_name == "identity"


def test_a_call_may_come_in_any_pieces(client):
    sent = frame(HEADERS, 0, 1, block(head())[:30])
    sent += frame(CONTINUATION, END_HEADERS, 1, block(head())[30:])
    sent += frame(DATA, PADDED, 1, b"\4" + BODY[:3] + bytes(4))
    sent += frame(DATA, 0, 1, BODY[3:8]) + frame(DATA, 0, 1, b"") + frame(DATA, 0, 1, BODY[8:])
    sent += frame(DATA, END_STREAM, 1)
    for at in range(len(sent)):
        client.send(sent[at : at + 1])
    assert client.answer(1).status == 0


def test_trailers_of_a_request_end_it(client):
    client.send(
        frame(HEADERS, END_HEADERS, 1, block(head()))
        + frame(DATA, 0, 1, BODY)
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, block([("x-later", "1")]))
    )
    assert client.answer(1).status == 0


def test_te_is_not_asked_for_since_proxies_drop_it(client):
    client.call(1, BODY, te=None)
    assert client.answer(1).status == 0


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc; a=b"])
def test_content_types_of_grpc_are_taken(client, kind):
    client.call(1, BODY, content_type=kind)
    assert client.answer(1).status == 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"content_type": "application/json"}, "415"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({"content_type": None}, "415"),
        ({"method": "GET"}, "405"),
        ({"method": "PUT"}, "405"),
    ],
    ids=range(5),
)
def test_what_is_no_grpc_is_told_so_in_http(client, changes, status):
    client.call(1, BODY, **changes)
    answer = client.answer(1)
    assert answer.head[":status"] == status
    assert answer.status is None
    client.call(3, BODY)
    assert client.answer(3).status == 0


@pytest.mark.parametrize(
    ("body", "changes", "status"),
    [
        (BODY, {"path": "/inference.GRPCInferenceService/Nothing"}, 12),
        (BODY, {"path": "/"}, 12),
        (BODY, {"path": "/%2e%2e/etc"}, 12),
        (b"", {}, 13),  # no message
        (BODY[:3], {}, 13),  # half a prefix
        (BODY[:-1], {}, 13),  # half a message
        (BODY + BODY, {}, 13),  # two
        (b"\1" + BODY[1:], {}, 13),  # packed, in no coding
        (b"\2" + BODY[1:], {}, 13),
        (BODY, {"grpc_encoding": "br"}, 12),
        (b"\1" + BODY[1:], {"grpc_encoding": "gzip"}, 3),  # it is not
        (message(gzip.compress(BODY[5:])[:-9], 1), {"grpc_encoding": "gzip"}, 3),
        (BODY, {"grpc_timeout": "5"}, 3),
        (BODY, {"grpc_timeout": "123456789S"}, 3),
        (BODY, {"grpc_timeout": "-1S"}, 3),
        (BODY, {"grpc_timeout": "0n"}, 4),
        (struct.pack(">BI", 0, 2**32 - 1), {}, 8),  # refused by its prefix alone
        (struct.pack(">BI", 0, 2**32 - 1), {"path": STREAM}, 8),
        (BODY[:-1], {"path": STREAM}, 13),
        (message(gzip.compress(bytes(2**22)), 1), {"grpc_encoding": "gzip"}, 8),
        (message(b"", 0), {}, 5),  # an empty message asks for no model
    ],
    ids=range(21),
)
def test_what_is_wrong_with_a_call_is_its_status(client, body, changes, status):
    client.call(1, body, **changes)
    answer = client.answer(1)
    assert (answer.head[":status"], answer.status) == ("200", status), answer
    client.call(3, BODY)  # and is no other call's business
    assert client.answer(3).status == 0


@pytest.mark.parametrize("coding", ["gzip", "identity", "GZIP"])
def test_messages_come_plain_and_packed_in_one_call(client, coding):
    first = message(gzip.compress(BODY[5:]), 1) if coding != "identity" else BODY
    client.call(1, first + BODY, path=STREAM, grpc_encoding=coding)
    answer = client.answer(1)
    assert answer.status == 0
    assert answer.data.count(b"identity") == 2


def test_a_status_message_is_percent_encoded(client):
    client.call(1, message(request_of("größe 100%\n")))
    answer = client.answer(1)
    assert answer.status == 5
    assert "'gr%C3%B6%C3%9Fe 100%25?'" in answer.head["grpc-message"]


def test_a_call_that_is_refused_need_not_be_sent_to_its_end(client):
    client.send(frame(HEADERS, END_HEADERS, 1, block(head("/no"))))
    answer = client.answer(1)
    assert answer.status == 12
    while answer.reset is None:
        next(client.events())
    assert answer.reset == 0
    client.send(frame(DATA, 0, 1, bytes(16_000)))  # was on its way
    client.call(3, BODY)
    assert client.answer(3).status == 0


# What is bounded


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ([("x-long", "v" * 7000)], 0),
        ([("x-long", "v" * 9000)], 8),
        ([(f"x-{i}", "v") for i in range(250)], 8),
        ([("x-long", "v" * 17_000)], None),
        ([("cookie", "v" * 3000)] * 30, None),
    ],
    ids=range(5),
)
def test_metadata_has_a_limit(client, extra, status):
    payload = block(head() + extra)
    pieces = [payload[at : at + 16_000] for at in range(0, len(payload), 16_000)]
    sent = frame(HEADERS, END_HEADERS if len(pieces) == 1 else 0, 1, pieces[0])
    for piece in pieces[1:]:
        sent += frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 1, piece)
    client.send(sent + frame(DATA, END_STREAM, 1, BODY))
    answer = client.answer(1)
    assert answer.status == status
    if status is None:
        assert answer.reset is not None
    client.call(3, BODY)
    assert client.answer(3).status == 0


def test_too_much_metadata_is_told_so_wherever_it_stands(client):
    fields = head()
    fields.insert(4, ("x-long", "v" * 9000))
    client.send(frame(HEADERS, END_HEADERS, 1, block(fields)) + frame(DATA, END_STREAM, 1, BODY))
    assert client.answer(1).status == 8


def test_calls_beyond_the_limit_of_a_connection_are_refused_unserved(client):
    client.send(b"".join(frame(HEADERS, END_HEADERS, 2 * i + 1, block(head())) for i in range(101)))
    assert client.answer(201).reset == 7  # REFUSED_STREAM: safe to try again
    client.send(frame(DATA, END_STREAM, 1, BODY))
    assert client.answer(1).status == 0


def flood(kind):
    """Enough of something that costs us work and asks for nothing."""
    if kind == "ping":
        return frame(PING, 0, 0, bytes(8)) * 6000
    if kind == "settings":
        return frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)) * 6000
    if kind == "window":
        return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 6000
    if kind == "priority":
        return frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)) * 6000
    if kind == "unknown":
        return frame(0xBE, 0, 0, b"x") * 6000
    opened = frame(HEADERS, END_HEADERS, 1, block(head(STREAM)))
    if kind == "empty data":
        return opened + frame(DATA, 0, 1) * 6000
    if kind == "one byte of data":
        return opened + frame(DATA, 0, 1, BODY[:1]) + frame(DATA, 0, 1, b"\0") * 6000
    if kind == "reset":
        return b"".join(
            frame(HEADERS, END_HEADERS, 2 * i + 1, block(head()))
            + frame(RST_STREAM, 0, 2 * i + 1, struct.pack(">I", CANCEL))
            for i in range(3000)
        )
    if kind == "made to reset":  # a window update of nothing is an error of the stream
        return b"".join(
            frame(HEADERS, END_HEADERS, 2 * i + 1, block(head()))
            + frame(WINDOW_UPDATE, 0, 2 * i + 1, bytes(4))
            for i in range(3000)
        )
    assert kind == "continuation"
    return frame(HEADERS, 0, 1, block(head())) + frame(CONTINUATION, 0, 1, b"") * 1000


@pytest.mark.parametrize(
    "kind",
    [
        "ping", "settings", "window", "empty data", "one byte of data", "reset", "made to reset",
        "continuation",
    ],
)  # fmt: skip
def test_a_flood_ends_its_connection_and_nobody_elses(shared_worker, kind):
    with RawClient((HOST, shared_worker.grpc_port)) as client:
        client.greet().send(flood(kind))
        client.rest()
        assert client.closed
    assert still_serves(shared_worker)


def test_priorities_are_passed_over_by_the_library(client):
    """They were withdrawn from HTTP/2, and cost us nothing."""
    client.send(flood("priority"))
    client.call(3, BODY)
    assert client.answer(3).status == 0


@pytest.mark.parametrize(
    "sent",
    [
        frame(DATA, END_STREAM, 1, BODY),  # of no call
        frame(HEADERS, END_HEADERS | END_STREAM, 2, block(head())),  # a server's number
        frame(HEADERS, END_HEADERS, 1, b"\x80"),  # index 0
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff"),
        frame(HEADERS, END_HEADERS, 0, block(head())),
        frame(CONTINUATION, END_HEADERS, 1, block(head())),
        frame(SETTINGS, 0, 0, b"12345"),
        frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
        frame(PING, 0, 0, b"short"),
        frame(GOAWAY, 0, 0, b""),
        frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)) * 2,
        frame(DATA, PADDED, 1, b"\xff"),
        frame(HEADERS, END_HEADERS, 1, block(head())) + frame(HEADERS, 0, 3, b"")
        + frame(DATA, 0, 1, b""),
        struct.pack(">I", 2**24 - 1)[1:] + bytes((DATA, 0)) + struct.pack(">I", 1) + bytes(70_000),
    ],
    ids=range(14),
)  # fmt: skip
def test_frames_against_the_rules_end_the_connection(shared_worker, sent):
    with RawClient((HOST, shared_worker.grpc_port)) as client:
        client.greet().send(sent)
        client.rest()
        assert client.closed
    assert still_serves(shared_worker)


def test_data_behind_the_end_of_a_call_is_no_part_of_it(client, shared_worker):
    client.call(1, message(request_of("slow", np.float32([[1.0]]))))
    client.send(frame(DATA, END_STREAM, 1, b"garbage") * 3)
    client.call(3, BODY)
    client.rest() if client.closed else None
    assert still_serves(shared_worker)


@pytest.mark.parametrize(
    "first",
    [b"", PREFACE[:10], b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", bytes(100), PREFACE],
    ids=["silence", "part", "HTTP/1.1", "zeros", "no settings"],
)
def test_who_does_not_speak_http2_is_hung_up_on(shared_worker, first):
    with RawClient((HOST, shared_worker.grpc_port)) as client:
        client.send(first)
        client.rest()
        assert client.closed


def test_a_head_that_does_not_end_is_not_waited_for(client):
    client.call(1, BODY)
    assert client.answer(1).status == 0
    client.send(frame(HEADERS, 0, 3, block(head())))
    client.rest()
    assert client.goaways[-1][1] == 0


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_a_message_that_does_not_come_is_not_waited_for(client, path):
    client.send(frame(HEADERS, END_HEADERS, 1, block(head(path))) + frame(DATA, 0, 1, BODY[:9]))
    answer = client.answer(1)
    assert answer.status == 4
    assert "did not arrive in time" in answer.head["grpc-message"]


def test_a_stream_may_be_silent_between_messages(client):
    client.send(frame(HEADERS, END_HEADERS, 1, block(head(STREAM))) + frame(DATA, 0, 1, BODY))
    time.sleep(2 * LIMITS.body_s)
    client.send(frame(DATA, END_STREAM, 1, BODY))
    assert client.answer(1).status == 0


def test_a_client_that_opens_no_window_gets_its_call_reset(shared_worker):
    with RawClient((HOST, shared_worker.grpc_port), {4: 0}) as client:
        client.greet().call(1, BODY)
        answer = client.answer(1)
        assert answer.head[":status"] == "200"
        assert answer.reset == CANCEL
        client.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535)))
        client.call(3, BODY)
        assert client.answer(3).status == 0


def test_a_reply_goes_out_as_the_windows_open(start_worker):
    worker = start_worker()
    worker.serve({"wide": onnx_models.identity("FP32", 50_000)})
    wide = np.tile(np.arange(10, dtype=np.float32), 5_000).reshape(1, -1)
    with RawClient((HOST, worker.grpc_port), {4: 1000}) as client:
        packed = message(gzip.compress(request_of("wide", wide)), 1)
        client.greet().call(1, packed, grpc_encoding="gzip")
        grown = 1000
        while client.answers.get(1) is None or not client.answers[1].ended:
            next(client.events())
            if client.answers.get(1) is not None and len(client.answers[1].data) == grown:
                step = struct.pack(">I", 7001)
                client.send(frame(WINDOW_UPDATE, 0, 1, step) + frame(WINDOW_UPDATE, 0, 0, step))
                grown += 7001
        assert client.answers[1].status == 0
        reply = pb.ModelInferResponse.FromString(client.answers[1].data[5:])
        assert reply.raw_output_contents == [wide.tobytes()]


def test_a_client_that_reads_nothing_is_cut_off(start_worker):
    worker = start_worker()
    worker.serve({"wide": onnx_models.identity("FP32", 50_000)})
    # Small to send, and 200 kB to be read.
    body = message(gzip.compress(request_of("wide", np.ones((1, 50_000), np.float32))), 1)
    with RawClient((HOST, worker.grpc_port), {4: 2**31 - 1}, buffer_bytes=65_536) as client:
        client.greet().send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))
        for stream_id in range(1, 101, 2):
            client.call(stream_id, body, grpc_encoding="gzip")
        eventually(lambda: closes(worker, "write_timeout") == 1)
    with RawClient((HOST, worker.grpc_port)) as client:
        client.greet().call(1, message(request_of("no")))
        assert client.answer(1).status == 5


def test_more_connections_than_allowed_are_sent_away(start_worker):
    worker = start_worker(limits=LimitSettings(connections_max=2))
    worker.serve({"identity": onnx_models.identity()})
    address = (HOST, worker.grpc_port)
    with RawClient(address) as first, RawClient(address) as second, RawClient(address) as third:
        for stream_client in (first, second):
            stream_client.greet().call(1, BODY)
            assert stream_client.answer(1).status == 0
        third.greet()
        third.rest()
        assert third.goaways[-1][1] == ENHANCE_YOUR_CALM
        first.call(3, BODY)
        assert first.answer(3).status == 0


def test_a_client_that_is_gone_withdraws_all_its_calls(shared_worker):
    def cancelled():
        return shared_worker.metric("driftgate_requests_cancelled_total", "slow")

    before = cancelled()

    def some_were_cancelled():
        with RawClient((HOST, shared_worker.grpc_port)) as client:
            client.greet()
            for stream_id in range(1, 21, 2):
                client.call(stream_id, message(request_of("slow", np.float32([[1.0]]))))
            next(client.events())
        return cancelled() > before

    eventually(some_were_cancelled)
    assert still_serves(shared_worker)


def test_a_dead_peer_is_noticed_by_its_silence(start_worker):
    limits = LimitSettings(keep_alive_s=0.5)
    worker = start_worker(limits=limits)
    worker.serve({"identity": onnx_models.identity()})
    with RawClient((HOST, worker.grpc_port)) as client:
        client.greet().call(1, BODY)
        assert client.answer(1).status == 0
        while not client.pings:
            next(client.events())
        client.send(frame(PING, 1, 0, client.pings[0]))
        client.pings.clear()
        while not client.pings:  # and asked again
            next(client.events())


# The drain


def test_a_drain_serves_what_comes_before_the_client_has_heard_of_it(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    with RawClient((HOST, worker.grpc_port)) as client:
        client.greet().call(1, BODY)
        assert client.answer(1).status == 0
        worker.send(channel_pb2.ToWorker(drain=channel_pb2.Drain(grace_ms=20_000)))
        while not client.pings:
            next(client.events())
        assert client.goaways == [(2**31 - 1, 0)]
        client.call(3, BODY)  # crosses the notice
        assert client.answer(3).status == 0
        client.send(frame(HEADERS, END_HEADERS, 5, block(head())))
        client.send(frame(PING, 1, 0, client.pings[0]))
        while len(client.goaways) < 2:
            next(client.events())
        assert client.goaways[1] == (5, 0)
        client.send(frame(DATA, END_STREAM, 5, BODY))  # begun, so it is finished
        assert client.answer(5).status == 0
        client.rest()
    assert worker.process.wait(30) == 0


def test_a_drain_does_not_wait_for_a_client_that_says_nothing(start_worker):
    worker = start_worker()
    worker.serve({"identity": onnx_models.identity()})
    with RawClient((HOST, worker.grpc_port)) as client:
        client.greet().call(1, BODY)
        assert client.answer(1).status == 0
        began = time.monotonic()
        assert worker.drain(25_000) == 0
        assert time.monotonic() - began < 20
        client.rest()
        assert client.goaways == [(2**31 - 1, 0), (1, 0)]


def test_a_call_on_a_grpc_channel_survives_the_drain_of_its_worker(start_worker, tmp_path):
    first = start_worker(state_dir=tmp_path / "one")
    first.serve({"identity": onnx_models.identity()})
    second = start_worker(state_dir=tmp_path / "two", grpc_listener=first.grpc_listener.dup())
    with grpc.insecure_channel(first.grpc_target) as channel:  # and no retry policy
        method = channel.unary_unary(INFER)
        assert method(BODY[5:], timeout=20)
        second.serve({"identity": onnx_models.identity()})
        first.send(channel_pb2.ToWorker(drain=channel_pb2.Drain(grace_ms=20_000)))
        count = 0
        while first.process.poll() is None:
            assert method(BODY[5:], timeout=20)
            count += 1
        assert first.process.wait() == 0
        for _ in range(20):
            assert method(BODY[5:], timeout=20)
