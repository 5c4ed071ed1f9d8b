"""A record of predictions as JSON, row by row: for people, and for KServe's consumers.

Two forms of the same rows:
- `row_documents`: one object per row, as `driftgate log tail --json` prints them;
- `events`: two CloudEvents per row, a request and a response, as KServe's inference
  logger sends them, in Kafka's binary content mode. Failed rows have no response.

How values look, in both:
- a NaN is null, and so is an infinite number, which JSON has no word for; an event says
  at which places of the tensor the infinite ones are;
- BF16 and FP16 are numbers; elements of BYTES are text if they are UTF-8, else Base64
  (an object {"base64": ...} in a row's document; in an event all of the tensor is, with
  content type `base64`);
- what a policy dropped is named; what it hashed, and what was too large for a record, is
  there as a digest under the name of the field.
"""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from eventlog.core.kafka_message import Message
from eventlog.core.prediction_id import IdCodec
from eventlog.core.predictions import (
    Array,
    PredictionRows,
    Status,
    datatype_of,
    float32_of_bf16,
    tensors,
)
from eventlog.core.traceparent import traceparent_text

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
BASE64 = "base64"  # the content type of a BYTES tensor, as MLServer names it
CANDIDATE, CANARY, DEFAULT = "candidate", "canary", "default"


@dataclass(frozen=True, slots=True)
class EventOrigin:
    """What every event says of where it comes from."""

    source: str  # a URI
    namespace: str


