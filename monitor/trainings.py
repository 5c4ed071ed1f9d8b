"""Which models are due for a training without a verdict: by the calendar, or by new labels.

Laws:
- nothing is learnt from data that a verdict speaks against: only a model that is
  healthy, warned of or annotated is due;
- the guards of every other training hold: cool-down, single flight, budget, holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.action_store import ActionRow, ActionStore
from monitor.core.guards import Action
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.documents import Document, state_document
from monitor.triggers.core.request import standing_evidence
from monitor.triggers.core.schedule import Schedule, Training

LOOK_NS = 5 * 10**9  # at a model's actions; a training is due for hours
SOUND = (Kind.HEALTHY, Kind.WARN, Kind.ANNOTATE)


@dataclass(frozen=True, slots=True)
class Due:
    """A training without a verdict, and why."""

    reason: str

    def evidence(self, state: ModelState, window_ns: int) -> Document:
        document = state_document(state, None, {})
        return standing_evidence(document, "schedule", self.reason, window_ns)


class Trainings:
    """Mutable; owned by the automation."""

    def __init__(self, schedule: Schedule, actions: ActionStore) -> None:
        self._schedule, self._actions = schedule, actions
        self._looked: dict[str, tuple[int, Due | None]] = {}

    def due(self, state: ModelState, now_ns: int) -> Due | None:
        if self._schedule == Schedule() or state.stable is None or state.standing not in SOUND:
            return None
        looked_ns, due = self._looked.get(state.model, (-LOOK_NS, None))
        if abs(now_ns - looked_ns) >= LOOK_NS:
            reason = self._schedule.reason(self._last(state), now_ns)
            due = Due(reason) if reason else None
            self._looked[state.model] = now_ns, due
        return due

    def begun(self, model: str) -> None:
        """A training was: look again before the next."""
        self._looked.pop(model, None)

    def _last(self, state: ModelState) -> Training:
        assert state.stable is not None
        past = self._actions.past(state.model)
        began_ns = [item.at_ns for item in past if item.action is Action.RETRAIN]
        before = labelled_before(self._actions.actions(state.model), state.stable.digest)
        return Training(
            max(state.stable.since_ns, *began_ns, 0), max(state.stable.labelled - before, 0)
        )


def labelled_before(rows: Sequence[ActionRow], digest: str) -> int:
    """Labelled rows of the version when the last training of it began. rows: newest first."""
    for row in rows:
        if row.action is Action.RETRAIN and row.data.get("digest") == digest:
            return int(row.data.get("labelled", 0))
    return 0
