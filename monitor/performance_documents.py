"""Performance in JSON: realised of every version, over each span and by each slice; estimated."""

from collections.abc import Mapping
from typing import Any

from monitor.core.estimation import ESTIMATED, estimated
from monitor.core.model_state import ModelState
from monitor.core.performance import Estimate, Measure, measures_with
from monitor.core.performance.book import Measured
from monitor.core.performance.class_measures import f1, positive_of, share
from monitor.core.performance.class_tally import ClassTally
from monitor.core.performance.spans import Spans
from monitor.core.performance.tally import Tally
from monitor.documents import number

CLASSES_SHOWN = 20  # with most rows
# Of parts of slices, where there is little room: in metrics and reports.
HEADLINE_MEASURES = ("accuracy", "f1", "roc_auc", "mae")

Document = dict[str, Any]
Measures = Mapping[str, Measure]


def performance_document(state: ModelState) -> list[Document]:
    """Versions that have labels, the newest rows first; empty while there are none."""
    return [_version(state, item) for item in newest_first(state) if item.whole.since.rows]


def newest_first(state: ModelState) -> list[Measured]:
    """All versions that are kept."""
    return sorted(
        state.performance.versions.values(),
        key=lambda item: (-item.last_index, -item.since_ns, item.digest),
    )


def role_of(state: ModelState, digest: str) -> str:
    """stable, candidate, or nothing for a version that answers no more."""
    if state.stable is not None and digest == state.stable.digest:
        return "stable"
    if state.rollout is not None and digest == state.rollout.digest:
        return "candidate"
    return ""


def _version(state: ModelState, measured: Measured) -> Document:
    rollout, measures = state.rollout is not None, measures_with(state.settings.quantile_level)
    return {
        "version": measured.version,
        "digest": measured.digest,
        "role": role_of(state, measured.digest),
        "since_ns": measured.since_ns,
        "spans": _spans(measured.whole, measures, rollout=rollout),
        "estimated": _estimated(state, measured),
        "slices": {
            item.name: [
                {"part": name, "spans": _spans(part.spans, measures, rollout=rollout)}
                for name, part in zip(item.parts, parts, strict=True)
            ]
            for item, parts in zip(state.slices, measured.slices, strict=True)
        },
    }


def _estimated(state: ModelState, measured: Measured) -> Document:
    """Of the rows that were answered in the last window, without their labels."""
    found = estimated(
        measured.estimation, measured.whole, is_broken=state.was_broken(measured.whole.half)
    )
    return {
        "rows": found.rows,
        "labels": found.labels,
        "reason": found.reason and found.reason.value,
        "sentence": found.reason.sentence if found.reason else "",
        "measures": [
            _estimate(ESTIMATED[name].measure, item) for name, item in found.estimates.items()
        ],
    }


def by_slice(version: Document, name: str | None) -> Document:
    """A version's document with the parts of the named slice alone, or with none."""
    rest = {key: value for key, value in version.items() if key != "slices"}
    return rest if name is None else {**rest, "parts": version["slices"][name]}


def _spans(spans: Spans, measures: Measures, *, rollout: bool) -> Document:
    return {span.value: _span(tally, measures) for span, tally in spans.of(rollout=rollout).items()}


def _span(tally: Tally, measures: Measures) -> Document:
    found = {name: measure.estimate(tally) for name, measure in measures.items()}
    classes = tally.classes if tally.are_classes else ClassTally()
    return {
        "rows": tally.answered,
        "labels": tally.rows,
        "coverage": number(tally.coverage),
        "delay_s": {
            "median": number(tally.delay.quantile(0.5)),
            "p95": number(tally.delay.quantile(0.95)),
        },
        "nonfinite": tally.numbers.nonfinite,
        "scored": classes.scores.rows,
        "positive": positive_of(classes) if classes.rows else None,
        "measures": [
            _estimate(measures[name], estimate)
            for name, estimate in found.items()
            if estimate is not None
        ],
        "classes": _classes(classes),
        "classes_left_out": max(len(classes.of_class) - CLASSES_SHOWN, 0),
    }


def _estimate(measure: Measure, estimate: Estimate) -> Document:
    return {
        "name": measure.name,
        "title": measure.title,
        "better": measure.better.value,
        "value": number(estimate.value),
        "low": number(estimate.low),
        "high": number(estimate.high),
        "rows": estimate.rows,
        "by_chance": None if estimate.by_chance is None else number(estimate.by_chance),
        "binning": number(estimate.binning),
        "undefined": estimate.undefined or None,
    }


def _classes(tally: ClassTally) -> list[Document]:
    """Precision, recall and F1 of the classes with most rows."""
    ranked = sorted(tally.of_class.items(), key=lambda item: (-item[1].truth, item[0]))
    return [
        {
            "class": name,
            "rows": count.truth,
            "answered": count.said,
            "precision": _plain(share(count.both, count.said)),
            "recall": _plain(share(count.both, count.truth)),
            "f1": _plain(f1(count)),
        }
        for name, count in ranked[:CLASSES_SHOWN]
    ]


def _plain(estimate: Estimate) -> Document:
    return {
        "value": number(estimate.value),
        "low": number(estimate.low),
        "high": number(estimate.high),
    }
