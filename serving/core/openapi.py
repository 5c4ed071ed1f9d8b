"""The OpenAPI 3.1 description of the HTTP data port, made of the table of its routes."""

import re
from collections.abc import Sequence
from typing import Any

from serving.core.http_routes import BINARY, EVERYWHERE, JSON, ROUTES, Answer, HttpRoute
from serving.core.openapi_schemas import headers_of, parameters_of, schemas_of
from serving.settings import LimitSettings

Node = dict[str, Any]

_MEANINGS = {
    400: "the request is not one that can be answered; the error says what to change",
    408: "the request did not arrive in time",
    413: "the body is too large, as it came or decompressed",
    414: "the target is too long",
    431: "the headers are too large or too many",
    503: "too many connections, or the gateway drains",
}
_BINARY_NODE: Node = {
    "description": "JSON, then the bytes of binary tensors; Inference-Header-Content-Length "
    "says where they begin. With 0 it is one tensor's bytes.",
}


def describe(
    version: str, limits: LimitSettings, routes: Sequence[HttpRoute] = ROUTES
) -> dict[str, Any]:
    """The document. version: of the server; limits: what its schemas bound."""
    paths: dict[str, Node] = {}
    for route in routes:
        for operation, path in route.paths():
            paths.setdefault(path, {})[route.method.lower()] = _operation(route, operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "driftgate",
            "version": version,
            "description": "The Open Inference Protocol with Triton's extensions. Members and "
            "parameters that are not described are ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas_of(limits),
            "parameters": parameters_of(),
            "headers": headers_of(),
        },
    }


def _operation(route: HttpRoute, operation: str, path: str) -> Node:
    names = (*re.findall(r"{(\w+)}", path), *route.headers)
    node: Node = {
        "operationId": operation,
        "summary": route.summary,
        "parameters": [_ref("parameters", name) for name in names],
        "responses": _responses(route.answers),
    }
    if route.body:
        content = {JSON: {"schema": _ref("schemas", route.body)}}
        if route.binary_body:
            content[BINARY] = {"schema": _BINARY_NODE}
        node["requestBody"] = {"required": route.body_required, "content": content}
    return node


def _responses(answers: Sequence[Answer]) -> Node:
    own = {answer.status: answer for answer in answers}
    general = {status: Answer(status, _MEANINGS[status]) for status in EVERYWHERE}
    return {str(status): _response(answer) for status, answer in sorted((general | own).items())}


def _response(answer: Answer) -> Node:
    content: Node = {JSON: {"schema": _ref("schemas", answer.schema)}}
    if answer.binary:
        content[BINARY] = {"schema": _BINARY_NODE}
    node: Node = {"description": answer.meaning, "content": content}
    if answer.headers:
        node["headers"] = {name: _ref("headers", name) for name in answer.headers}
    return node


def _ref(kind: str, name: str) -> Node:
    return {"$ref": f"#/components/{kind}/{name}"}
