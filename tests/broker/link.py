"""A broker that one client reaches through a link of its own, which a test may cut."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtests.gateway import free_ports
from tests.broker.broker import Broker


class Link:
    """Forwards TCP; cut, it drops what is open and refuses what comes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for item in self._sockets:
                _end(item)
            self._sockets = []

    def heal(self) -> None:
        with self._lock:
            self._cut = False

    def close(self) -> None:
        self.cut()
        _end(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock, suppress(OSError):
                if self._cut:
                    _end(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                far.settimeout(None)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=_forward, args=(source, target), daemon=True).start()


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(item: socket.socket) -> None:
    with suppress(OSError):
        item.shutdown(socket.SHUT_RDWR)
    item.close()


@contextmanager
def linked_broker(folder: Path) -> Iterator[tuple[Broker, Link]]:
    """The broker, which is reached at its own address, and through the link alone as well."""
    broker = Broker(folder)
    (port,) = free_ports(1)
    link = Link(port)
    settings = broker.settings
    settings["listeners"] += f",LINK://127.0.0.1:{port}"
    settings["advertised.listeners"] += f",LINK://{link.address}"
    settings["listener.security.protocol.map"] = ",".join(
        f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "CONTROLLER", "LINK")
    )
    settings["inter.broker.listener.name"] = "PLAINTEXT"
    try:
        broker.start()
        yield broker, link
    finally:
        link.close()
        broker.stop()
