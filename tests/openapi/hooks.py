"""What schemathesis cannot know of a gateway: its models, its ids, and which 5xx are answers.

Loaded by `schemathesis run` through SCHEMATHESIS_HOOKS. The description as the
gateway serves it stays as it is, but for the names of models: random ones
would all be unknown. A part of the requests that fit the description is
replaced by ones that fit a model, and these must be answered.

Environment: OPENAPI_MODELS, JSON {model: metadata}; OPENAPI_COUNTS, the file
that the counted replies are written to at the end.
"""

import atexit
import gzip
import json
import os
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

from tests.openapi.refused import NOT_SERVED, REFUSED, never_granted

MODELS = json.loads(os.environ["OPENAPI_MODELS"])
UNKNOWN = "no.such-model"
BINARY = "application/octet-stream"
counts: Counter[str] = Counter()
prediction_ids: list[str] = []
fitting: set[str] = set()  # bodies that must be answered with 200


@atexit.register
def write_counts() -> None:
    Path(os.environ["OPENAPI_COUNTS"]).write_text(json.dumps(counts))


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: Any) -> None:
    parameters = raw_schema["components"]["parameters"]
    parameters["model"]["schema"]["enum"] = [*MODELS, UNKNOWN]
    parameters["version"]["schema"]["enum"] = ["1", "7"]
    for methods in raw_schema["paths"].values():
        for node in methods.values():
            content = node["responses"]["200"]["content"]
            if BINARY in content:  # what `json_part` makes of it
                content[BINARY]["schema"] = content["application/json"]["schema"]


@schemathesis.deserializer(BINARY)
def json_part(context: Any, response: Any) -> Any:
    return json.loads(response.content[: json_bytes(response)])


def json_bytes(response: Any) -> int | None:
    """How long the JSON of a reply is when tensors follow it."""
    values = response.headers.get("inference-header-content-length")
    return int(values[0]) if values else None


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Headers that nobody described are no mistake: proxies and clients add their own."""
    return not any("unknown-property" in name.lower() for name in case.headers or {})


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Every second request that fits the description fits the model too."""
    operation = case.operation.definition.raw["operationId"]
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    dice = random.Random(repr((case.body, case.path_parameters, case.headers)))
    if dice.random() < 0.5 or case.path_parameters.get("model") not in MODELS:
        return case
    if operation.startswith("infer") and case.media_type == "application/json":
        case.body = exact_request(MODELS[case.path_parameters["model"]], dice)
    elif operation == "labels" and prediction_ids:
        case.body = exact_labels(dice)
    else:
        return case
    fitting.add(repr(case.body))
    return case


def exact_request(metadata: Any, dice: random.Random) -> Any:
    """A request that the model takes. metadata: as the gateway gives it."""
    rows = dice.randrange(4)
    request = {"inputs": [exact_input(spec, rows, dice) for spec in metadata["inputs"]]}
    binary = any(spec["datatype"] in {"FP16", "BF16"} for spec in metadata["outputs"])
    if binary or dice.random() < 0.3:
        request["parameters"] = {"binary_data_output": True}
    return request


def exact_input(spec: Any, rows: int, dice: random.Random) -> Any:
    shape = [rows if size < 0 else size for size in spec["shape"]]
    count = 1
    for size in shape:
        count *= size
    values = [element(spec["datatype"], dice) for _ in range(count)]
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": values}


def element(datatype: str, dice: random.Random) -> Any:
    if datatype == "BOOL":
        return dice.random() < 0.5
    if datatype == "BYTES":
        return dice.choice(["", "text", "\u2028é\U0001f600", "\x00", '"\\'])
    if datatype.startswith("FP"):
        return dice.choice([0, -0.0, 1.5, 1e38, 1e-45, dice.gauss(0, 1)])  # sums stay finite
    bits = int(datatype.lstrip("UINT"))
    low, high = (
        (0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    return dice.choice([low, high, 0, dice.randint(low, high)])


def exact_labels(dice: random.Random) -> Any:
    count = dice.randrange(1, 4)
    labels = [
        {
            "prediction_id": f"{dice.choice(prediction_ids)}.0",
            "label": dice.choice([1, True, "cat"]),
        }
        for _ in range(count)
    ]
    return labels if dice.random() < 0.5 else {"labels": labels}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    kwargs["auth"] = true_of_the_body


def true_of_the_body(request: Any) -> Any:
    """Headers that speak of the body become true of it, where they can be."""
    body, headers = request.body, request.headers
    if not isinstance(body, bytes) or headers.get("Content-Type") != "application/json":
        return request
    if str(headers.get("Inference-Header-Content-Length", "")).isdigit():
        headers["Inference-Header-Content-Length"] = str(len(body))
    coding = headers.get("Content-Encoding")
    if coding in {"gzip", "deflate"}:
        request.body = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    return request


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    operation = case.operation.definition.raw["operationId"]
    counts[f"{operation} {response.status_code}"] += 1
    if operation.startswith("infer") and response.status_code == 200:
        reply = json.loads(response.content[: json_bytes(response)])
        prediction_id = reply.get("parameters", {}).get("prediction_id")
        if prediction_id is not None and len(prediction_ids) < 100:
            prediction_ids.append(prediction_id)


@schemathesis.check
def an_error_on_our_side_is_none_of_ours(ctx: Any, response: Any, case: Any) -> None:
    """5xx says what the client asked for: something not served, or by when."""
    status = response.status_code
    if status < 500:
        return
    headers = {name.lower(): value for name, value in (case.headers or {}).items()}
    text = repr(case.body)
    operation = case.operation.definition.raw["operationId"]
    if status == 501 and operation.startswith(("infer", "v1_predict")):
        unknown_coding = headers.get("content-encoding") not in {
            None,
            "",
            "identity",
            "gzip",
            "deflate",
        }
        assert unknown_coding or "shared_memory_region" in text or "classification" in text
    elif status == 501:
        assert operation.startswith((*REFUSED, *NOT_SERVED, "set_trace_setting", "set_logging"))
    elif status == 503:
        assert operation.startswith(("model_load", "model_unload"))
    elif status == 504:
        assert "timeout" in text or "x-request-timeout-ms" in headers
    else:
        raise AssertionError(f"status {status}: {response.content[:200]!r}")


@schemathesis.check
def a_request_that_fits_the_model_is_answered(ctx: Any, response: Any, case: Any) -> None:
    meta = case.meta
    if response.status_code in {404, 504} or meta is None or not meta.generation.mode.is_positive:
        return  # an unknown version, or a time that the case itself set
    if never_granted(case.operation.definition.raw["operationId"]):
        return
    if case.method == "GET" or repr(case.body) in fitting:
        assert response.status_code == 200, response.content[:200]


@schemathesis.check
def a_binary_reply_adds_up(ctx: Any, response: Any, case: Any) -> None:
    """JSON of the length that the header says, then the bytes of each output."""
    size = json_bytes(response)
    if size is None:
        return
    assert response.headers["content-type"] == ["application/octet-stream"]
    outputs = json.loads(response.content[:size])["outputs"]
    blobs = [output["parameters"]["binary_data_size"] for output in outputs if "data" not in output]
    assert blobs
    assert size + sum(blobs) == len(response.content)
