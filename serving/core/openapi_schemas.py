"""Schemas of the bodies and headers of the HTTP data port, by name.

Strict where the gateway is: datatypes, ranges, required members. What JSON
Schema cannot say is in the descriptions: that the elements are as many as the
shape says, and that 1.0 is no integer here.
"""

from serving.core.datatypes import Datatype
from serving.core.openapi_nodes import FLAG, TEXT, Node, array, closed, obj, ref
from serving.core.openapi_relayed import relayed_schemas
from serving.core.openapi_v1 import v1_schemas
from serving.core.request import (
    ID_CHARACTERS_MAX,
    ROUTING_KEY_BYTES_MAX,
    TIMEOUT_US_MAX,
)
from serving.core.request_head import COUNT_DIGITS_MAX
from serving.settings import LimitSettings

LABELS_MAX = 65_536  # of one request
CATEGORY_CHARACTERS_MAX = 1024
_COUNT_MAX = 10 ** (COUNT_DIGITS_MAX - 1) - 1  # of a header
_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
_VERSION = "^[1-9][0-9]{0,17}$"
_ANYTHING: Node = {}


def _or_null(node: Node) -> Node:
    return node | {"type": [node["type"], "null"]}


def schemas_of(limits: LimitSettings) -> Node:
    """Every schema of the description."""
    return (
        _general()
        | _metadata()
        | _tensors()
        | _infer(limits)
        | _labels()
        | relayed_schemas()
        | v1_schemas()
    )


def _general() -> Node:
    health = closed("live ready", {"live": FLAG, "ready": FLAG})
    return {
        "Error": closed("error", {"error": TEXT | {"minLength": 1}}),
        "Description": obj("openapi info paths", {"openapi": {"const": "3.1.0"}}),
        "Health": health,
        "HealthOrError": {"oneOf": [ref("Health"), ref("Error")]},
    }


def _metadata() -> Node:
    names = array(TEXT)
    tensor = closed(
        "name datatype shape",
        {
            "name": TEXT,
            "datatype": ref("Datatype"),
            "shape": array({"type": "integer", "minimum": -1}),
        },
    )
    tensors = array(ref("TensorMetadata"))
    return {
        "ServerMetadata": closed(
            "name version extensions", {"name": TEXT, "version": TEXT, "extensions": names}
        ),
        "ModelMetadata": closed(
            "name versions platform inputs outputs",
            {
                "name": TEXT,
                "versions": names | {"minItems": 1},
                "platform": TEXT,
                "inputs": tensors,
                "outputs": tensors,
            },
        ),
        "TensorMetadata": tensor,
        "ModelReady": closed("name ready", {"name": TEXT, "ready": FLAG}),
        "ModelConfig": obj(
            "name platform backend max_batch_size input output",
            {
                "name": TEXT,
                "platform": TEXT,
                "backend": TEXT,
                "max_batch_size": {"type": "integer", "minimum": 0},
                "input": array(obj("name data_type dims", {"name": TEXT})),
                "output": array(obj("name data_type dims", {"name": TEXT})),
            },
        ),
    }


def _element(datatype: Datatype) -> Node:
    if datatype is Datatype.BOOL:
        return FLAG
    if datatype is Datatype.BYTES:
        return TEXT
    if datatype.is_float:
        return {"type": "number"}
    bits = 8 * datatype.itemsize
    if datatype.wire.startswith("U"):
        return {"type": "integer", "minimum": 0, "maximum": 2**bits - 1}
    return {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}


def _tensors() -> Node:
    """Datatypes, and elements of each: flat or nested as the shape."""
    schemas: Node = {
        "Datatype": {"enum": [datatype.wire for datatype in Datatype]},
        "Shape": array({"type": "integer", "minimum": 0}),
    }
    for datatype in Datatype:
        if datatype.in_json:
            name = f"{datatype.wire}Elements"
            schemas[name] = array({"anyOf": [_element(datatype), ref(name)]})
    return schemas


def _infer(limits: LimitSettings) -> Node:
    key = {"type": "string", "maxLength": ROUTING_KEY_BYTES_MAX}
    parameters = obj(
        "",
        {
            "timeout": {"type": "integer", "minimum": 0, "maximum": TIMEOUT_US_MAX},
            "routing_key": key,
            "sequence_id": {"anyOf": [{"type": "integer"}, key]},
            "binary_data_output": FLAG,
            "driftgate_details": FLAG,
        },
        propertyNames={"not": {"pattern": "^triton_"}},
    )
    described = {"name": TEXT, "shape": ref("Shape")}
    wanted = obj(
        "name",
        {"name": TEXT, "parameters": _or_null(obj("", {"binary_data": FLAG}))},
    )
    return {
        "InferRequest": obj(
            "inputs",
            {
                "id": {"type": ["string", "null"], "maxLength": ID_CHARACTERS_MAX},
                "parameters": {"anyOf": [ref("InferParameters"), {"type": "null"}]},
                "inputs": array(ref("InputTensor"), maxItems=limits.tensors_max),
                "outputs": array(ref("RequestedOutput")) | {"type": ["array", "null"]},
            },
        ),
        "InferParameters": parameters,
        "RequestedOutput": wanted,
        "InputTensor": {
            "oneOf": [*(_json_input(d, described) for d in Datatype if d.in_json), _blob(described)]
        },
        "InferReply": _infer_reply(),
        "OutputTensor": {"oneOf": [*(_json_output(d) for d in Datatype if d.in_json), _output()]},
    }


