"""What the main loop shows to the HTTP threads: one immutable snapshot, replaced whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from monitor.core.effects import Effect
from monitor.documents import feature_document

Document = dict[str, Any]


def _none() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """models: state documents; effects: per model, for the features' histograms."""

    ready: bool = False
    at_ns: int = 0
    overall: Mapping[str, Any] = field(default_factory=_none)
    models: Mapping[str, Document] = field(default_factory=_none)
    effects: Mapping[str, list[Effect]] = field(default_factory=_none)

    def feature(self, model: str, name: str) -> Document | None:
        """A feature's (or prediction's) histograms; None when there is no such feature."""
        for effect in self.effects.get(model, ()):
            if effect.feature.name == name:
                return feature_document(effect)
        return None


@dataclass(slots=True)
class Published:
    """The one place where main loop and HTTP threads meet; assignment is atomic."""

    snapshot: Snapshot = field(default_factory=Snapshot)
