"""The small ports hang up on clients that stall or send endless heads."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from serving.supervisor import listener as admin_listener

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def converse(client: Client) -> None:
    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    async def run() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        app = Starlette(routes=[Route("/", hello)])
        server = asyncio.create_task(admin_listener.serve_http(app, sock))
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        try:
            async with asyncio.timeout(20):
                await client(reader, writer)
        finally:
            writer.close()
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
            sock.close()

    asyncio.run(run())


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_client_that_stalls_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(admin_listener, "HEAD_S_MAX", 0.05)

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        assert await reader.read() == b""

    converse(stall)


async def endless(writer: asyncio.StreamWriter) -> None:
    for _ in range(100_000):
        writer.write(b"X-A: " + b"a" * 1000 + b"\r\n")
        await writer.drain()


def test_an_endless_head_is_hung_up_on() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            await endless(writer)

    converse(babble)


def test_requests_on_one_connection_are_answered_in_turn() -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(5) == b"hello"

    converse(ask)
