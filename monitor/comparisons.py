"""Features compared together, in JSON, and what was computed of them last.

Law: it is dear beside everything else that the monitor computes (some tenths of a second of
one core for a space), so it is made for who asks, and besides now and then by a thread
that rests RESTS times as long as it works.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitor.core.multivariate.compare import Finding, compare
from monitor.core.multivariate.standing import SpaceStanding
from monitor.documents import number

RESTS = 24  # so it takes at most 4 % of one core
LOOK_S = 1.0  # between looks for something to do
MODELS_MAX = 1024  # whose numbers are remembered

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Computed:
    keys: bytes
    window: int
    document: Document


@dataclass(slots=True)
class Comparisons:
    """Of all models; used by many threads. Mutable."""

    _computed: dict[tuple[str, str], _Computed] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, model: str, spaces: Sequence[SpaceStanding]) -> list[Document]:
        """Every space of a model, computed unless it was for these very rows."""
        return [self._of(model, space) for space in spaces]

    def known(self, model: str, spaces: Sequence[SpaceStanding]) -> list[Document]:
        """What was computed last of the spaces that are compared now."""
        found = [self._computed.get((model, item.space.name)) for item in spaces if not item.off]
        return [item.document for item in found if item is not None]

    def refresh(self, models: Mapping[str, Sequence[SpaceStanding]]) -> bool:
        """Compute a space that has not been since its window began; False: there is none."""
        for model, spaces in models.items():
            for space in spaces:
                last = self._computed.get((model, space.space.name))
                if not space.off and (last is None or last.window != space.window):
                    self._of(model, space)
                    return True
        return False

    def _of(self, model: str, space: SpaceStanding) -> Document:
        if space.off:
            return space_document(space, ())
        name, keys = (model, space.space.name), space.live.keys.tobytes()
        with self._lock:  # one at a time, so that askers never take more than one core
            last = self._computed.get(name)
            if last is None or last.keys != keys:
                document = space_document(space, compare(space.reference, space.live.values))
                last = _Computed(keys, space.window, document)
                self._computed.pop(name, None)
                self._computed[name] = last
                while len(self._computed) > MODELS_MAX:
                    del self._computed[next(iter(self._computed))]
            return last.document


def space_document(space: SpaceStanding, findings: Sequence[Finding]) -> Document:
    """One space; `off`: why nothing is compared, else None.

    reference_rows: that live ones are compared with; as many made the scale.
    """
    return {
        "space": space.space.name,
        "features": len(space.space.members),
        "reference_rows": len(space.reference) // 2,
        "live_rows": len(space.live),
        "off": space.off or None,
        "statistics": [_statistic(item) for item in findings],
    }


def _statistic(item: Finding) -> Document:
    statistic = item.statistic
    return {
        "name": statistic.name,
        "title": statistic.title,
        "unit": statistic.unit,
        "effect": number(item.effect),
        "null_mean": number(item.null_mean),
        "p_value": number(item.p_value),
    }


def refresh_for_ever(
    comparisons: Comparisons,
    models: Callable[[], Mapping[str, Sequence[SpaceStanding]]],
    stop: threading.Event,
) -> None:
    """models: gives each model's spaces as they are now. Ends soon after `stop` is set."""
    while not stop.is_set():
        began = time.monotonic()
        comparisons.refresh(models())
        stop.wait(max(LOOK_S, RESTS * (time.monotonic() - began)))
