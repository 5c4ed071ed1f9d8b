"""The HTTP endpoints that the supervisor answers, for all workers together.

Each is a method of the gRPC service: the path and the body become its request,
and the reply comes back as JSON that is passed on as it is.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.core import relayed_requests as requests
from serving.core.admission import Admission
from serving.core.errors import InvalidRequest
from serving.core.json_codec import parse_json
from serving.worker.body import body_of
from serving.worker.desk import Desk

JSON_DEPTH_MAX = 16

Build = Callable[[Mapping[str, str], Mapping[str, Any]], Message]


def relayed_routes(desk: Desk, admission: Admission) -> list[Route]:
    """Routes of statistics, repository, trace and log settings."""
    routes: list[Route] = []

    def add(http_method: str, path: str, method: str, build: Build) -> None:
        endpoint = _endpoint(desk, admission, method, build)
        routes.extend(Route(form, endpoint, methods=[http_method]) for form in (path, path + "/"))

    add("GET", "/v2/models/stats", "ModelStatistics", requests.statistics)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        add("GET", prefix + "/stats", "ModelStatistics", requests.statistics)
    for prefix in ("/v2/repository", "/v2/repository/{repository}"):
        add("POST", prefix + "/index", "RepositoryIndex", requests.index)
        add("POST", prefix + "/models/{model}/load", "RepositoryModelLoad", requests.load)
        add("POST", prefix + "/models/{model}/unload", "RepositoryModelUnload", requests.unload)
    for prefix in ("/v2/trace/setting", "/v2/models/{model}/trace/setting"):
        for http_method in ("GET", "POST"):
            add(http_method, prefix, "TraceSetting", requests.trace_setting)
    for http_method in ("GET", "POST"):
        add(http_method, "/v2/logging", "LogSettings", requests.log_settings)
    for kind, method in (("system", "SystemSharedMemory"), ("cuda", "CudaSharedMemory")):
        all_regions = f"/v2/{kind}sharedmemory"
        one = all_regions + "/region/{region}"
        for prefix in (all_regions, one):
            status = getattr(requests, f"{kind}_memory_status")
            add("GET", prefix + "/status", f"{method}Status", status)
            unregister = getattr(requests, f"{kind}_memory_unregister")
            add("POST", prefix + "/unregister", f"{method}Unregister", unregister)
        register = getattr(requests, f"{kind}_memory_register")
        add("POST", one + "/register", f"{method}Register", register)
    return routes


def _endpoint(
    desk: Desk, admission: Admission, method: str, build: Build
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        document: Any = {}
        if request.method == "POST":
            async with body_of(request, admission) as body:
                document = parse_json(body, JSON_DEPTH_MAX) if body.strip() else {}
        if not isinstance(document, dict):
            raise InvalidRequest("the request body must be a JSON object")
        message = build(request.path_params, document)
        reply = await desk.ask(method, message.SerializeToString(), json=True)
        return Response(reply, media_type="application/json")

    return endpoint
