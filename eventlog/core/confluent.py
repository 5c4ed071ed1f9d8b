"""Confluent's wire format: which schema a message's value has, in five bytes before it.

Source: Confluent Schema Registry, "Wire format" and `POST /subjects/(subject)/versions`.
"""

import json
from typing import Any

MAGIC = b"\x00"
ID_MAX = 2**31 - 1

_TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array", "items": {"type": ["number", "string", "boolean", "null"]}},
        "parameters": {"type": "object"},
    },
    "required": ["name", "datatype", "shape", "data"],
}
# Of both kinds of events: a request has inputs, a response outputs and the model's name.
EVENT_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "driftgate.prediction",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": _TENSOR},
        "parameters": {
            "type": "object",
            "additionalProperties": {"type": ["number", "string", "boolean"]},
        },
    },
    "required": ["id", "parameters"],
}


def schema_frame(schema_id: int) -> bytes:
    """What stands before the value of a message of this schema."""
    return MAGIC + schema_id.to_bytes(4, "big")


def unframed(value: bytes) -> bytes:
    """The value behind a frame, if there is one. JSON never begins with the magic byte."""
    return value[5:] if value.startswith(MAGIC) and len(value) > 4 else value


def registration() -> bytes:
    """The body that registers the events' schema; the same schema has the same id for ever."""
    return json.dumps({"schemaType": "JSON", "schema": json.dumps(EVENT_SCHEMA)}).encode()


def registered_id(body: bytes) -> int:
    """The id in a registry's answer. Raises: ValueError if there is none."""
    document: Any = json.loads(body)
    found = document.get("id") if isinstance(document, dict) else None
    if type(found) is not int or not 0 < found <= ID_MAX:
        raise ValueError(f"the answer has no schema id: {body[:200]!r}")
    return found
