"""What a trainer is told: one document, whichever trigger carries it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Document = dict[str, Any]

# Of a receiver that takes parameters of at most 10,000 bytes, JSON quoted once more.
BRIEF_BYTES_MAX = 4000
FEATURES_MAX = 500  # named in a request, with most evidence first
SHIFTS_MAX = 8
EVENT_TYPE = "io.driftgate.retrain.requested.v1"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of the window as a file, with their labels beside them."""

    path: str
    sha256: str
    bytes: int
    rows: int
    labelled: int


@dataclass(frozen=True, slots=True)
class Request:
    """id: the same for every attempt, fit for names everywhere: letters, digits, hyphens."""

    id: str
    key: str  # of the action
    model: str
    document: Mapping[str, Any]


def request_id(key: str) -> str:
    return f"driftgate-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def make_request(
    key: str, evidence: Mapping[str, Any], dataset: Dataset | None, why_none: str
) -> Request:
    """evidence: as `retrain_evidence` or `standing_evidence` give it."""
    document: Document = {
        "id": request_id(key),
        "key": key,
        **evidence,
        "features": list(evidence["features"][:FEATURES_MAX]),
        "features_left_out": max(len(evidence["features"]) - FEATURES_MAX, 0),
        "dataset": asdict(dataset) if dataset else None,
    }
    if dataset is None:
        document["dataset_missing"] = why_none
    return Request(document["id"], key, str(evidence["model"]), document)


def standing_evidence(
    state: Mapping[str, Any], cause: str, reason: str, window_ns: int
) -> Document:
    """Evidence where no verdict asks for the training. state: a model's state document.

    The same fields as a verdict gives, so that a trainer need not tell them apart.
    """
    stable, candidate = state["stable"] or {}, state["candidate"] or {}
    end_ns = int(state["end_ns"])
    moved = [item for item in state["features"] if item["named"]]
    shown = ("name", "tensor", "index", "ks", "psi", "js")
    return {
        "cause": cause,
        "model": state["model"],
        "stable": stable.get("version", ""),
        "candidate": candidate.get("version", ""),
        "kind": state["verdict"],
        "reason": reason,
        "digest": stable.get("digest", ""),
        "features": [item["name"] for item in moved],
        "loss": state["loss"],
        "version": stable.get("version", ""),
        "verdict": "",
        "evidence_s": state["evidence_s"],
        "changed_after_ns": end_ns - window_ns,
        "window_start_ns": end_ns - window_ns,
        "window_end_ns": end_ns,
        "shifts": [{name: item.get(name) for name in shown} for item in moved[:SHIFTS_MAX]],
    }


def brief(document: Mapping[str, Any]) -> Document:
    """The request without shifts, and as many features as fit into BRIEF_BYTES_MAX."""
    short = {name: value for name, value in document.items() if name != "shifts"}
    short["reason"] = str(short.get("reason", ""))[:500]
    while short["features"] and len(json.dumps(short)) > BRIEF_BYTES_MAX:
        short["features"] = short["features"][: len(short["features"]) // 2]
    return short


def template_values(request: Request) -> Document:
    """What a template may name."""
    document, dataset = request.document, request.document["dataset"] or {}
    return {
        "id": request.id,
        "key": request.key,
        "model": request.model,
        "version": document["version"],
        "digest": document["digest"],
        "reason": document["reason"],
        "dataset_path": dataset.get("path", ""),
        "dataset_sha256": dataset.get("sha256", ""),
        "request": dict(document),
        "brief": brief(document),
    }


VALUE_NAMES = frozenset(
    {
        *("id", "key", "model", "version", "digest", "reason"),
        *("dataset_path", "dataset_sha256", "request", "brief"),
    }
)


def cloud_event(request: Request, time: str) -> Document:
    """The request as a CloudEvent 1.0. time: RFC 3339, of this attempt."""
    return {
        "specversion": "1.0",
        "id": request.id,
        "source": f"/models/{request.model}/versions/{request.document['version']}",
        "type": EVENT_TYPE,
        "subject": request.model,
        "time": time,
        "datacontenttype": "application/json",
        "data": dict(request.document),
    }
