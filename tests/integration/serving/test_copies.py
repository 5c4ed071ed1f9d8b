"""How often the bytes of a tensor are copied between the socket and the batch."""

import asyncio
import json
import socket
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from unittest.mock import MagicMock

import grpc
import numpy as np
import pytest
import uvloop

from protos import inference_pb2 as pb
from serving.core.datatypes import Datatype
from serving.core.signature import Signature, TensorSpec
from serving.nghttp2 import LibraryError, find
from serving.worker.grpc_handlers import Handlers
from serving.worker.grpc_server import awaited
from serving.worker.http2.binding import Binding
from serving.worker.http2.connection import Connection as Http2Connection
from serving.worker.http2.gate import Http2Gate
from serving.worker.http_protocol import GatewayProtocol
from serving.worker.reply_packer import ReplyPacker
from tests.integration.serving.in_process import gateway as in_process

MIB = 2**20
INFER = "/inference.GRPCInferenceService/ModelInfer"
SLACK_BYTES = MIB  # of everything that is no tensor
READ_BYTES = 256_000  # what uvloop reads at once, if it does not read to our buffer
SIGNATURE = Signature(
    "m",
    "1",
    (TensorSpec("x", Datatype.FP32, (-1, -1)),),
    (TensorSpec("y", Datatype.FP32, (-1, 1)),),
    8,
)
WAIT_S = 30


class Session:
    """Keeps what it is given; answers with the first column."""

    def __init__(self):
        self.batches = []

    def run(self, arrays):
        assert all(array.flags.aligned and array.flags.c_contiguous for array in arrays)
        self.batches.append(arrays[0])
        return [arrays[0][:, :1].copy()]


class Connection(GatewayProtocol):
    """Remembers where its bytes came."""

    def __init__(self, gate, delivered):
        super().__init__(gate)
        self._delivered = delivered

    @property
    def waits_for_one_byte(self):
        return self._exchange is not None and self._exchange.missing == 1

    def data_received(self, data):
        self._delivered.append(data)
        super().data_received(data)

    def body_room(self):
        room = super().body_room()
        self._delivered.append(room)
        return room


@asynccontextmanager
async def gateway():
    """A data plane with one version, and its HTTP port."""
    session, delivered = Session(), []
    async with in_process(
        SIGNATURE, session, connection=lambda gate: Connection(gate, delivered)
    ) as served:
        plane = served.plane
        handlers = Handlers(plane, MagicMock(), MagicMock())
        yield SimpleNamespace(
            port=served.port,
            session=session,
            delivered=delivered,
            connections=served.gate.connections,
            grpc=SimpleNamespace(infer=awaited(handlers.infer)),
            begins={INFER.encode(): (handlers.infer, None, None)},
            plane=plane,
            admission=plane.admission,
        )


