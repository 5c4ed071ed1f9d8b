"""What the main loop shows to other threads: one immutable snapshot, replaced whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from monitor.comparisons import Comparisons
from monitor.core.effects import Effect
from monitor.core.multivariate.standing import SpaceStanding
from monitor.documents import feature_document
from monitor.drift_documents import model_drift_document, one_drift_document
from monitor.segment_documents import LiveSegments

Document = dict[str, Any]


def _none() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shown:
    """What one task shows.

    databases:   where the history of each model is.
    spaces:      of each model, as `Stable.spaces`.
    performance: of each model, as `performance_document`; fairness: as `fairness_document`.
    segments:    of each model, for `segments_document`; outliers: as `outliers_document`.
    """

    overall: Document
    models: Mapping[str, Document]
    effects: Mapping[str, list[Effect]]
    databases: Mapping[str, Path]
    performance: Mapping[str, list[Document]] = field(default_factory=_none)
    spaces: Mapping[str, list[SpaceStanding]] = field(default_factory=_none)
    fairness: Mapping[str, list[Document]] = field(default_factory=_none)
    segments: Mapping[str, LiveSegments | None] = field(default_factory=_none)
    outliers: Mapping[str, Document] = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """models: state documents; effects: per model, for the features' histograms."""

    ready: bool = False
    overall: Mapping[str, Any] = field(default_factory=_none)
    models: Mapping[str, Document] = field(default_factory=_none)
    effects: Mapping[str, list[Effect]] = field(default_factory=_none)
    databases: Mapping[str, Path] = field(default_factory=_none)
    performance: Mapping[str, list[Document]] = field(default_factory=_none)
    spaces: Mapping[str, list[SpaceStanding]] = field(default_factory=_none)
    fairness: Mapping[str, list[Document]] = field(default_factory=_none)
    segments: Mapping[str, LiveSegments | None] = field(default_factory=_none)
    outliers: Mapping[str, Document] = field(default_factory=_none)

    @classmethod
    def of(
        cls, shown: Sequence[Shown], *, ready: bool, more: Mapping[str, Any] = MappingProxyType({})
    ) -> "Snapshot":
        """All tasks in one; more: goes with what is said of the monitor as a whole."""
        return cls(
            ready,
            {**_sum([item.overall for item in shown]), **more},
            {name: document for item in shown for name, document in item.models.items()},
            {name: found for item in shown for name, found in item.effects.items()},
            {name: path for item in shown for name, path in item.databases.items()},
            {name: found for item in shown for name, found in item.performance.items()},
            {name: found for item in shown for name, found in item.spaces.items()},
            {name: found for item in shown for name, found in item.fairness.items()},
            {name: found for item in shown for name, found in item.segments.items()},
            {name: found for item in shown for name, found in item.outliers.items()},
        )

    def feature(self, model: str, name: str) -> Document | None:
        """A feature's (or prediction's) histograms; None when there is no such feature."""
        for effect in self.effects.get(model, ()):
            if effect.feature.name == name:
                return feature_document(effect)
        return None

    def drift(self, model: str, name: str | None = None) -> Document | None:
        """All statistics of a model's features, or all about one; None: no such one."""
        ranked = self.effects.get(model)
        if ranked is None:
            return None
        if name is None:
            repeated = self.models.get(model, {}).get("repeated_rows")
            return {**model_drift_document(model, ranked), "repeated_rows": repeated}
        found = [effect for effect in ranked if effect.feature.name == name]
        return one_drift_document(model, found[0]) if found else None


# Of several tasks the one that is furthest behind is shown; of the rest, the sum.
_WORST = {"watermark_ns": min, "frontier_ns": min, "lag_s": max, "at_ns": max}


def _sum(documents: Sequence[Document]) -> Document:
    if len(documents) <= 1:
        return documents[0] if documents else {}
    slowest = min(documents, key=lambda item: item["watermark_ns"] or 0)
    merged: Document = dict(slowest)
    for name, value in slowest.items():
        values = [document[name] for document in documents]
        if name in _WORST:
            known = [item for item in values if item is not None]
            merged[name] = _WORST[name](known) if known else None
        elif name == "log_unreadable":
            merged[name] = next(filter(None, values), "")
        elif isinstance(value, int):
            merged[name] = sum(values)
        elif isinstance(value, list):
            merged[name] = [item for part in values for item in part]
    return merged


@dataclass(slots=True)
class Published:
    """The one place where main loop and HTTP threads meet; assignment is atomic.

    comparisons: what other threads made of the snapshots.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    comparisons: Comparisons = field(default_factory=Comparisons)
