"""From the bytes of a gRPC message into the data plane, for calls and for streams."""

from eventlog.core.traceparent import parse_traceparent
from serving.core.errors import ServeError
from serving.core.grpc_codec import GrpcRequest
from serving.core.grpc_forms import FormedRequest
from serving.worker.dataplane import DataPlane
from serving.worker.grpc_call import TRACE, Call
from serving.worker.task import Task, Waiter

Request = GrpcRequest | FormedRequest


def parse_request(plane: DataPlane, data: bytes) -> Request:
    """Raises: ServeError, which is counted."""
    try:
        return plane.forms.parse(data)
    except ServeError as error:
        plane.count_refused("", "grpc", error)
        raise


def submit(plane: DataPlane, request: Request, size: int, call: Call, waiter: Waiter) -> Task:
    """Queue a request. size: of its message. Raises: ServeError, which is counted."""
    try:
        left_ns = call.left_ns()
    except ServeError as error:
        plane.count_refused(request.model, "grpc", error)
        raise
    return plane.infer(
        lambda: request,
        request.model,
        request.version,
        left_ns,
        request.cost(size, plane.untyped_bytes_max),
        waiter,
    )


def trace_of(call: Call) -> bytes:
    """The trace that the call's metadata name; b"" for none."""
    text = call.metadata(TRACE)
    return parse_traceparent(text) if text else b""
