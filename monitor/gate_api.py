"""The gate over HTTP: for Argo Rollouts' web metric, and Flagger's webhooks.

Laws:
- Argo Rollouts is answered 200 with the verdict as JSON, and compares for itself;
- Flagger is answered by status alone: of `rollback` 200 means "roll back", so nothing
  but a candidate that fails is answered so, no error among it; of the hooks that
  confirm, 200 means "go on", and anything else "wait".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitor.core.gate import Answer, GateLimits, gate

Document = dict[str, Any]

CONFIRMING = ("confirm-rollout", "confirm-traffic-increase", "confirm-promotion")
HOOKS = ("rollback", *CONFIRMING)
NOT_YET = 409
SHOWN = ("verdict_id", "evidence_s", "threshold_s", "warn_threshold_s", "groups_s")


@dataclass(frozen=True, slots=True)
class Asked:
    """About which model, and which of its versions; None: whichever is there."""

    model: str
    version: str | None = None


def asked_by_flagger(body: bytes, query: Mapping[str, list[str]]) -> Asked:
    """The model stands in the hook's metadata, in the URL, or is named as the canary is.

    Raises: ValueError with a sentence for the client.
    """
    try:
        document = json.loads(body or b"{}")
    except ValueError as exc:
        raise ValueError("the body is no JSON") from exc
    if not isinstance(document, dict):
        raise ValueError("the body is no JSON object")
    metadata = document.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    model = _first(query, "model") or known.get("model") or document.get("name")
    version = _first(query, "version") or known.get("version")
    if not isinstance(model, str) or not isinstance(version, str | None):
        raise ValueError("name the model in the hook's metadata, or in its URL as ?model=")
    return Asked(model, version)


def asked_by_query(query: Mapping[str, list[str]]) -> Asked:
    """Raises: ValueError with a sentence for the client."""
    model = _first(query, "model")
    if model is None:
        raise ValueError("name the model: ?model=M")
    return Asked(model, _first(query, "version"))


def answer(
    models: Mapping[str, Mapping[str, Any]], asked: Asked, now_ns: int, limits: GateLimits
) -> Document | None:
    """What is said of the model; None: it is not under watch."""
    state = models.get(asked.model)
    if state is None:
        return None
    found = gate(state, asked.version, now_ns, limits)
    candidate = state["candidate"]
    return {
        "model": asked.model,
        "verdict": found.answer.value,
        "reason": found.reason,
        "e_value": candidate["e_value"] if candidate else None,
        "evidence": {
            "kind": state["verdict"],
            **{name: state[name] for name in SHOWN},
            "stable": state["stable"],
            "candidate": candidate,
        },
    }


def flagger_status(hook: str, verdict: str) -> int:
    """hook: one of HOOKS."""
    wanted = Answer.FAIL if hook == "rollback" else Answer.PASS
    return 200 if verdict == wanted else NOT_YET


def _first(query: Mapping[str, list[str]], name: str) -> str | None:
    return query[name][0] if name in query else None
