"""Messages and file descriptors between the supervisor and a worker.

One protobuf message is one packet of a SOCK_SEQPACKET unix socket, so there is
no framing to get wrong: a packet arrives whole, with its descriptors, or not at
all. Both ends run as the same user; anyone else is turned away by the kernel's
own account of who is calling.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

# The kernel refuses a packet larger than the socket's send buffer, whose usual
# ceiling (net.core.wmem_max) is 208 KiB; half of it leaves room for accounting.
PACKET_BYTES_MAX = 104 * 1024
DESCRIPTORS_MAX = 253  # SCM_MAX_FD: more would make the kernel drop the packet
_BACKLOG = 4


class Message(Protocol):
    """What the channel asks of a generated protobuf class."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name
    def ParseFromString(self, data: bytes) -> int: ...  # noqa: N802 - protobuf's name


M = TypeVar("M", bound=Message)


class ChannelError(Exception):
    """The peer or the message breaks the rules of the channel."""


class Endpoint(Generic[M]):
    """One end of a connection; parses what arrives as `receives`.

    Owns its socket. Received descriptors belong to the caller of `receive`.
    """

    def __init__(self, sock: socket.socket, receives: type[M]) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._receives = receives
        self._sending = asyncio.Lock()  # a loop watches a socket for one writer at a time

    @property
    def peer_pid(self) -> int:
        """The process at the other end when the connection was made."""
        return _peer(self._socket)[0]

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one packet; the descriptors stay open here.

        Raises: ChannelError if it is too large, OSError when the peer is gone.
        """
        data = message.SerializeToString()
        if len(data) > PACKET_BYTES_MAX or len(fds) > DESCRIPTORS_MAX:
            raise ChannelError(
                f"a packet of {len(data)} bytes and {len(fds)} descriptors exceeds "
                f"{PACKET_BYTES_MAX} and {DESCRIPTORS_MAX}"
            )
        async with self._sending:
            while True:
                try:
                    socket.send_fds(self._socket, [data], list(fds))
                except BlockingIOError:
                    await self._ready(writing=True)
                else:
                    return

    async def receive(self) -> tuple[M, list[int]] | None:
        """The next packet and its descriptors (close-on-exec), or None at the end.

        Raises: ChannelError for a packet that is cut or is not a message.
        """
        while True:
            try:
                data, fds, flags, _ = socket.recv_fds(
                    self._socket, PACKET_BYTES_MAX, DESCRIPTORS_MAX
                )
            except BlockingIOError:
                await self._ready(writing=False)
                continue
            except ConnectionResetError:
                return None
            for fd in fds:  # recv_fds ignores MSG_CMSG_CLOEXEC in the versions we run on
                os.set_inheritable(fd, False)
            return self._parse(data, list(fds), flags)

    def _parse(self, data: bytes, fds: list[int], flags: int) -> tuple[M, list[int]] | None:
        if not data and not fds:
            return None
        message = self._receives()
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ChannelError("a packet arrived cut")
            message.ParseFromString(data)
        except Exception as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, ChannelError):
                raise
            raise ChannelError(f"a packet is not a {self._receives.__name__}") from error
        return message, fds

    async def _ready(self, *, writing: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        fd = self._socket.fileno()
        if fd < 0:
            raise BrokenPipeError("the channel is closed")
        add, remove = (
            (loop.add_writer, loop.remove_writer)
            if writing
            else (loop.add_reader, loop.remove_reader)
        )
        add(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            remove(fd)

    def close(self) -> None:
        """Hang up; a pending `receive` must have been cancelled before."""
        self._socket.close()


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, readable by this user alone; replaces a stale one."""
    sock = _socket()
    path.unlink(missing_ok=True)
    with _short(path) as short:
        sock.bind(short)
    os.chmod(path, 0o600)
    sock.listen(_BACKLOG)
    return sock


async def accept(listener: socket.socket, receives: type[M]) -> Endpoint[M]:
    """The next connection of a process of this user; others are hung up on."""
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        if _peer(sock)[1] == os.geteuid():
            return Endpoint(sock, receives)
        sock.close()


def connect(path: Path, receives: type[M]) -> Endpoint[M]:
    """Call the listener at `path`.

    Raises: OSError if nobody listens, ChannelError if another user does.
    """
    sock = _socket()
    try:
        with _short(path) as short:
            sock.connect(short)
        if _peer(sock)[1] != os.geteuid():
            raise ChannelError(f"{path.name} belongs to another user")
    except BaseException:
        sock.close()
        raise
    return Endpoint(sock, receives)


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    return sock


def _peer(sock: socket.socket) -> tuple[int, int]:
    """pid and uid of the other end."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid


class _short:  # noqa: N801 - reads as the adjective it is
    """`path` in a form that fits into sun_path's 107 bytes, however deep it lies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> str:
        self._fd = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
