"""Fairness in JSON: every version, every protected slice, both criteria, part by part."""

from typing import Any

from monitor.core.model_state import ModelState
from monitor.core.performance.book import Measured, SlicePart
from monitor.core.performance.fairness import ALPHA, Bounded, Comparison, Criterion, compare
from monitor.core.slice import Slice
from monitor.documents import number
from monitor.performance_documents import newest_first, role_of

Document = dict[str, Any]


def fairness_document(state: ModelState) -> list[Document]:
    """Versions that answered, the newest rows first; empty without a protected slice."""
    if not any(item.protected for item in state.slices):
        return []
    return [
        {
            "version": measured.version,
            "digest": measured.digest,
            "role": role_of(state, measured.digest),
            "since_ns": measured.since_ns,
            "level": 1.0 - ALPHA,
            "slices": _slices(state, measured),
        }
        for measured in newest_first(state)
    ]


def _slices(state: ModelState, measured: Measured) -> list[Document]:
    return [
        _slice(item, parts)
        for item, parts in zip(state.slices, measured.slices, strict=True)
        if item.protected
    ]


def _slice(item: Slice, parts: list[SlicePart]) -> Document:
    # The last part is of everything that was not named: a remainder and no group.
    groups = dict(zip(item.parts[:-1], (part.advantages for part in parts), strict=False))
    return {
        "slice": item.name,
        "feature": item.feature,
        "positive": item.positive,
        "positive_from": item.positive_from,
        "difference_max": item.difference_max,
        "ratio_min": item.ratio_min,
        "criteria": {
            criterion.name.lower(): [
                {"part": name, **_comparison(found)}
                for name, found in compare(item, groups, criterion).items()
            ]
            for criterion in Criterion
        },
    }


def _comparison(found: Comparison) -> Document:
    return {
        "rows": found.rows,
        "share": _bounded(found.share),
        "difference": _bounded(found.difference),
        "ratio": _bounded(found.ratio),
        "standing": found.standing.value,
    }


def _bounded(found: Bounded) -> Document:
    return {
        "value": number(found.value),
        "low": number(found.low),
        "high": number(found.high),
    }