def row_documents(
    rows: PredictionRows, chosen: Sequence[int], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows at these places; names: the prediction id of every row's request."""
    for i in chosen:
        document = {
            "kind": "prediction",
            "prediction_id": names[i],
            "row": int(rows.row[i]),
            "ts_ns": int(rows.ts_ns[i]),
            "model": rows.model,
            "version": rows.version,
            "role": rows.role,
            "rollout": rows.rollout,
            "status": status_name(int(rows.status[i])),
            "latency_ms": float(rows.latency_ns[i]) / 1e6,
            "weight": float(rows.weight[i]),
            "inputs": _values(rows, "input", i),
            "outputs": _values(rows, "output", i),
        }
        if rows.traces is not None and rows.traces[i].any():
            document["traceparent"] = traceparent_text(rows.traces[i].tobytes())
        if rows.dropped:
            document["dropped"] = list(rows.dropped)
        yield document


def request_ids(rows: PredictionRows, producer: str, codec: IdCodec) -> list[str]:
    """The prediction id of each row's request: its time and its first sequence number."""
    times = (rows.ts_ns // 1_000_000).tolist()
    firsts = (rows.sequences() - rows.row).tolist()
    return [codec.encode(ts, producer, first) for ts, first in zip(times, firsts, strict=True)]


def status_name(value: int) -> str:
    return Status(value).name.lower() if value in tuple(Status) else str(value)


def events(
    rows: PredictionRows, names: Sequence[str], origin: EventOrigin, frame: bytes = b""
) -> Iterator[Message]:
    """A request and a response per row, keyed by the model.

    names: as above. frame: what stands before each body, see `schema_frame`.
    """
    inputs, outputs = _Side(rows, "input"), _Side(rows, "output")
    named = (*(f"output:{name}" for name in rows.outputs), *rows.omitted, *rows.withheld)
    answered = any(key.startswith("output:") for key in named)
    for i, name in enumerate(names):
        row_id = f"{name}.{int(rows.row[i])}"
        headers = _headers(rows, i, row_id, origin)
        request = {
            "id": row_id,
            "inputs": inputs.tensors(i),
            "parameters": {**_about(rows, i), **inputs.digests(i)},
        }
        yield _event(rows, i, REQUEST, headers, frame, request)
        if answered and rows.status[i] == Status.OK:
            response = {
                "model_name": rows.model,
                "model_version": rows.version,
                "id": row_id,
                "outputs": outputs.tensors(i),
                "parameters": {**_about(rows, i), **outputs.digests(i)},
            }
            yield _event(rows, i, RESPONSE, headers, frame, response)


def _event(
    rows: PredictionRows,
    i: int,
    kind: str,
    headers: Sequence[tuple[str, bytes]],
    frame: bytes,
    document: Mapping[str, Any],
) -> Message:
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    at_ms = int(rows.ts_ns[i]) // 1_000_000
    return Message(rows.model.encode(), frame + body, [("ce_type", kind.encode()), *headers], at_ms)


def _headers(
    rows: PredictionRows, i: int, row_id: str, origin: EventOrigin
) -> list[tuple[str, bytes]]:
    """All but the type, in the words of the CloudEvents binding for Kafka."""
    at = datetime.fromtimestamp(int(rows.ts_ns[i]) // 1000 / 1e6, UTC)
    values = {
        "ce_specversion": "1.0",
        "ce_id": row_id,
        "ce_source": origin.source,
        "ce_time": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "ce_inferenceservicename": rows.model,
        "ce_namespace": origin.namespace,
        "ce_component": "predictor",
        "ce_endpoint": CANARY if rows.role == CANDIDATE else DEFAULT,
        "content-type": "application/json",
    }
    if rows.traces is not None and rows.traces[i].any():
        values["ce_traceparent"] = traceparent_text(rows.traces[i].tobytes())
    return [(name, value.encode()) for name, value in values.items()]


def _about(rows: PredictionRows, i: int) -> dict[str, Any]:
    """What we know of a row beside its tensors; parameters are scalars in the protocol."""
    about: dict[str, Any] = {
        "model_name": rows.model,
        "model_version": rows.version,
        "role": rows.role,
        "status": status_name(int(rows.status[i])),
        "latency_ms": float(rows.latency_ns[i]) / 1e6,
        "weight": float(rows.weight[i]),
    }
    if rows.rollout:
        about["rollout"] = rows.rollout
    if rows.dropped:
        about["dropped"] = ",".join(rows.dropped)
    return about


class _Side:
    """The inputs or outputs of a record, made ready once for all of its rows."""

    def __init__(self, rows: PredictionRows, side: str) -> None:
        self._columns: list[tuple[dict[str, Any], Array, tuple[int, ...]]] = []
        for key, array in tensors(rows):
            if key.startswith(f"{side}:"):
                datatype = datatype_of(rows, key, array)
                row = array.shape[1:]
                head = {"name": key.partition(":")[2], "datatype": datatype, "shape": [1, *row]}
                flat = _numbers(array, datatype).reshape(len(array), math.prod(row))
                self._columns.append((head, flat, rows.masked.get(key, ())))
        self._omitted = {k: v for k, v in rows.omitted.items() if k.startswith(f"{side}:")}
        self._hashed = {k: v for k, v in rows.hashed.items() if k.startswith(f"{side}:")}

    def tensors(self, i: int) -> list[dict[str, Any]]:
        return [{**head, **_data(flat[i], masked)} for head, flat, masked in self._columns]

    def digests(self, i: int) -> dict[str, str]:
        found = {f"sha256 {k}": v.digests[i].tobytes().hex() for k, v in self._omitted.items()}
        return found | {
            f"hmac-sha256 {k}": v.digests[i].tobytes().hex() for k, v in self._hashed.items()
        }


def _numbers(array: Array, datatype: str) -> Array:
    """Values in a dtype that JSON is written from."""
    if datatype == "BF16":
        return float32_of_bf16(array)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _data(flat: Array, masked: Sequence[int]) -> dict[str, Any]:
    """The data and parameters of one row's tensor."""
    if flat.dtype.hasobject:
        return _bytes_data(flat.tolist(), masked)
    parameters: dict[str, str] = {}
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        for word, infinite in (("infinity", np.inf), ("negative_infinity", -np.inf)):
            places = np.flatnonzero(flat == infinite)
            if places.size:
                parameters[word] = ",".join(map(str, places.tolist()))
    data: Any = np.ascontiguousarray(flat)
    if masked:
        data = [None if i in masked else value for i, value in enumerate(flat.tolist())]
    return {"data": data, "parameters": parameters} if parameters else {"data": data}


def _bytes_data(elements: Sequence[bytes], masked: Sequence[int]) -> dict[str, Any]:
    try:
        texts: list[str | None] = [element.decode() for element in elements]
        parameters = {}
    except UnicodeDecodeError:
        texts = [base64.b64encode(element).decode() for element in elements]
        parameters = {"parameters": {"content_type": BASE64}}
    data = [None if i in masked else text for i, text in enumerate(texts)]
    return {"data": data, **parameters}


def _values(rows: PredictionRows, side: str, i: int) -> dict[str, Any]:
    """One row's tensors by name, nested as they were."""
    values: dict[str, Any] = {}
    for key, array in tensors(rows):
        if key.startswith(f"{side}:"):
            row = _numbers(array[i : i + 1], datatype_of(rows, key, array))[0]
            plain = row.tolist() if hasattr(row, "tolist") else row
            values[key.partition(":")[2]] = _shown(plain, rows.masked.get(key, ()))
    digests = _Side(rows, side).digests(i) if rows.omitted or rows.hashed else {}
    for name, digest in digests.items():
        form, _, key = name.partition(" ")
        values[key.partition(":")[2]] = f"{form}:{digest}"
    return values


def _shown(value: Any, masked: Sequence[int]) -> Any:
    """masked: elements, counted through all of the row."""
    count = -1

    def one(item: Any) -> Any:
        nonlocal count
        if isinstance(item, list):
            return [one(inner) for inner in item]
        count += 1
        return None if count in masked else _text(item)

    return one(value)


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {BASE64: base64.b64encode(value).decode()}
