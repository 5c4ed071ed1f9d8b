"""The HTTP endpoints that the supervisor answers, for all workers together.

Each is a method of the gRPC service: the path and the body become its request,
and the reply comes back as JSON that is passed on as it is.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import Message
from starlette.requests import Request
from starlette.responses import Response

from serving.core import relayed_requests as requests
from serving.core.admission import Admission
from serving.core.errors import InvalidRequest
from serving.core.json_codec import parse_json
from serving.worker.body import body_of
from serving.worker.desk import Desk

JSON_DEPTH_MAX = 16

Build = Callable[[Mapping[str, str], Mapping[str, Any]], Message]
Endpoint = Callable[[Request], Awaitable[Response]]

# Operation of the route table -> method, and what makes its request.
_RELAYED: Mapping[str, tuple[str, Build]] = {
    "statistics": ("ModelStatistics", requests.statistics),
    "model_statistics": ("ModelStatistics", requests.statistics),
    "repository_index": ("RepositoryIndex", requests.index),
    "model_load": ("RepositoryModelLoad", requests.load),
    "model_unload": ("RepositoryModelUnload", requests.unload),
    "trace_setting": ("TraceSetting", requests.trace_setting),
    "set_trace_setting": ("TraceSetting", requests.trace_setting),
    "logging": ("LogSettings", requests.log_settings),
    "set_logging": ("LogSettings", requests.log_settings),
    "system_memory_status": ("SystemSharedMemoryStatus", requests.system_memory_status),
    "system_memory_register": ("SystemSharedMemoryRegister", requests.system_memory_register),
    "system_memory_unregister": (
        "SystemSharedMemoryUnregister",
        requests.system_memory_unregister,
    ),
    "cuda_memory_status": ("CudaSharedMemoryStatus", requests.cuda_memory_status),
    "cuda_memory_register": ("CudaSharedMemoryRegister", requests.cuda_memory_register),
    "cuda_memory_unregister": ("CudaSharedMemoryUnregister", requests.cuda_memory_unregister),
}


def relayed_endpoints(desk: Desk, admission: Admission) -> Mapping[str, Endpoint]:
    """Endpoints of statistics, repository, settings and shared memory, by operation."""
    return {
        operation: _endpoint(desk, admission, method, build)
        for operation, (method, build) in _RELAYED.items()
    }


def _endpoint(desk: Desk, admission: Admission, method: str, build: Build) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        document: Any = {}
        if request.method == "POST":
            async with body_of(request, admission) as body:
                document = parse_json(body, JSON_DEPTH_MAX) if body else {}
        if not isinstance(document, dict):
            raise InvalidRequest("the request body must be a JSON object")
        message = build(request.path_params, document)
        reply = await desk.ask(method, message.SerializeToString(), json=True)
        return Response(reply, media_type="application/json")

    return endpoint
