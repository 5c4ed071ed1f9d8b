"""What a verdict means to a deployment tool."""

from typing import Any

import pytest

from monitor.core.gate import Answer, GateLimits, gate
from monitor.core.judge import Kind

LIMITS = GateLimits(rows_min=200, lag_max_ns=30)
NOW_NS = 1000


def state(kind: Kind = Kind.HEALTHY, **fields: Any) -> dict[str, Any]:
    """Of a model in a rollout from 1 to 2 that has all it needs."""
    return {
        "verdict": kind.value, "reason": "so it is", "end_ns": NOW_NS,
        "stable": {"version": "1", "has_reference": True},
        "candidate": {"version": "2", "rows": 200, "stable_rows": 900}, **fields,
    }  # fmt: skip


def answer(document: dict[str, Any], version: str | None = None, now_ns: int = NOW_NS) -> Answer:
    return gate(document, version, now_ns, LIMITS).answer


@pytest.mark.parametrize("kind", Kind)
def test_each_verdict_has_one_meaning(kind: Kind) -> None:
    well = (Kind.HEALTHY, Kind.WARN, Kind.ANNOTATE, Kind.RECOVERING)
    meant = Answer.FAIL if kind is Kind.ROLLBACK else Answer.INCONCLUSIVE
    assert answer(state(kind)) is (Answer.PASS if kind in well else meant)


def few(rows: int, stable_rows: int) -> dict[str, Any]:
    return {"candidate": {"version": "2", "rows": rows, "stable_rows": stable_rows}}


def none(warming: dict[str, str] | None = None) -> dict[str, Any]:
    return {"version": "1", "has_reference": False, "reference": {"warming_up": warming}}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        (few(199, 900), "199 rows of 200"),
        (few(200, 0), "0 rows of 200"),
        ({"end_ns": NOW_NS - 31}, "statistics end"),
        ({"stable": None}, "no reference"),
        ({"stable": none()}, "no reference"),
        ({"stable": none({"reason": "warming up: 3 of 30 h"})}, "3 of 30 h"),
    ],
)
def test_what_is_not_known_is_inconclusive(fields: dict[str, Any], word: str) -> None:
    found = gate(state(**fields), None, NOW_NS, LIMITS)
    assert found.answer is Answer.INCONCLUSIVE
    assert word in found.reason


def test_a_version_that_has_not_served_is_not_passed_on_another_s_record() -> None:
    assert answer(state(), "3") is Answer.INCONCLUSIVE
    assert answer(state(), "2") is Answer.PASS
    assert answer(state(candidate=None), "1") is Answer.PASS
    assert answer(state(candidate=None), "2") is Answer.INCONCLUSIVE


def test_another_version_is_not_failed_for_the_candidate() -> None:
    assert answer(state(Kind.ROLLBACK), "2") is Answer.FAIL
    assert answer(state(Kind.ROLLBACK), "1") is Answer.INCONCLUSIVE


def test_a_candidate_that_failed_has_failed_also_when_the_traffic_stopped() -> None:
    assert answer(state(Kind.ROLLBACK), now_ns=NOW_NS + 10**12) is Answer.FAIL
