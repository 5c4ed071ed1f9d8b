"""Under a flood, requests that cannot be in time are refused before they are read."""

import asyncio
import json
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import uvloop

from serving.core.datatypes import Datatype
from serving.core.latency import LatencyProfile
from serving.core.signature import Signature, TensorSpec
from serving.worker import dataplane, shedding
from tests.integration.serving import in_process
from tests.integration.serving.in_process import WAIT_S, gateway

IN, OUT = (TensorSpec(name, Datatype.FP32, (-1, 1)) for name in "xy")
SIGNATURE = Signature("m", "1", (IN,), (OUT,), 8)
RUN_NS = 1_000_000_000
HURRY_US = 50_000


class Slow:
    """Runs end when the test says so."""

    def __init__(self):
        self.go = threading.Event()

    def run(self, arrays):
        assert self.go.wait(WAIT_S)
        return [-arrays[0]]


def body(timeout_us=0, *, data=(1.0,)):
    tensor = {"name": "x", "shape": [len(data), 1], "datatype": "FP32", "data": list(data)}
    document = {"inputs": [tensor]}
    if timeout_us:
        document["parameters"] = {"timeout": timeout_us}
    return json.dumps(document).encode()


def message(content, *, headers=""):
    return (
        f"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n"
        f"{headers}\r\n"
    ).encode() + content


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    def send(self, content, **extra):
        self._writer.write(message(content, **extra))

    async def reply(self):
        """Status and document."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), json.loads(await self._reader.readexactly(size)), head

    async def ask(self, content, **extra):
        self.send(content, **extra)
        return await self.reply()

    def close(self):
        self._writer.close()


async def until_held(served, rows):
    while served.plane.admission.rows != rows:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.001)


@asynccontextmanager
async def flooded(wait_ns_max=0, run_ns=RUN_NS):
    """A gateway whose one thread is busy for long, and that has refused one for it."""
    session = Slow()
    profile = LatencyProfile((1 << i, run_ns) for i in range(4))
    async with gateway(
        SIGNATURE, session, inline=False, profile=profile, wait_ns_max=wait_ns_max
    ) as served:
        clients = [
            Client(*await asyncio.open_connection("127.0.0.1", served.port)) for _ in range(4)
        ]
        try:
            clients[0].send(body())
            await until_held(served, 1)
            clients[1].send(body())  # waits behind it
            await until_held(served, 2)
            assert (await clients[2].ask(body(HURRY_US)))[0] == 503
            assert served.plane.pressed
            yield served, session, clients
        finally:
            session.go.set()
            await until_held(served, 0)
            for client in clients:
                client.close()


def run(scenario, **options):
    async def main():
        async with flooded(**options) as (served, session, clients):
            await scenario(served, session, clients)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def garbled(content):
    """The same, of the same length, but no JSON any more."""
    return content.replace(b"[1.0]", b"[1.0{")


def test_what_cannot_be_in_time_is_refused_unread():
    async def scenario(served, session, clients):
        hopeless = garbled(body(HURRY_US))
        status, document, head = await clients[2].ask(hopeless)
        assert status == 503
        assert "too many requests wait for model 'm'" in document["error"]
        assert b"retry-after:" in head
        served.plane.metrics.refused.assert_called_with(
            "m", "http", 503, dataplane.Overloaded.reason, 1
        )
        served.plane.pressed = False
        assert (await clients[2].ask(hopeless))[0] == 400

    run(scenario)


def test_who_has_time_is_let_in_and_answered():
    async def scenario(served, session, clients):
        clients[2].send(body(20_000_000))
        await until_held(served, 3)
        session.go.set()
        status, document, _ = await clients[2].reply()
        assert (status, document["outputs"][0]["data"]) == (200, [-1.0])

    run(scenario)


def test_the_deadline_of_the_head_counts_as_well():
    async def scenario(served, session, clients):
        hurry = {"headers": "X-Request-Timeout-Ms: 50\r\n"}
        assert (await clients[2].ask(body(), **hurry))[0] == 503
        assert (await clients[2].ask(garbled(body()), **hurry))[0] == 503
        bad = {"headers": "X-Request-Timeout-Ms: -5\r\n"}
        for _ in range(2):
            assert (await clients[2].ask(body(), **bad))[0] == 400

    run(scenario)


@pytest.mark.parametrize("together", [1, 2, 128])
def test_a_connection_goes_on_after_a_refusal(monkeypatch, together):
    monkeypatch.setattr(shedding, "TOGETHER_MAX", together)

    async def scenario(served, session, clients):
        for _ in range(5):
            for client in clients[2:]:
                client.send(body(HURRY_US))
            for client in clients[2:]:
                assert (await client.reply())[0] == 503
        session.go.set()
        await until_held(served, 0)
        for client in clients[2:]:
            assert (await client.ask(body()))[0] == 200

    run(scenario)


def test_a_client_that_leaves_before_its_refusal_is_forgotten():
    async def scenario(served, session, clients):
        clients[2].send(body(HURRY_US))
        clients[2]._writer.transport.abort()
        assert (await clients[3].ask(body(HURRY_US)))[0] == 503
        while len(served.gate.connections) > 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    run(scenario)


def test_the_press_is_over_a_while_after_the_last_refusal(monkeypatch):
    async def scenario(served, session, clients):
        now_ns = served.plane._clock_ns()
        served.plane._clock_ns = lambda: now_ns + dataplane.PRESSED_NS + RUN_NS
        assert (await clients[2].ask(garbled(body(HURRY_US))))[0] == 400
        assert not served.plane.pressed

    run(scenario)


def test_the_run_that_ended_is_collected_in_between():
    async def scenario(served, session, clients):
        session.go.set()
        for index in (0, 1):
            assert (await clients[index].reply())[0] == 200
        threads = served.plane._threads
        done = []
        threads.ended.append((lambda _: done.append(True), None))
        served.plane.is_hopeless("m", "", 0)
        assert done == [True]

    run(scenario)


def test_who_names_no_deadline_is_refused_while_a_queue_stands():
    async def scenario(served, session, clients):
        clients[2].send(body(data=[1.0] * 8))  # with the one that waits, more than a batch
        await until_held(served, 10)
        served.plane.pressed = False
        status, document, head = await clients[3].ask(body())
        assert (status, b"retry-after:" in head) == (503, True)
        assert "the queue of model 'm' has been too long" in document["error"]
        assert (await clients[3].ask(garbled(body())))[0] == 503, "the next ones unread"
        version = served.plane.table.routes["m"].arms[0].target
        assert version.batcher.facts().refused_standing == 1
        clients[3].send(body(20_000_000))
        await until_held(served, 11)
        session.go.set()
        assert (await clients[3].reply())[0] == 200
        await until_held(served, 0)
        assert (await clients[3].ask(body()))[0] == 200

    run(scenario, wait_ns_max=RUN_NS // 4)


def test_whose_tenant_has_less_than_its_share_is_not_refused_for_another(monkeypatch):
    long_ns = 100 * RUN_NS  # the time that the test takes makes no difference

    async def scenario(served, session, clients):
        loud, quiet = ({"headers": f"X-Tenant: {name}\r\n"} for name in ("loud", "quiet"))
        late_us = 34 * long_ns // 10_000  # the answer comes after three runs, a ninth before
        late = body(late_us)
        clients[2].send(body(late_us, data=[1.0] * 8), **loud)
        await until_held(served, 10)
        assert (await clients[3].ask(late, **loud))[0] == 503
        assert (await clients[3].ask(garbled(late), **quiet))[0] == 400  # its head is known now
        assert (await clients[3].ask(garbled(late), **loud))[0] == 503, "the next ones unread"
        assert (await clients[3].ask(garbled(late), **quiet))[0] == 400, "but not another's"
        clients[3].send(late, **quiet)
        await until_held(served, 11)
        session.go.set()
        assert (await clients[3].reply())[0] == 200

    limits = replace(in_process.LIMITS, tenant_header="X-Tenant", request_s_max=10_000.0)
    monkeypatch.setattr(in_process, "LIMITS", limits)
    run(scenario, run_ns=long_ns)
