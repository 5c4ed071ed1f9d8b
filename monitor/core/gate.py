"""What a verdict means to a deployment tool that asks whether its canary may go on.

Laws:
- pass and fail are said on evidence alone; what is not known, too few rows or
  statistics that are old among it, is inconclusive, and a person looks;
- fail means that the candidate is to blame. What is wrong with every version, or with
  the data, would be as wrong after a rollback: inconclusive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitor.core.judge import Kind

_WELL = (Kind.HEALTHY, Kind.WARN, Kind.ANNOTATE, Kind.RECOVERING)


class Answer(StrEnum):
    PASS = "pass"  # noqa: S105 - what Argo Rollouts' users compare with
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class GateLimits:
    """rows_min: per arm of a rollout; lag_max_ns: how old statistics may be."""

    rows_min: int = 200
    lag_max_ns: int = 30 * 10**9


@dataclass(frozen=True, slots=True)
class Gate:
    answer: Answer
    reason: str


def gate(state: Mapping[str, Any], version: str | None, now_ns: int, limits: GateLimits) -> Gate:
    """state: a model's state document; version: the one that is asked about, if any."""
    kind = Kind(state["verdict"])
    if kind is Kind.ROLLBACK:
        judged = state["candidate"]["version"] if state["candidate"] else None
        if version not in (None, judged):
            return Gate(Answer.INCONCLUSIVE, f"version {judged} is judged, not {version}")
        return Gate(Answer.FAIL, str(state["reason"]))
    unknown = _unknown(state, version, now_ns, limits)
    if unknown:
        return Gate(Answer.INCONCLUSIVE, unknown)
    if kind in _WELL:
        return Gate(Answer.PASS, str(state["reason"]))
    return Gate(Answer.INCONCLUSIVE, f"{kind.value}: {state['reason']}")


def _unknown(state: Mapping[str, Any], version: str | None, now_ns: int, limits: GateLimits) -> str:
    """Why nothing good can be said of it yet; empty when it can."""
    if now_ns - int(state["end_ns"]) > limits.lag_max_ns:
        return f"the statistics end {(now_ns - int(state['end_ns'])) / 1e9:.0f} s ago"
    stable, candidate = state["stable"], state["candidate"]
    served = {arm["version"] for arm in (stable, candidate) if arm}
    if version is not None and version not in served:
        return f"version {version} has not served yet"
    if stable is None or not stable["has_reference"]:
        warming = stable["reference"]["warming_up"] if stable else None
        return warming["reason"] if warming else "there is no reference to compare with"
    if candidate is None:
        return ""
    fewest = min(candidate["rows"], candidate["stable_rows"])
    if fewest < limits.rows_min:
        return f"an arm has {fewest} rows of {limits.rows_min}"
    return ""
