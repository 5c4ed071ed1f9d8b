"""One HTTP request to an address that was judged first, and a bounded answer.

Laws:
- the name is resolved once; if any of its addresses must not be reached, none is; the
  connection goes to an address that was judged, under the name's certificate;
- redirects are not followed, proxies of the environment not asked;
- all of it takes at most `timeout_s` after the name was resolved, however slowly the
  other side drips; of the answer ANSWER_BYTES_MAX are read.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from monitor.triggers.core.egress import InvalidUrl, Network, Target, parse_target, refusal

ANSWER_BYTES_MAX = 16 * 1024
USER_AGENT = "driftgate"
Place = tuple[socket.AddressFamily, Any]  # and the address as `connect` takes it


class Unreachable(Exception):
    """No answer; a later attempt may get one."""


class NotAllowed(Exception):
    """The guard refuses; a later attempt would be refused too."""


@dataclass(frozen=True, slots=True)
class Egress:
    """Where requests may go, and whom to believe."""

    plaintext: bool
    allowed: Sequence[Network]
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes  # its beginning


def send(request: HttpRequest, egress: Egress, timeout_s: float) -> HttpAnswer:
    """Raises: NotAllowed, Unreachable."""
    try:
        target = parse_target(request.url, plaintext=egress.plaintext)
    except InvalidUrl as exc:
        raise NotAllowed(str(exc)) from exc
    places = resolve(target, egress)
    deadline = _Deadline(timeout_s)
    try:
        return _exchange(request, target, places, egress, deadline)
    except (OSError, http.client.HTTPException) as exc:
        why = f"no answer within {timeout_s:g} s" if deadline.passed else _sentence(exc)
        raise Unreachable(f"{target.host}:{target.port}: {why}") from exc
    finally:
        deadline.end()


def resolve(target: Target, egress: Egress) -> list[Place]:
    """The addresses of the host, all of them allowed. Raises: NotAllowed, Unreachable."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise Unreachable(f"{target.host} cannot be resolved: {_sentence(exc)}") from exc
    places: list[Place] = [(item[0], item[4]) for item in found]
    for _, address in places:
        if reason := refusal(str(address[0]), egress.allowed):
            raise NotAllowed(f"{target.host}: {reason}")
    return places


class _Deadline:
    """Cuts the connection off when its time is over; the thread that waits for it goes on."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connection: socket.socket) -> None:
        self._socket = connection
        if self.passed:
            raise TimeoutError

    def end(self) -> None:
        self._timer.cancel()
        if self._socket is not None:
            self._socket.close()

    def _cut(self) -> None:
        self.passed = True
        if self._socket is not None:
            # The plain socket's own: that of a TLS socket forgets the session that
            # another thread is reading from.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _exchange(
    request: HttpRequest,
    target: Target,
    places: Sequence[Place],
    egress: Egress,
    deadline: _Deadline,
) -> HttpAnswer:
    kind = http.client.HTTPSConnection if target.secure else http.client.HTTPConnection
    connection = kind(target.host, target.port)
    plain = _connect(places, deadline)
    connection.sock = _secured(plain, target, egress, deadline) if target.secure else plain
    headers = {"User-Agent": USER_AGENT, **request.headers}
    connection.request(request.method, target.path, request.body, headers)
    with connection.getresponse() as answer:
        body = answer.read(ANSWER_BYTES_MAX)
        return HttpAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)


def _connect(places: Sequence[Place], deadline: _Deadline) -> socket.socket:
    """To the first that answers."""
    failure = OSError("it has no address")
    for family, address in places:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(deadline.timeout_s)
        deadline.watch(connection)
        try:
            connection.connect(address)
        except OSError as exc:
            connection.close()
            failure = exc
        else:
            return connection
    raise failure


def _secured(
    plain: socket.socket, target: Target, egress: Egress, deadline: _Deadline
) -> socket.socket:
    context = ssl.create_default_context(cafile=egress.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    secure = context.wrap_socket(plain, server_hostname=target.host, do_handshake_on_connect=False)
    deadline.watch(secure)
    secure.do_handshake()
    return secure


def _sentence(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
