"""JSON replies of the endpoints behind the protocol class."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")
