"""What the monitor needs of a deployment, as the admin API states it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROGRESSING = "PROGRESSING"
OWN_ACTOR = "monitor"


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a deployment's history."""

    verb: str
    actor: str
    ts_ns: int


@dataclass(frozen=True, slots=True)
class Deployment:
    model: str
    generation: int
    phase: str
    stable_digest: str
    candidate_digest: str
    weight: int  # percent on the candidate
    step: int
    rollout: str
    hold_until_ns: int
    frozen: bool
    changed_ns: int
    history: tuple[Change, ...] = ()


def parse_deployment(document: Mapping[str, Any]) -> Deployment:
    """From protobuf JSON, where zero fields are absent and 64-bit numbers are text."""
    return Deployment(
        model=str(document.get("model", "")),
        generation=int(document.get("generation", 0)),
        phase=str(document.get("phase", "")),
        stable_digest=str(document.get("stable", {}).get("digest", "")),
        candidate_digest=str(document.get("candidate", {}).get("digest", "")),
        weight=int(document.get("weight", 0)),
        step=int(document.get("step", 0)),
        rollout=str(document.get("rollout", "")),
        hold_until_ns=int(document.get("hold_until_ns", 0)),
        frozen=bool(document.get("frozen", False)),
        changed_ns=int(document.get("changed_ns", 0)),
        history=tuple(
            Change(str(item.get("verb", "")), str(item.get("actor", "")), int(item.get("ts_ns", 0)))
            for item in document.get("history", ())
        ),
    )