def _json_input(datatype: Datatype, described: Node) -> Node:
    """An input with its elements; only a tensor without dimensions may be one bare element."""
    properties = described | {
        "datatype": {"const": datatype.wire},
        "data": {"anyOf": [ref(f"{datatype.wire}Elements"), _element(datatype)]},
        "parameters": {
            "type": ["object", "null"],
            "properties": {"binary_data_size": {"type": "null"}},
        },
    }
    return obj("name shape datatype data", properties)


def _blob(described: Node) -> Node:
    """An input whose bytes follow the JSON."""
    size = {"type": "integer", "minimum": 0}
    properties = described | {
        "datatype": ref("Datatype"),
        "parameters": obj("binary_data_size", {"binary_data_size": size}),
        "data": False,
    }
    return obj("name shape datatype parameters", properties)


def _infer_reply() -> Node:
    return closed(
        "model_name model_version outputs",
        {
            "id": TEXT | {"minLength": 1, "maxLength": ID_CHARACTERS_MAX},
            "model_name": TEXT,
            "model_version": TEXT,
            "parameters": closed("", {"prediction_id": TEXT, "model_digest": TEXT}),
            "outputs": array(ref("OutputTensor"), minItems=1),
        },
    )


def _json_output(datatype: Datatype) -> Node:
    properties = {
        "name": TEXT,
        "datatype": {"const": datatype.wire},
        "shape": ref("Shape"),
        "data": array(_element(datatype)),
    }
    return closed("name datatype shape data", properties)


def _output() -> Node:
    size = {"type": "integer", "minimum": 0}
    properties = {
        "name": TEXT,
        "datatype": ref("Datatype"),
        "shape": ref("Shape"),
        "parameters": closed("binary_data_size", {"binary_data_size": size}),
    }
    return closed("name datatype shape parameters", properties)


def _labels() -> Node:
    label = obj(
        "prediction_id label",
        {
            "prediction_id": TEXT,
            "label": {
                "anyOf": [
                    {"type": "number", "minimum": -(2**63), "maximum": 2**63},
                    FLAG,
                    {"type": "string", "maxLength": CATEGORY_CHARACTERS_MAX},
                ]
            },
            "ts": {
                "anyOf": [
                    {"type": "number", "minimum": 0, "exclusiveMaximum": 2**33},
                    {"type": "string", "format": "date-time"},
                    {"type": "null"},
                ]
            },
        },
    )
    labels = array(ref("Label"), maxItems=LABELS_MAX)
    return {
        "Label": label,
        "Labels": {"anyOf": [labels, obj("labels", {"labels": labels})]},
        "LabelsTaken": closed("accepted", {"accepted": {"type": "integer", "minimum": 0}}),
    }


def parameters_of() -> Node:
    """Every parameter of a path or a header, by name."""
    number = {"type": "integer", "minimum": 0}
    return {
        "model": _in_path("model", _NAME),
        "repository": _in_path("repository", _NAME),
        "region": _in_path("region", "^.{1,256}$"),
        "version": _in_path("version", _VERSION),
        "Inference-Header-Content-Length": _in_header(
            "Inference-Header-Content-Length",
            number | {"maximum": _COUNT_MAX},
            "bytes of the JSON before binary tensors; 0 for a body that is one tensor",
        ),
        "Content-Encoding": _in_header(
            "Content-Encoding", {"enum": ["identity", "gzip", "deflate"]}, "of the body"
        ),
        "x-routing-key": _in_header(
            "x-routing-key",
            {"type": "string", "maxLength": ROUTING_KEY_BYTES_MAX},
            "the same key stays with the same version; wins over the parameters",
        ),
        "x-request-timeout-ms": _in_header(
            "x-request-timeout-ms",
            number | {"maximum": _COUNT_MAX},
            "an answer that would come later is refused at once; 0 is none",
        ),
    }


def _in_path(name: str, pattern: str) -> Node:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _in_header(name: str, schema: Node, description: str) -> Node:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema,
    }


def headers_of() -> Node:
    """Every header of a reply, by name."""
    number = {"type": "integer", "minimum": 0}
    return {
        "Inference-Header-Content-Length": {
            "description": "bytes of the JSON; present when binary tensors follow it",
            "schema": number,
        },
        "Retry-After": {"description": "seconds", "required": True, "schema": number},
        "Accept-Encoding": {"description": "what is understood", "schema": TEXT},
    }