def run(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def http_request(array, *, aligned=True):
    """Head and body; `aligned` if they come in one `bytes`."""
    entry = {"name": "x", "shape": list(array.shape), "datatype": "FP32",
             "parameters": {"binary_data_size": array.nbytes}}  # fmt: skip
    text = json.dumps({"inputs": [entry]}).encode()
    while True:
        head = (
            f"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: "
            f"{len(text) + array.nbytes}\r\nInference-Header-Content-Length: {len(text)}\r\n\r\n"
        ).encode()
        if ((len(head) + len(text)) % 4 == 0) == aligned:
            return head, text + array.tobytes()
        text += b" "


class Client:
    """A blocking one in a thread, which allocates next to nothing."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._reply = bytearray(65536)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._socket.close()

    def send(self, piece):
        self._socket.sendall(piece)

    def _exchange(self, pieces):
        for piece in pieces:
            self.send(piece)
        size = self._socket.recv_into(self._reply)
        assert self._reply[:size].startswith(b"HTTP/1.1 200"), bytes(self._reply[:size])

    async def post(self, *pieces):
        await asyncio.to_thread(self._exchange, pieces)


def values(mib_or_bytes):
    return np.arange(mib_or_bytes // 4, dtype=np.float32).reshape(1, -1)


def shares(array, delivered):
    return any(np.shares_memory(array, np.frombuffer(piece, np.uint8)) for piece in delivered)


def grpc_message(array, *, aligned):
    """`aligned`: the tensor is, where a `bytes` begins at a multiple of its size."""
    for padding in range(6):
        message = pb.ModelInferRequest(
            model_name="m", id="i" * padding, raw_input_contents=[array.tobytes()]
        )
        message.inputs.add(name="x", datatype="FP32", shape=array.shape)
        data = message.SerializeToString()
        view = np.frombuffer(data, np.uint8, offset=len(data) - array.nbytes)
        if (view.__array_interface__["data"][0] % 4 == 0) == aligned:
            return data
    raise AssertionError("no padding aligns it")


CALL = SimpleNamespace(left_ns=lambda: 0, metadata=lambda _: "")


@pytest.mark.parametrize("known", [False, True], ids=["new head", "known head"])
def test_a_body_in_one_read_runs_where_it_was_delivered(known):
    async def main():
        array = values(4000)
        async with gateway() as served, Client(served.port) as client:
            for _ in range(1 + known):
                await client.post(b"".join(http_request(array)))
            assert len(served.delivered) == 1 + known
            given = served.session.batches[-1]
            assert np.array_equal(given, array)
            assert shares(given, served.delivered[-1:])

    run(main)


def test_a_tensor_that_is_not_aligned_is_copied_for_the_model():
    async def main():
        array = values(4000)
        async with gateway() as served, Client(served.port) as client:
            await client.post(b"".join(http_request(array, aligned=False)))
            (given,) = served.session.batches
            assert np.array_equal(given, array)
            assert not shares(given, served.delivered)

    run(main)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("known", [False, True], ids=["new head", "known head"])
def test_a_body_of_many_reads_runs_where_the_kernel_wrote_it(aligned, known):
    async def main():
        array = values(4 * MIB)
        head, body = http_request(array, aligned=aligned)
        async with gateway() as served, Client(served.port) as client:
            for pieces in [(head + body,), (head, body)] * (1 + known):
                served.delivered.clear()
                await client.post(*pieces)
                given = served.session.batches[-1]
                assert np.array_equal(given, array)
                assert shares(given, served.delivered)
                moved = sum(len(piece) for piece in served.delivered if isinstance(piece, bytes))
                assert moved <= READ_BYTES

    run(main)


def test_a_large_grpc_message_runs_where_it_was_delivered():
    async def main():
        array = values(MIB)
        data = grpc_message(array, aligned=True)
        async with gateway() as served:
            await served.grpc.infer(data, CALL)
            (given,) = served.session.batches
            assert np.array_equal(given, array)
            assert shares(given, [data])

    run(main)


def allocated(before):
    """Bytes beyond those of `before`, at their highest."""
    return tracemalloc.get_traced_memory()[1] - before


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_a_large_body_is_held_once():
    async def main():
        size = 16 * MIB
        head, body = http_request(values(size))
        async with gateway() as served, Client(served.port) as client:
            await client.post(b"".join(http_request(values(400))))  # what is allocated once
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            await client.post(head, body)
            assert size <= allocated(before) <= size + SLACK_BYTES

    run(main)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("aligned", [True, False])
def test_a_large_message_is_not_held_again_but_to_align_it(aligned):
    async def main():
        size = 16 * MIB
        data = grpc_message(values(size), aligned=aligned)
        async with gateway() as served:
            await served.grpc.infer(grpc_message(values(400), aligned=True), CALL)
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            await served.grpc.infer(data, CALL)
            copies = 0 if aligned else 1
            assert copies * size <= allocated(before) <= copies * size + SLACK_BYTES

    run(main)


@asynccontextmanager
async def over_nghttp2(served):
    """A call through the port of the engine, made in a thread by a client written in C."""
    try:
        library = find()
    except LibraryError as error:
        pytest.skip(str(error))
    loop = asyncio.get_running_loop()
    packer = ReplyPacker(loop, 0)
    gate = Http2Gate(
        loop, served.plane, Binding(library, 16_384), served.begins, packer, packs_replies=False
    )  # fmt: skip
    server = await loop.create_server(lambda: Http2Connection(gate), "127.0.0.1", 0)
    gate.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as channel:
            method = channel.unary_unary(INFER)
            yield lambda data: asyncio.to_thread(method, data, timeout=WAIT_S)
    finally:
        server.close()
        gate.stop()
        await gate.emptied.wait()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("aligned", [True, False])
def test_a_large_message_over_http2_is_held_once(aligned):
    async def main():
        size = 16 * MIB
        data = grpc_message(values(size), aligned=aligned)
        async with gateway() as served, over_nghttp2(served) as call:
            await call(grpc_message(values(400), aligned=True))
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            await call(data)
            copies = 1 if aligned else 2
            assert copies * size <= allocated(before) <= copies * size + SLACK_BYTES
            assert np.array_equal(served.session.batches[-1], values(size))

    run(main)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_requests_that_run_together_are_copied_once_into_their_batch(protocol):
    async def main():
        size, count = 4 * MIB, 3
        array = values(size)
        request = b"".join(http_request(array, aligned=False))
        most, last = memoryview(request)[:-1], request[-1:]
        data = grpc_message(array, aligned=False)
        async with gateway() as served, AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(served.port)) for _ in range(count)]
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            if protocol == "grpc":
                await asyncio.gather(*[served.grpc.infer(data, CALL) for _ in range(count)])
                received = 0
            else:
                for client in clients:
                    await asyncio.to_thread(client.send, most)
                while not all(c.waits_for_one_byte for c in served.connections):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                for client in clients:  # while the loop waits, so that it sees them together
                    client.send(last)
                await asyncio.gather(*[client.post() for client in clients])
                received = count * size
            peak = allocated(before)
            (batch,) = served.session.batches
            assert np.array_equal(batch, np.repeat(array, count, axis=0))
            assert received + count * size <= peak <= received + count * size + SLACK_BYTES

    run(main)
