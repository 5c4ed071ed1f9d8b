"""Actions that an operator has to allow: the question, the answer, and what follows."""

import logging
from collections.abc import Callable
from dataclasses import replace

from monitor.action_store import DENIED, EXPIRED, PENDING, RUNNING, WAITING, ActionRow, ActionStore
from monitor.commands import Notes
from monitor.core.deployment import Deployment
from monitor.core.guards import Action, Answer, Guards, approval
from monitor.doing import Doing
from monitor.mandate import Mandate
from monitor.triggers.hooks import RetrainHooks

POLL_NS = 250_000_000  # of a deployment, while there is something to decide

logger = logging.getLogger(__name__)


class Asking:
    """Of one monitor; owned by its main loop."""

    def __init__(
        self,
        actions: ActionStore,
        doing: Doing,
        hooks: RetrainHooks,
        guards: Guards,
        mandate: Mandate,
        notes: Notes,
        look: Callable[[str], Deployment | None],
        clock: Callable[[], int],
    ) -> None:
        """look: at a model's deployment; None where the gateway knows of none."""
        self._actions, self._doing, self._hooks, self._guards = actions, doing, hooks, guards
        self._mandate, self._notes, self._look, self._clock = mandate, notes, look, clock
        self._polled_ns: dict[str, int] = {}  # of actions that were approved

    def ask(self, row: ActionRow) -> None:
        """Let an operator decide; meanwhile nothing of this kind is begun."""
        until_ns = row.at_ns + self._guards.approve_ns
        if not self._doing.store_first(replace(row, data={**row.data, "waits_until_ns": until_ns})):
            return
        self._doing.finish(row.key, WAITING, {})  # into the verdict
        self._tell(row, WAITING, f"a {row.action.value} waits for approval: {row.key}")
        logger.warning(
            "%s: a %s waits for `driftgate monitor approve %s`",
            *(row.model, row.action.value, row.key),
        )

    def hear_answers(self) -> None:
        """Raises: AdminError when the gateway cannot be asked; an answer is then heard later."""
        for row in self._actions.waiting():
            answered_ns = int(row.data.get("answered_ns", self._clock()))
            answer = str(row.data.get("answer", ""))
            said = approval(answer, answered_ns - row.at_ns, self._guards)
            if said is Answer.APPROVE:
                self._approved(row)
            elif said is Answer.DENY:
                self._doing.finish(row.key, DENIED, {"outcome": f"denied by {_by(row)}"})
                self._tell(row, DENIED, f"the {row.action.value} was denied by {_by(row)}")
            elif said is not None:
                self._doing.finish(row.key, EXPIRED, {"outcome": said})
                self._tell(row, EXPIRED, f"the {row.action.value} has expired: {said}")

    def _approved(self, row: ActionRow) -> None:
        """Begin it, unless an operator has taken the wheel since; then it goes on waiting."""
        now_ns = self._clock()
        if abs(now_ns - self._polled_ns.get(row.key, 0)) < POLL_NS:
            return None
        self._polled_ns[row.key] = now_ns
        deployment = self._look(row.model)
        if deployment is None:
            return self._doing.refused(row, "the gateway does not know the model")
        if deployment.frozen or deployment.hold_until_ns > now_ns:
            return None
        self._mandate.confirm()
        begun = RUNNING if row.action is Action.RETRAIN else PENDING
        self._doing.finish(row.key, begun, {})
        self._tell(row, begun, f"the {row.action.value} was approved by {_by(row)}")
        if begun == RUNNING:
            self._hooks.start(row.key, row.data["evidence"])
        return None

    def _tell(self, row: ActionRow, what: str, sentence: str) -> None:
        """Into the audit log; `what` was said of the action is said once."""
        said = {name: row.data[name] for name in ("answered_by", "why") if name in row.data}
        self._notes.add(row.model, f"{row.key}:{row.at_ns}:{what}:note", sentence, said)


def _by(row: ActionRow) -> str:
    why = str(row.data.get("why", ""))
    return str(row.data.get("answered_by", "")) + (f" ({why})" if why else "")
