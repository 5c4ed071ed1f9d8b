"""The routes of the HTTP data port, as one table.

`serving/worker/http_app.py` makes its routes of it, and `openapi.py` the
description that clients read, so that the two cannot part.

To add a route:
1. an entry in ROUTES, above any entry whose path would match its own;
2. a handler under the entry's `operation` in `make_app`;
3. if its bodies are new, their schemas in `openapi_schemas.py`, by name;
4. a status that it alone answers with, in its `answers`. What the connection
   itself may answer, whatever the route, stands in EVERYWHERE.
`versioned` stands for a second route, with a version in the path, and `variants`
for more of them. Every path may also end in `/`; the description does not repeat
that.
"""

from collections.abc import Iterator
from dataclasses import dataclass

JSON = "application/json"
BINARY = "application/octet-stream"

# By the connection, before a route is chosen: the head is malformed, the body or
# the head did not arrive in time, one of them is too large, or there are too
# many connections.
EVERYWHERE = (400, 408, 413, 414, 431, 503)

_MODEL = "/v2/models/{model}"
_VERSION = "/versions/{version}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status means for one route. schema, headers: names of components."""

    status: int
    meaning: str
    schema: str = "Error"
    headers: tuple[str, ...] = ()
    binary: bool = False  # the body may also be JSON with tensors behind it


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One operation. body, headers: names of components; body "" for none."""

    operation: str
    method: str
    path: str
    summary: str
    answers: tuple[Answer, ...]
    body: str = ""
    body_required: bool = True
    binary_body: bool = False  # the body may also be JSON with tensors behind it, or one tensor
    headers: tuple[str, ...] = ()
    versioned: bool = False
    variants: tuple[tuple[str, str], ...] = ()  # (suffix of the operation, path)

    def paths(self) -> Iterator[tuple[str, str]]:
        """(operation id, path) of each of its routes."""
        yield self.operation, self.path
        if self.versioned:
            path = self.path.replace("{model}", "{model}" + _VERSION, 1)
            yield f"{self.operation}_of_version", path
        for suffix, path in self.variants:
            yield f"{self.operation}_{suffix}", path


def _ok(schema: str) -> Answer:
    return Answer(200, "done", schema)


_UNKNOWN = Answer(404, "there is no such model or version")
_UNAVAILABLE = Answer(
    503,
    "overload, a drain, too many connections, or a log that cannot commit; worth another try",
    headers=("Retry-After",),
)

_UNSUPPORTED = Answer(
    501, "a part of the protocol that is not served", headers=("Accept-Encoding",)
)
# Of what the supervisor answers, for all workers together.
_RELAYED = (_UNAVAILABLE, Answer(504, "no answer in time"))


def _relayed(schema: str, *more: Answer) -> tuple[Answer, ...]:
    return (_ok(schema), *more, *_RELAYED)


def _memory(kind: str, body: str, answer: Answer) -> tuple[HttpRoute, ...]:
    """Routes of one kind of shared memory. answer: what else a registration may get."""
    path = f"/v2/{kind}sharedmemory"
    one = path + "/region/{region}"
    return (
        HttpRoute(
            f"{kind}_memory_status",
            "GET",
            path + "/status",
            "Regions that are registered",
            _relayed("MemoryRegions", Answer(404, "there is no such region")),
            variants=(("of_region", one + "/status"),),
        ),
        HttpRoute(
            f"{kind}_memory_register",
            "POST",
            one + "/register",
            "Share memory with the gateway",
            _relayed("Nothing", answer),
            body=body,
        ),
        HttpRoute(
            f"{kind}_memory_unregister",
            "POST",
            path + "/unregister",
            "Share memory no longer; all of it where no region is named",
            _relayed("Nothing"),
            body="Ignored",
            body_required=False,
            variants=(("of_region", one + "/unregister"),),
        ),
    )


_NO_PREDICTION = (
    _UNKNOWN,
    Answer(500, "the model failed on this request"),
    _UNSUPPORTED,
    _UNAVAILABLE,
    Answer(504, "the deadline passed"),
)


def _v1(verb: str, summary: str, *answers: Answer) -> HttpRoute:
    return HttpRoute(
        f"v1_{verb}",
        "POST",
        "/v1/models/{model}:" + verb,
        summary,
        answers,
        body="V1Request" if verb == "predict" else "Ignored",
        body_required=verb == "predict",
        headers=("Content-Encoding", "x-routing-key", "x-request-timeout-ms")
        if verb == "predict"
        else (),
        versioned=True,
    )


ROUTES: tuple[HttpRoute, ...] = (
    HttpRoute("alive", "GET", "/", "Whether the process answers, as V1 asks", (_ok("Alive"),)),
    HttpRoute("description", "GET", "/openapi.json", "This document", (_ok("Description"),)),
    HttpRoute("server_metadata", "GET", "/v2", "What this server is", (_ok("ServerMetadata"),)),
    HttpRoute("live", "GET", "/v2/health/live", "Whether the process answers", (_ok("Health"),)),
    HttpRoute(
        "ready",
        "GET",
        "/v2/health/ready",
        "Whether requests should be sent here; load does not matter to it",
        (_ok("Health"), Answer(503, "not yet, or no longer", "HealthOrError")),
    ),
    HttpRoute(
        "model_list",
        "GET",
        "/v2/models",
        "Names of the models that are served",
        (_ok("ModelList"),),
        variants=(("of_v1", "/v1/models"),),
    ),
    HttpRoute(
        "statistics",
        "GET",
        "/v2/models/stats",
        "What became of the requests of all loaded versions",
        _relayed("Statistics"),
    ),
    HttpRoute(
        "model_metadata",
        "GET",
        _MODEL,
        "Versions, inputs and outputs of a model",
        (_ok("ModelMetadata"), _UNKNOWN),
        versioned=True,
    ),
    HttpRoute(
        "model_ready",
        "GET",
        _MODEL + "/ready",
        "Whether a model is served",
        (_ok("ModelReady"), _UNKNOWN),
        versioned=True,
    ),
    HttpRoute(
        "model_config",
        "GET",
        _MODEL + "/config",
        "How a model is served",
        (_ok("ModelConfig"), _UNKNOWN),
        versioned=True,
    ),
    HttpRoute(
        "model_statistics",
        "GET",
        _MODEL + "/stats",
        "What became of the requests of a model's loaded versions",
        _relayed("Statistics", _UNKNOWN),
        versioned=True,
    ),
    HttpRoute(
        "infer",
        "POST",
        _MODEL + "/infer",
        "A prediction. Without a version the routing of the rollout chooses one",
        (
            Answer(200, "a prediction", "InferReply", ("Inference-Header-Content-Length",), True),
            *_NO_PREDICTION,
        ),
        body="InferRequest",
        binary_body=True,
        headers=(
            "Inference-Header-Content-Length",
            "Content-Encoding",
            "x-routing-key",
            "x-request-timeout-ms",
        ),
        versioned=True,
    ),
    HttpRoute(
        "labels",
        "POST",
        _MODEL + "/labels",
        "What turned out to be true of earlier predictions; all are taken or none",
        (_ok("LabelsTaken"), _UNKNOWN, _UNAVAILABLE),
        body="Labels",
    ),
    HttpRoute(
        "repository_index",
        "POST",
        "/v2/repository/index",
        "Models that are served or could be",
        _relayed("RepositoryIndex", Answer(404, "there is no such repository")),
        body="RepositoryIndexRequest",
        body_required=False,
        variants=(("of_repository", "/v2/repository/{repository}/index"),),
    ),
    HttpRoute(
        "model_load",
        "POST",
        "/v2/repository/models/{model}/load",
        "Serve a model; refused unless the operator lets clients do so",
        _relayed("Nothing", _UNKNOWN, Answer(500, "it is not live in time"), _UNSUPPORTED),
        body="RepositoryParameters",
        body_required=False,
        variants=(("of_repository", "/v2/repository/{repository}/models/{model}/load"),),
    ),
    HttpRoute(
        "model_unload",
        "POST",
        "/v2/repository/models/{model}/unload",
        "Serve a model no longer; refused unless the operator lets clients do so",
        _relayed("Nothing", _UNKNOWN, Answer(500, "it is not gone in time")),
        body="RepositoryParameters",
        body_required=False,
        variants=(("of_repository", "/v2/repository/{repository}/models/{model}/unload"),),
    ),
    HttpRoute(
        "trace_setting",
        "GET",
        "/v2/trace/setting",
        "Trace settings in force",
        _relayed("TraceSettings", _UNKNOWN),
        variants=(("of_model", _MODEL + "/trace/setting"),),
    ),
    HttpRoute(
        "set_trace_setting",
        "POST",
        "/v2/trace/setting",
        "Only to what is in force already",
        _relayed("TraceSettings", _UNKNOWN, _UNSUPPORTED),
        body="TraceSettingsWanted",
        body_required=False,
        variants=(("of_model", _MODEL + "/trace/setting"),),
    ),
    HttpRoute("logging", "GET", "/v2/logging", "Log settings in force", _relayed("LogSettings")),
    HttpRoute(
        "set_logging",
        "POST",
        "/v2/logging",
        "Only to what is in force already",
        _relayed("LogSettings", _UNSUPPORTED),
        body="LogSettingsWanted",
        body_required=False,
    ),
    *_memory("system", "SystemMemory", _UNSUPPORTED),
    *_memory("cuda", "CudaMemory", _UNSUPPORTED),
    _v1("predict", "A prediction in the V1 form", _ok("V1Reply"), *_NO_PREDICTION),
    _v1("explain", "Not served", _ok("Nothing"), _UNKNOWN, _UNSUPPORTED),
    _v1("classify", "Not served", _ok("Nothing"), _UNKNOWN, _UNSUPPORTED),
    _v1("regress", "Not served", _ok("Nothing"), _UNKNOWN, _UNSUPPORTED),
    HttpRoute(
        "v1_status",
        "GET",
        "/v1/models/{model}",
        "Whether a model is served, and its versions",
        (_ok("V1Model"), _UNKNOWN),
        versioned=True,
    ),
)
