"""The supervisor's lock and listening sockets, which outlive it when it execs itself.

Laws:
- one supervisor per state directory: the lock is a flock that only this process
  holds (workers never inherit it) and that an exec keeps;
- after a crash the listeners are those that the earlier workers still hold, so nobody
  in a backlog is lost; where a worker's gRPC engine has a listener of its own, the port
  is shared with it (SO_REUSEPORT), and ours does not listen: nobody would accept;
- without such workers a port must be free: it is shared with nobody else;
- port 0 is resolved here, once; a worker never sees it.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from serving.settings import GatewaySettings

INHERITED = "DRIFTGATE_INHERITED"  # name -> descriptor, as JSON, across an exec
_BACKLOG = 2048


CANNOT_START = 5  # exit code; tells who restarts us that trying again will not help
NOT_NOW = 1  # another try may do


class StartError(Exception):
    """The gateway cannot start; one sentence with what to do, and the exit code."""

    def __init__(self, sentence: str, code: int = CANNOT_START) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True)
class Sockets:
    """What is bound for the life of the gateway; `lock` is the flock's descriptor."""

    http: socket.socket
    # With grpcio bound and never listening: it keeps the port for the workers' own listeners.
    grpc: socket.socket
    metrics: socket.socket
    admin: socket.socket
    lock: int

    @property
    def ports(self) -> dict[str, int]:
        return {
            name: getattr(self, name).getsockname()[1]
            for name in ("http", "grpc", "metrics", "admin")
        }

    def export(self) -> dict[str, str]:
        """Environment variables through which an exec'ed supervisor takes all of it over."""
        held = {name: getattr(self, name).fileno() for name in ("http", "grpc", "metrics", "admin")}
        held["lock"] = self.lock
        for descriptor in held.values():
            os.set_inheritable(descriptor, True)
        return {INHERITED: json.dumps(held)}

    def close(self) -> None:
        for sock in (self.http, self.grpc, self.metrics, self.admin):
            sock.close()
        os.close(self.lock)


def take_over(environment: "os._Environ[str]") -> Sockets | None:
    """What this process held before it exec'ed itself, or None."""
    text = environment.pop(INHERITED, "")
    if not text:
        return None
    held = json.loads(text)
    for descriptor in held.values():
        os.set_inheritable(descriptor, False)
    return Sockets(
        **{name: socket.socket(fileno=held[name]) for name in ("http", "grpc", "metrics", "admin")},
        lock=held["lock"],
    )


def lock(state_dir: Path) -> int:
    """Take the state directory for this process.

    Raises: StartError if another supervisor has it, or it cannot be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(
            state_dir / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise StartError(
            f"the state directory {state_dir} cannot be written ({error.strerror or error}); "
            "choose another with --state-dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StartError(
            f"another gateway runs in {state_dir}; stop it or choose another state directory"
        ) from error
    return descriptor


def open_sockets(
    gateway: GatewaySettings,
    lock_fd: int,
    *,
    grpc_listens: bool = False,
    beside_workers: bool = False,
    held: Sequence[socket.socket] = (),
) -> Sockets:
    """Bind everything. beside_workers: workers of an earlier supervisor still serve.

    grpc_listens: whether workers accept gRPC from our listener.
    held: what the earlier workers have, HTTP's first; used if it fits, else closed.
    Raises: StartError for a port that is taken or must not be opened.
    """
    check_admin_host(gateway)
    with contextlib.ExitStack() as opened:
        ports = {"http": (gateway.http_port, True), "grpc": (gateway.grpc_port, grpc_listens)}
        shared: dict[str, socket.socket] = {}
        for (name, (port, listens)), theirs in zip_longest(ports.items(), held[: len(ports)]):
            sock = _fitting(theirs, gateway.host, port, listens=listens)
            if sock is None:
                sock = _shared(gateway.host, port, name, listens=listens, beside=beside_workers)
            opened.callback(sock.close)
            shared[name] = sock
        metrics = _bind(gateway.host, gateway.metrics_port, "metrics")
        opened.callback(metrics.close)
        metrics.listen(_BACKLOG)
        admin = _bind(gateway.admin_host, gateway.admin_port, "admin")
        opened.callback(admin.close)
        admin.listen(_BACKLOG)
        opened.pop_all()
    return Sockets(shared["http"], shared["grpc"], metrics, admin, lock_fd)


def with_grpc(sockets: Sockets, gateway: GatewaySettings, *, listens: bool) -> Sockets:
    """The sockets, gRPC's changed for one of the other kind if the engine has changed.

    Workers that still accept from the old one go on doing so. Raises: StartError.
    """
    if _listens(sockets.grpc) == listens:
        return sockets
    port = sockets.ports["grpc"]
    grpc = _shared(gateway.host, port, "grpc", listens=listens, beside=True)
    sockets.grpc.close()
    return replace(sockets, grpc=grpc)


def _fitting(
    theirs: socket.socket | None, host: str, port: int, *, listens: bool
) -> socket.socket | None:
    """A socket of earlier workers if it is what we would open; else it is closed."""
    if theirs is None:
        return None
    wanted = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
    its_host, its_port = theirs.getsockname()[:2]
    if its_host == wanted[0] and port in {0, its_port} and _listens(theirs) == listens:
        theirs.setblocking(False)
        return theirs
    theirs.close()
    return None


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _shared(host: str, port: int, name: str, *, listens: bool, beside: bool) -> socket.socket:
    """A port of the workers. Raises: StartError."""
    sock = _bind(host, port, name, shared=True, beside=beside)
    if listens:
        sock.listen(_BACKLOG)
    return sock


def check_admin_host(gateway: GatewaySettings) -> None:
    """Refuse to carry the admin token in clear over a network.

    Raises: StartError unless the address is loopback or the operator insists.
    """
    if gateway.admin_plaintext or _is_loopback(gateway.admin_host):
        return
    raise StartError(
        f"admin_host {gateway.admin_host} is reachable from other machines and the admin port "
        "speaks no TLS; use 127.0.0.1, or set admin_plaintext = true behind a TLS proxy"
    )


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _bind(
    host: str, port: int, name: str, *, shared: bool = False, beside: bool = False
) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if shared and port and not beside:
            _check_free(family, kind, address)
        sock = socket.socket(family, kind)
    except OSError as error:
        raise _taken(name, host, port, error) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise _taken(name, host, port, error) from error
    sock.setblocking(False)
    return sock


def _check_free(family: int, kind: int, address: object) -> None:
    """SO_REUSEPORT would share a port with any process of this user; that is never wanted."""
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)  # type: ignore[arg-type]
        probe.listen(1)


def _taken(name: str, host: str, port: int, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{name} port {host}:{port} is in use; free it or set {name}_port")
    return StartError(f"{name} port {host}:{port} cannot be opened: {error.strerror or error}")
