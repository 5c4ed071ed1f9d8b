"""The admin API: JSON over HTTP on a port of its own.

Deny by default: a request passes only if its Host is one of ours, its method and
path are in the table below, and it bears the token. What a handler may be used
for stands in the table; a route without an access class cannot be written down.
"""

import asyncio
import hmac
import json
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from protos import control_pb2 as pb
from serving.store.files import StoreError, write_atomically

BODY_BYTES_MAX = 256 * 1024  # a command with its evidence takes a few KiB
BODY_S_MAX = 10.0
WAIT_MS_MAX = 60_000
TOKEN_BYTES = 32


class Access(Enum):
    """Who may use a route; there is one token today, so one class."""

    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """hosts: names of the admin port that a Host header may carry, beside loopback's."""

    token: str
    port: int
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a JSON document."""

    status: int
    document: Mapping[str, Any]


class AdminGateway(Protocol):
    """What the admin API needs of the supervisor."""

    async def apply(self, command: pb.Command, *, dry_run: bool, wait_s: float) -> Answer: ...
    def status(self) -> Mapping[str, Any]: ...
    def deployment(self, model: str) -> Mapping[str, Any] | None: ...
    async def batching(self, model: str) -> Mapping[str, Any] | None: ...
    def audit(self, model: str, after: int, limit: int) -> Mapping[str, Any]: ...
    async def verify_audit(self) -> Mapping[str, Any]: ...
    async def ledger(self) -> Mapping[str, Any]: ...
    def denied(self, status: int, reason: str) -> None:
        """Somebody was turned away."""


Handler = Callable[[AdminGateway, Request], Awaitable[Answer]]


class BadRequestError(Exception):
    """The request makes no sense, in one sentence."""


@dataclass(frozen=True, slots=True)
class AdminRoute:
    method: str
    path: str
    access: Access
    handler: Handler


async def _status(gateway: AdminGateway, _: Request) -> Answer:
    return Answer(200, gateway.status())


async def _deployment(gateway: AdminGateway, request: Request) -> Answer:
    return _of_model(gateway.deployment(request.path_params["model"]))


async def _batching(gateway: AdminGateway, request: Request) -> Answer:
    return _of_model(await gateway.batching(request.path_params["model"]))


def _of_model(document: Mapping[str, Any] | None) -> Answer:
    if document is None:
        return Answer(404, {"error": "there is no deployment of that model"})
    return Answer(200, document)


async def _command(gateway: AdminGateway, request: Request) -> Answer:
    dry_run = _number(request, "dry_run", 0, 1) == 1
    wait_ms = _number(request, "wait_ms", 0, WAIT_MS_MAX, 5000)
    command = pb.Command()
    try:
        json_format.Parse(await _body(request), command)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        # The parser raises more than its own class for JSON of another shape.
        raise BadRequestError(f"the body is not a command: {str(error)[:200]}") from error
    return await gateway.apply(command, dry_run=dry_run, wait_s=wait_ms / 1000)


async def _audit(gateway: AdminGateway, request: Request) -> Answer:
    after = _number(request, "after", 0, 2**53)
    limit = _number(request, "limit", 1, 1000, 100)
    return Answer(200, gateway.audit(request.query_params.get("model", ""), after, limit))


async def _verify_audit(gateway: AdminGateway, _: Request) -> Answer:
    return Answer(200, await gateway.verify_audit())


async def _ledger(gateway: AdminGateway, _: Request) -> Answer:
    return Answer(200, await gateway.ledger())


ROUTES = (
    AdminRoute("GET", "/v1/status", Access.OPERATOR, _status),
    AdminRoute("GET", "/v1/models/{model}", Access.OPERATOR, _deployment),
    AdminRoute("GET", "/v1/models/{model}/batching", Access.OPERATOR, _batching),
    AdminRoute("POST", "/v1/commands", Access.OPERATOR, _command),
    AdminRoute("GET", "/v1/audit", Access.OPERATOR, _audit),
    AdminRoute("GET", "/v1/audit/verify", Access.OPERATOR, _verify_audit),
    AdminRoute("GET", "/v1/ledger", Access.OPERATOR, _ledger),
)


def _number(request: Request, name: str, low: int, high: int, default: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None:
        return low if default is None else default
    if not text.isascii() or not text.isdigit() or len(text) > 20 or not low <= int(text) <= high:
        raise BadRequestError(f"{name} is a number from {low} to {high}")
    return int(text)


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for chunk in request.stream():
                size += len(chunk)
                if size > BODY_BYTES_MAX:
                    raise BadRequestError(f"the body is larger than {BODY_BYTES_MAX} bytes")
                parts.append(chunk)
    except TimeoutError as error:
        raise BadRequestError(f"the body took longer than {BODY_S_MAX:g} s") from error
    return b"".join(parts)


def _endpoint(gateway: AdminGateway, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            answer = await handler(gateway, request)
        except BadRequestError as error:
            answer = Answer(400, {"error": str(error)})
        except StoreError as error:
            answer = Answer(503, {"error": str(error)})
        except ClientDisconnect:
            answer = Answer(400, {"error": "the client left"})
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        # A connection whose body was not read to its end must not carry another request.
        if answer.status == 400:
            headers["connection"] = "close"
        return JSONResponse(answer.document, answer.status, headers)

    return endpoint


def admin_app(gateway: AdminGateway, settings: AdminSettings) -> ASGIApp:
    """The application of the admin port."""
    routes = [
        Route(item.path, _endpoint(gateway, item.handler), methods=[item.method]) for item in ROUTES
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False  # a path is right or there is nothing
    return Guard(app, gateway, settings)


class Guard:
    """Turns away whatever is not a well-formed, authorised request of a known method."""

    def __init__(self, app: ASGIApp, gateway: AdminGateway, settings: AdminSettings) -> None:
        self._app, self._gateway = app, gateway
        self._token = settings.token.encode()
        names = {"127.0.0.1", "localhost", "[::1]", *settings.hosts}
        self._hosts = {
            form.encode() for name in names for form in (name, f"{name}:{settings.port}")
        }
        self._methods = frozenset(item.method for item in ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        verdict = self._refusal(scope)
        if verdict is None:
            await self._app(scope, receive, send)
            return
        status, reason = verdict
        self._gateway.denied(status, reason)
        headers = {"connection": "close"}
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        await JSONResponse({"error": reason}, status, headers)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if self._values(headers, b"host") not in [[host] for host in self._hosts]:
            return 403, "this Host is not one of the admin port's"
        if self._values(headers, b"origin"):
            return 403, "the admin port does not talk to browsers"
        if scope["method"] not in self._methods:
            return 405, "this method is not used here"
        if b"%" in scope.get("raw_path", b""):
            return 404, "there is nothing here"
        bearers = self._values(headers, b"authorization")
        if len(bearers) != 1 or not self._bears_token(bearers[0]):
            return 401, "a bearer token is needed; it lies in admin.token of the state directory"
        return None

    def _bears_token(self, value: bytes) -> bool:
        scheme, _, token = value.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token, self._token)

    @staticmethod
    def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
        return [value for key, value in headers if key == name]


def load_token(path: Path) -> str:
    """The admin token in `path`, made at first use; readable by this user alone."""
    try:
        os.chmod(path, 0o600)
        token = path.read_text("ascii").strip()
    except FileNotFoundError:
        token = ""
    except UnicodeDecodeError:
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        os.replace(path, aside)
        print(
            f"gateway: admin.token is damaged; set aside as {aside.name}, a new one is made",
            file=sys.stderr,
            flush=True,
        )
        token = ""
    if not token:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_atomically(path, f"{token}\n".encode())
    return token


def to_document(message: pb.Command | pb.CommandResult | pb.Deployment) -> dict[str, Any]:
    """A message as the API prints it: every field, names as in the .proto file."""
    document: dict[str, Any] = json.loads(
        json_format.MessageToJson(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )
    return document
