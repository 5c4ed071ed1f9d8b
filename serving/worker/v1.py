"""KServe's and TensorFlow Serving's V1 endpoints, in front of the same data plane.

A prediction goes the way of V2's: admitted, routed, batched, logged. Its body has
no place for what V2 says beside the outputs, so headers carry that. These are not
the hot path: the application behind the protocol class serves them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventlog.core.traceparent import parse_traceparent
from serving.core.admission import JSON_BYTES_FACTOR
from serving.core.errors import ServeError, Unsupported
from serving.core.inflate import inflate
from serving.core.json_codec_reply import BatchOutputs
from serving.core.request import check_routing_key
from serving.core.request_head import check_encoding
from serving.core.routing import Arm, version_rank
from serving.core.v1_codec import V1Request, encode_reply
from serving.worker.body import body_of
from serving.worker.dataplane import DataPlane, check_timeout_ms
from serving.worker.http_json import json_response
from serving.worker.task import Task
from serving.worker.version import Version

Endpoint = Callable[[Request], Awaitable[Response]]

_UNSUPPORTED = {
    "explain": "no explainer can be attached to a model here; use :predict",
    "classify": "it takes tf.Example messages, which are TensorFlow's; use :predict",
    "regress": "it takes tf.Example messages, which are TensorFlow's; use :predict",
}


class Prediction:
    """One V1 request: the data plane's waiter, and an awaitable for the endpoint."""

    __slots__ = ("_by_row", "_future", "_routing_key", "_tenant_of", "trace")
    protocol = "http"

    def __init__(self, request: Request, future: "asyncio.Future[Response]") -> None:
        """Raises: InvalidRequest for a routing key that is too long."""
        self._routing_key = check_routing_key(request.headers.get("x-routing-key", ""))
        traces = request.headers.getlist("traceparent")
        self.trace = parse_traceparent(traces[0]) if len(traces) == 1 else b""
        self._tenant_of = request.headers.get
        self._future = future
        self._by_row = True

    def parse(self, body: bytes, depth_max: int) -> V1Request:
        """Raises: InvalidRequest."""
        parsed = V1Request(body, depth_max)
        self._by_row = parsed.by_row
        return parsed

    def routing_key(self) -> str:
        return self._routing_key

    def tenant(self, header: str) -> str:
        return self._tenant_of(header, "")

    def succeed(self, task: Task, outputs: BatchOutputs, start: int, stop: int) -> None:
        headers = {"x-model-version": task.version.signature.version}
        if task.prediction_id:
            headers["x-prediction-id"] = task.prediction_id
        body = encode_reply(outputs, start, stop, by_row=self._by_row)
        if not self._future.done():
            self._future.set_result(Response(body, headers=headers, media_type="application/json"))

    def fail(self, error: ServeError) -> None:
        if not self._future.done():
            self._future.set_exception(error)


class V1:
    """The endpoints. Reads the data plane; owns nothing."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def endpoints(self) -> Mapping[str, Endpoint]:
        """By operation of the route table."""
        return {
            "alive": self.alive,
            "model_list": self.models,
            "v1_status": self.status,
            "v1_predict": self.predict,
            **{f"v1_{verb}": partial(self.refuse, verb) for verb in _UNSUPPORTED},
        }

    async def alive(self, _: Request) -> Response:
        """KServe's liveness of a V1 server."""
        return json_response(200, {"status": "alive"})

    async def models(self, _: Request) -> Response:
        """KServe's list, the same for V1 and V2."""
        return json_response(200, {"models": sorted(self._plane.table.routes)})

    async def status(self, request: Request) -> Response:
        """KServe's readiness and TensorFlow Serving's states in one. Raises: UnknownModel."""
        name = request.path_params["model"]
        if name.partition(":")[2] in {"predict", *_UNSUPPORTED}:
            raise HTTPException(405, headers={"allow": "POST"})
        route = self._plane.table.find(name)
        version = request.path_params.get("version")
        arms: dict[str, Arm[Version]] = {arm.version: arm for arm in route.arms}
        arms = {version: route.pick_version(version)} if version else arms | dict(route.pinned)
        states = [
            {
                "version": name,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for name in sorted(arms, key=version_rank, reverse=True)
        ]
        return json_response(
            200, {"name": route.model, "ready": True, "model_version_status": states}
        )

    async def refuse(self, verb: str, request: Request) -> Response:
        """Raises: UnknownModel, Unsupported."""
        self._plane.table.find(request.path_params["model"])
        raise Unsupported(f":{verb} is not supported: {_UNSUPPORTED[verb]}")

    async def predict(self, request: Request) -> Response:
        """Raises: ServeError."""
        plane = self._plane
        limit = plane.limits.body_bytes_max
        async with body_of(request, plane.admission) as body:
            pass  # held again below, with what is queued
        timeout_ms = request.headers.get("x-request-timeout-ms")
        encoding = check_encoding(request.headers.get("content-encoding", "").strip().lower())
        body = inflate(body, encoding, limit) if encoding else body
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        prediction = Prediction(request, future)
        task = plane.infer(
            partial(prediction.parse, body, plane.limits.json_depth_max),
            request.path_params["model"],
            request.path_params.get("version", ""),
            check_timeout_ms(timeout_ms) if timeout_ms else 0,
            len(body) * JSON_BYTES_FACTOR,
            prediction,
        )
        return await _unless_gone(request, future, task)


async def _unless_gone(
    request: Request, future: "asyncio.Future[Response]", task: Task
) -> Response:
    """The answer; a client that leaves before it has its request withdrawn."""
    gone = asyncio.ensure_future(request.receive())  # the body is read: only an end can come
    try:
        await asyncio.wait((future, gone), return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            return Response(status_code=499)  # nobody reads it
        return future.result()
    finally:
        gone.cancel()
        if not future.done():
            future.cancel()
            task.version.cancel(task)
