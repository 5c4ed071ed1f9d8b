"""The HTTP endpoints that are not hot: health, metadata, configuration, labels, V1.

Which there are says the table in `serving/core/http_routes.py`; here stands what they do.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from serving.core.errors import ServeError
from serving.core.http_routes import ROUTES
from serving.core.openapi import describe
from serving.worker.body import body_of
from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.http_infer import ERROR_HEADERS
from serving.worker.http_json import json_response as _json
from serving.worker.http_relayed import relayed_endpoints
from serving.worker.labels import LabelDesk
from serving.worker.metadata import Metadata
from serving.worker.release import VERSION
from serving.worker.v1 import V1

Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(plane: DataPlane, metadata: Metadata, labels: LabelDesk, desk: Desk) -> Starlette:
    """The application behind the data port's protocol class."""

    async def take_labels(request: Request) -> Response:
        async with body_of(request, plane.admission) as body:
            count = await labels.take(request.path_params["model"], body)
        return _json(200, {"accepted": count})

    handlers: Mapping[str, Endpoint] = {
        **_metadata_endpoints(metadata),
        **relayed_endpoints(desk, plane.admission),
        **V1(plane).endpoints(),
        "description": _fixed(orjson.dumps(describe(VERSION, plane.limits))),
        "infer": _elsewhere,
        "labels": take_labels,
    }
    app = Starlette(
        routes=_routes(handlers),
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


def _metadata_endpoints(metadata: Metadata) -> Mapping[str, Endpoint]:
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

    async def model_config(request: Request) -> Response:
        return _json(200, metadata.config(*_named(request)))

    return {
        "server_metadata": server,
        "live": live,
        "ready": ready,
        "model_metadata": model,
        "model_ready": model_ready,
        "model_config": model_config,
    }


def _fixed(document: bytes) -> Endpoint:
    async def fixed(_: Request) -> Response:
        return Response(document, media_type="application/json")

    return fixed


async def _elsewhere(_: Request) -> Response:
    """Infer is answered by the protocol class; only its other methods come to routes."""
    raise HTTPException(404)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServeError)
    headers = ERROR_HEADERS.get(error.http_status)
    return _json(error.http_status, {"error": error.message}, headers)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(error.status_code, {"error": error.detail}, error.headers)


async def _left(_: Request, __: Exception) -> Response:
    """The client is gone; nobody reads this."""
    return Response(status_code=499)


async def _crashed(_: Request, __: Exception) -> Response:
    return _json(500, {"error": "internal error"})


def _routes(handlers: Mapping[str, Endpoint]) -> Sequence[Route]:
    """Those of the table. One route a path, so that a 405 can name all of its methods."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for entry in ROUTES:
        for _, path in entry.paths():
            paths.setdefault(path, {})[entry.method] = handlers[entry.operation]
    return [
        Route(path + slash, _by_method(methods), methods=list(methods))
        for path, methods in paths.items()
        for slash in ("", "/")
    ]


def _by_method(methods: Mapping[str, Endpoint]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        # HEAD comes where GET is allowed.
        handler = methods.get(request.method) or methods["GET"]
        return await handler(request)

    return endpoint


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["model"], request.path_params.get("version", "")
