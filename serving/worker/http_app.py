"""The HTTP endpoints that are not hot: health, metadata, configuration, labels."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serving.core.errors import ServeError
from serving.worker.body import body_of
from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.http_infer import RETRY_AFTER_S
from serving.worker.http_relayed import relayed_routes
from serving.worker.labels import LabelDesk
from serving.worker.metadata import Metadata

Endpoint = Callable[[Request], Awaitable[Response]]


def _json(status: int, value: Any) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def make_app(plane: DataPlane, metadata: Metadata, labels: LabelDesk, desk: Desk) -> Starlette:
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
        async with body_of(request, plane.admission) as body:
            count = await labels.take(request.path_params["model"], body)
        return _json(200, {"accepted": count})

    routes = relayed_routes(desk, plane.admission)

    def add(method: str, path: str, endpoint: Endpoint) -> None:
        routes.append(Route(path, endpoint, methods=[method]))
        routes.append(Route(path + "/", endpoint, methods=[method]))

    add("GET", "/v2", server)
    add("GET", "/v2/health/live", live)
    add("GET", "/v2/health/ready", ready)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        add("GET", prefix, model)
        add("GET", prefix + "/ready", model_ready)
        add("GET", prefix + "/config", _model_config(metadata))
    add("POST", "/v2/models/{model}/labels", take_labels)
    app = Starlette(
        routes=routes,
        exception_handlers={
            ServeError: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _left,
            Exception: _crashed,
        },
    )
    # A redirect has no error body, and repeats a Host that may be anybody's.
    app.router.redirect_slashes = False
    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServeError)
    response = _json(error.http_status, {"error": error.message})
    if error.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["retry-after"] = str(RETRY_AFTER_S)
    return response


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json(error.status_code, {"error": error.detail})
    response.headers.update(error.headers or {})  # 405 names what is allowed
    return response


async def _left(_: Request, __: Exception) -> Response:
    """The client is gone; nobody reads this."""
    return Response(status_code=499)


async def _crashed(_: Request, __: Exception) -> Response:
    return _json(500, {"error": "internal error"})


def _model_config(metadata: Metadata) -> Endpoint:
    async def model_config(request: Request) -> Response:
        return _json(200, metadata.config(*_named(request)))

    return model_config


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")
