"""What a report is made of, wherever it comes from: a running monitor, or files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.core.effects import Effect
from monitor.report.timeline import Timeline
from monitor.report.words import UTC, Clock

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """state: as `state_document`; effects: as `effects`, most evidence first.

    verdicts, actions: of the window, oldest first, as the history has them.
    window_s:          what was asked for; None: everything there is.
    source:            where the rows come from, in a few words.
    multivariate:      of each space of features, as `space_document`.
    performance:       of each version, as `performance_document`; fairness: likewise.
    segments:          that moved most, as `segments_document`; None: they are not known.
    outliers:          rows unlike the reference's, as `outliers_document`; None: not known.
    """

    state: Document
    effects: Sequence[Effect]
    timeline: Timeline
    verdicts: Sequence[Document] = ()
    actions: Sequence[Document] = ()
    window_s: float | None = None
    clock: Clock = UTC
    source: str = ""
    performance: Sequence[Document] = ()
    multivariate: Sequence[Document] = ()
    fairness: Sequence[Document] = ()
    segments: Document | None = None
    outliers: Document | None = None

    @property
    def model(self) -> str:
        return str(self.state["model"])
