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
from functools import lru_cache
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


@lru_cache(maxsize=256)
def status_name(value: int) -> str:
    return Status(value).name.lower() if value in tuple(Status) else str(value)


def events(
    rows: PredictionRows, names: Sequence[str], origin: EventOrigin, frame: bytes = b""
) -> Iterator[Message]:
    """A request and a response per row, keyed by the model.

    names: as above. frame: what stands before each body, see `schema_frame`.
    """
    inputs, outputs = _Side(rows, "input"), _Side(rows, "output")
    answered = _has_answers(rows)
    key, shared = rows.model.encode(), _shared_headers(rows, origin)
    model = {"model_name": rows.model, "model_version": rows.version}
    stamps = rows.ts_ns.astype("datetime64[ns]")
    times = np.datetime_as_string(stamps, unit="us").tolist()
    about = _about(rows)
    for i, (name, row, at, ts_ns) in enumerate(
        zip(names, rows.row.tolist(), times, rows.ts_ns.tolist(), strict=True)
    ):
        row_id, at_ms = f"{name}.{row}", ts_ns // 1_000_000
        headers = [*shared, ("ce_id", row_id.encode()), ("ce_time", f"{at}Z".encode())]
        if rows.traces is not None and rows.traces[i].any():
            text = traceparent_text(rows.traces[i].tobytes())
            headers.append(("ce_traceparent", text.encode()))
        request: dict[str, Any] = {
            "id": row_id,
            "inputs": inputs.tensors(i),
            "parameters": {**model, **about[i], **inputs.digests(i)},
        }
        yield Message(key, frame + _dump(request), [_TYPES[REQUEST], *headers], at_ms)
        if answered and rows.status[i] == Status.OK:
            response: dict[str, Any] = {
                **model,
                "id": row_id,
                "outputs": outputs.tensors(i),
                "parameters": {**model, **about[i], **outputs.digests(i)},
            }
            yield Message(key, frame + _dump(response), [_TYPES[RESPONSE], *headers], at_ms)


def count_events(rows: PredictionRows) -> int:
    """How many `events` would give."""
    answers = int((rows.status == Status.OK).sum()) if _has_answers(rows) else 0
    return len(rows) + answers


def _has_answers(rows: PredictionRows) -> bool:
    named = (*(f"output:{name}" for name in rows.outputs), *rows.omitted, *rows.withheld)
    return any(key.startswith("output:") for key in named)


_TYPES = {kind: ("ce_type", kind.encode()) for kind in (REQUEST, RESPONSE)}


def _dump(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _shared_headers(rows: PredictionRows, origin: EventOrigin) -> list[tuple[str, bytes]]:
    """What is the same for all rows, in the words of the CloudEvents binding for Kafka."""
    values = {
        "ce_specversion": "1.0",
        "ce_source": origin.source,
        "ce_inferenceservicename": rows.model,
        "ce_namespace": origin.namespace,
        "ce_component": "predictor",
        "ce_endpoint": CANARY if rows.role == CANDIDATE else DEFAULT,
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in values.items()]


def _about(rows: PredictionRows) -> list[dict[str, Any]]:
    """What we know of each row beside its tensors; parameters are scalars in the protocol."""
    shared = {"role": rows.role}
    if rows.rollout:
        shared["rollout"] = rows.rollout
    if rows.dropped:
        shared["dropped"] = ",".join(rows.dropped)
    columns = (rows.status.tolist(), (rows.latency_ns / 1e6).tolist(), rows.weight.tolist())
    return [
        {**shared, "status": status_name(status), "latency_ms": latency_ms, "weight": weight}
        for status, latency_ms, weight in zip(*columns, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One tensor, flat per row; odd: not all of its numbers are finite."""

    head: Mapping[str, Any]
    flat: Array
    masked: tuple[int, ...]
    odd: bool

    def data(self, i: int) -> dict[str, Any]:
        """The data and parameters of one row's tensor."""
        row, masked = self.flat[i], self.masked
        if row.dtype.hasobject:
            return _bytes_data(row.tolist(), masked)
        data: Any = row
        if masked:
            data = [None if k in masked else value for k, value in enumerate(row.tolist())]
        parameters = _infinite(row) if self.odd else {}
        return {"data": data, "parameters": parameters} if parameters else {"data": data}


def _infinite(row: Array) -> dict[str, str]:
    """Where in a row infinite numbers are, which are null in its data."""
    found = {}
    for word, infinite in (("infinity", np.inf), ("negative_infinity", -np.inf)):
        places = np.flatnonzero(row == infinite)
        if places.size:
            found[word] = ",".join(map(str, places.tolist()))
    return found


class _Side:
    """The inputs or outputs of a record, made ready once for all of its rows."""

    def __init__(self, rows: PredictionRows, side: str) -> None:
        self._columns: list[_Column] = []
        for key, array in tensors(rows):
            if key.startswith(f"{side}:"):
                datatype = datatype_of(rows, key, array)
                row = array.shape[1:]
                head = {"name": key.partition(":")[2], "datatype": datatype, "shape": [1, *row]}
                flat = _numbers(array, datatype).reshape(len(array), math.prod(row))
                odd = flat.dtype.kind == "f" and not np.isfinite(flat).all()
                self._columns.append(_Column(head, flat, rows.masked.get(key, ()), odd))
        self._omitted = {k: v for k, v in rows.omitted.items() if k.startswith(f"{side}:")}
        self._hashed = {k: v for k, v in rows.hashed.items() if k.startswith(f"{side}:")}

    def tensors(self, i: int) -> list[dict[str, Any]]:
        return [{**column.head, **column.data(i)} for column in self._columns]

    def digests(self, i: int) -> dict[str, str]:
        if not (self._omitted or self._hashed):
            return {}
        found = {f"sha256 {k}": v.digests[i].tobytes().hex() for k, v in self._omitted.items()}
        return found | {
            f"hmac-sha256 {k}": v.digests[i].tobytes().hex() for k, v in self._hashed.items()
        }


def _numbers(array: Array, datatype: str) -> Array:
    """Values in a dtype that JSON is written from."""
    if datatype == "BF16":
        return float32_of_bf16(array)
    return array.astype(np.float32) if array.dtype == np.float16 else array


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
