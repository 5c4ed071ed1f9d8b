"""Packets and descriptors between two ends of a socket."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from protos import channel_pb2 as pb
from serving.channel import PACKET_BYTES_MAX, ChannelError, Endpoint, accept, connect, listen

Ends = Callable[[Endpoint[pb.ToWorker], Endpoint[pb.FromWorker]], Awaitable[None]]


def between(path: Path, talk: Ends) -> None:
    async def run() -> None:
        listener = listen(path)
        supervisor = connect(path, pb.FromWorker)
        worker = await accept(listener, pb.ToWorker)
        try:
            async with asyncio.timeout(20):
                await talk(worker, supervisor)
        finally:
            for end in (worker, supervisor, listener):
                end.close()

    asyncio.run(run())


def drain(grace_ms: int) -> pb.ToWorker:
    return pb.ToWorker(drain=pb.Drain(grace_ms=grace_ms))


def test_a_message_arrives_with_its_descriptors(tmp_path: Path) -> None:
    async def talk(worker: Endpoint[pb.ToWorker], supervisor: Endpoint[pb.FromWorker]) -> None:
        files = [os.memfd_create(str(n)) for n in range(40)]
        for n, fd in enumerate(files):
            os.write(fd, str(n).encode())
        await supervisor.send(drain(7), files)
        received = await worker.receive()
        assert received is not None
        message, fds = received
        assert message.drain.grace_ms == 7
        assert [os.pread(fd, 9, 0) for fd in fds] == [str(n).encode() for n in range(40)]
        assert not any(os.get_inheritable(fd) for fd in fds)
        for fd in (*files, *fds):
            os.close(fd)

    between(tmp_path / "a.sock", talk)


def test_many_senders_at_once_lose_nothing_when_the_reader_is_slow(tmp_path: Path) -> None:
    async def talk(worker: Endpoint[pb.ToWorker], supervisor: Endpoint[pb.FromWorker]) -> None:
        big = pb.ToWorker(load=pb.Load(settings_json=b"x" * 90_000))
        senders = [asyncio.create_task(supervisor.send(big)) for _ in range(30)]
        await asyncio.sleep(0.05)
        assert not all(task.done() for task in senders)
        for _ in range(30):
            received = await worker.receive()
            assert received is not None
            assert received[0] == big
        await asyncio.gather(*senders)

    between(tmp_path / "a.sock", talk)


def test_the_end_of_a_connection_is_none(tmp_path: Path) -> None:
    async def talk(worker: Endpoint[pb.ToWorker], supervisor: Endpoint[pb.FromWorker]) -> None:
        await supervisor.send(drain(1))
        supervisor.close()
        assert await worker.receive() is not None
        assert await worker.receive() is None

    between(tmp_path / "a.sock", talk)


def test_what_is_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async def talk(worker: Endpoint[pb.ToWorker], supervisor: Endpoint[pb.FromWorker]) -> None:
        with pytest.raises(ChannelError, match="exceeds"):
            await supervisor.send(pb.ToWorker(load=pb.Load(settings_json=b"x" * PACKET_BYTES_MAX)))
        with pytest.raises(ChannelError, match="300 descriptors"):
            await supervisor.send(drain(1), [0] * 300)

    between(tmp_path / "a.sock", talk)


def test_a_packet_that_is_no_message_is_an_error_and_leaks_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    async def talk(worker: Endpoint[pb.ToWorker], supervisor: Endpoint[pb.FromWorker]) -> None:
        raw = supervisor._socket
        fd = os.memfd_create("x")
        socket.send_fds(raw, [b"\xff\xff\xff"], [fd])
        os.close(fd)
        with pytest.raises(ChannelError, match="not a ToWorker"):
            await worker.receive()
        raw.send(b"\x0a" * (PACKET_BYTES_MAX + 10))
        with pytest.raises(ChannelError, match="cut"):
            await worker.receive()

    between(tmp_path / "a.sock", talk)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_path_deeper_than_a_socket_address_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async def talk(worker: Endpoint[pb.ToWorker], supervisor: Endpoint[pb.FromWorker]) -> None:
        assert supervisor.peer_pid == os.getpid()
        assert (deep / "a.sock").stat().st_mode & 0o777 == 0o600

    between(deep / "a.sock", talk)


def test_nobody_listening_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        connect(tmp_path / "none.sock", pb.FromWorker)
