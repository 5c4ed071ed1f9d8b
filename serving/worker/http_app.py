"""The HTTP endpoints that are not hot: health, metadata, labels."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.core.errors import InvalidRequest, ServeError
from serving.worker.dataplane import DataPlane
from serving.worker.labels import LabelDesk
from serving.worker.metadata import Metadata

Endpoint = Callable[[Request], Awaitable[Response]]


def _json(status: int, value: Any) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def make_app(plane: DataPlane, metadata: Metadata, labels: LabelDesk) -> Starlette:
    """The application behind the data port's protocol class."""

    async def live(_: Request) -> Response:
        return _json(200, {"live": True, "ready": metadata.ready()})

    async def ready(_: Request) -> Response:
        is_ready = metadata.ready()
        return _json(200 if is_ready else 503, {"ready": is_ready, "live": True})

    async def server(_: Request) -> Response:
        return _json(200, metadata.server())

    async def model(request: Request) -> Response:
        return _json(200, metadata.model(*_named(request)))

    async def model_ready(request: Request) -> Response:
        name, version = _named(request)
        metadata.model(name, version)
        return _json(200, {"name": name, "ready": True})

    async def take_labels(request: Request) -> Response:
        body = await read_body(request, plane.limits.body_bytes_max)
        count = await labels.take(request.path_params["model"], body)
        return _json(200, {"accepted": count})

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServeError)
        return _json(error.http_status, {"error": error.message})

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json(error.status_code, {"error": error.detail})

    async def crashed(_: Request, __: Exception) -> Response:
        return _json(500, {"error": "internal error"})

    routes: list[Route] = []

    def get(path: str, endpoint: Endpoint) -> None:
        routes.append(Route(path, endpoint, methods=["GET"]))
        routes.append(Route(path + "/", endpoint, methods=["GET"]))

    get("/v2", server)
    get("/v2/health/live", live)
    get("/v2/health/ready", ready)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        get(prefix, model)
        get(prefix + "/ready", model_ready)
    routes.append(Route("/v2/models/{model}/labels", take_labels, methods=["POST"]))
    return Starlette(
        routes=routes,
        exception_handlers={
            ServeError: refused,
            HTTPException: http_error,
            Exception: crashed,
        },
    )


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises: InvalidRequest beyond `limit` bytes."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise InvalidRequest(f"request body exceeds the limit of {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)
