"""Doing what a verdict asks for, under the guards, at least once and by one key.

Laws:
- an action is stored before it is done; after a crash it is done again under
  the same key, and the gateway applies it once;
- whether something may be done is decided in `core/guards.py`; here it is done;
- a gateway that cannot be reached delays actions and nothing else.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from math import log
from typing import Any, Protocol

from monitor.action_store import DRY_RUN, PENDING, REFUSED, RUNNING, ActionRow, ActionStore
from monitor.admin import AdminError, AdminRefused
from monitor.core.deployment import Deployment
from monitor.core.events import Group
from monitor.core.evidence import NOTHING
from monitor.core.guards import (
    Action,
    Guards,
    StepFacts,
    is_lagging,
    may_act,
    may_advance,
    must_freeze,
    split_is_off,
)
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.documents import Document, retrain_evidence
from monitor.retrain import HookEnded, RetrainHooks
from monitor.store import Store

DONE, FAILED, GIVEN_UP = "done", "failed", "given up"
LIFTED = "lifted"  # a freeze that an operator ended
BACKOFF_NS = (500_000_000, 1_000_000_000, 5_000_000_000, 15_000_000_000)
POLL_NS = 250_000_000  # of a deployment, while there is something to decide
NOTES_MAX = 1000  # waiting; beyond, the oldest is dropped and counted

logger = logging.getLogger(__name__)


class Gateway(Protocol):
    """The admin API, as far as it is needed here."""

    def deployment(self, model: str) -> Deployment: ...
    def apply(self, command: Mapping[str, Any], wait_ms: int = 2000) -> dict[str, Any]: ...


class Mandate(Protocol):
    """The right to act on models, where several monitors might have it."""

    @property
    def fence(self) -> int:
        """Commands carry it: the gateway refuses those of an older mandate; 0: they do not."""

    def confirm(self) -> None:
        """Raises: AdminError unless nobody else has the right now."""

    def record(self, row: ActionRow) -> None:
        """Keep it where the next one who has the right finds it.

        Raises: AdminError when that cannot be done now; it is then done later.
        """


class SoleMandate:
    """There is one monitor, and what it does is kept in its own file."""

    fence = 0

    def confirm(self) -> None:
        pass

    def record(self, row: ActionRow) -> None:
        pass


class Automation:
    """Mutable; owned by the monitor's main loop."""

    def __init__(
        self,
        store: Store,
        actions: ActionStore,
        gateway: Gateway,
        hooks: RetrainHooks,
        guards: Guards,
        *,
        rollback: bool,
        advance: bool,
        retrain_window_ns: int,
        clock: Callable[[], int],
        mandate: Mandate | None = None,
    ) -> None:
        self._mandate: Mandate = mandate or SoleMandate()
        self._store, self._actions = store, actions
        self._gateway, self._hooks, self._guards = gateway, hooks, guards
        self._rollback, self._advance = rollback, advance
        self._retrain_window_ns, self._clock = retrain_window_ns, clock
        self._retry_ns, self._failures = 0, 0
        self._polled_ns: dict[str, int] = {}
        self._notes: list[Document] = []
        self.notes_dropped = 0
        self.withheld: dict[str, str] = {}  # model -> why its verdict is not acted on
        self._resume()

    def _resume(self) -> None:
        """After a start: hooks that were running are lost, commands are sent again."""
        for row in self._actions.unfinished():
            if row.state == RUNNING:
                self._finish(row.key, GIVEN_UP, {"outcome": "the monitor ended meanwhile"})

    # -- one round -----------------------------------------------------------------

    def note(self, verdict: Document) -> None:
        """Put a raised verdict into the gateway's audit log, when it can be reached."""
        slim = {key: value for key, value in verdict.items() if key != "shifts"}
        self._add_note(verdict["model"], f"{verdict['id']}:note", verdict["reason"], slim)

    def step(self, models: Mapping[str, ModelState]) -> None:
        """Do what is due now: finished hooks, commands under way, notes, new actions."""
        for ended in self._hooks.ended():
            self._hook_ended(ended)
        # A clock that was set back must not make us wait for ever.
        if 0 < self._retry_ns - self._clock() <= BACKOFF_NS[-1]:
            return
        try:
            self._send_unfinished()
            for model in sorted(models):
                self._decide(models[model])
            self._send_notes()
        except AdminError as exc:
            self._back_off(exc)
        else:
            self._failures = 0

    def _back_off(self, error: AdminError) -> None:
        delay_ns = BACKOFF_NS[min(self._failures, len(BACKOFF_NS) - 1)]
        self._retry_ns = self._clock() + delay_ns
        self._failures += 1
        if self._failures == 1:
            logger.warning("%s; trying again", error)

    # -- deciding ------------------------------------------------------------------

    def _decide(self, state: ModelState) -> None:
        acts = state.standing in (Kind.ROLLBACK, Kind.RETRAIN)
        steps = self._advance and state.rollout is not None and state.standing is not Kind.BLIND
        now_ns = self._clock()
        if (acts or steps) and abs(now_ns - self._polled_ns.get(state.model, 0)) < POLL_NS:
            return  # what was found last is still shown
        self.withheld.pop(state.model, None)
        if not (acts or steps):
            return
        self._polled_ns[state.model] = now_ns
        try:
            self._decide_by(state, now_ns, steps=steps)
        except AdminError as exc:
            self.withheld[state.model] = str(exc)
            raise

    def _decide_by(self, state: ModelState, now_ns: int, *, steps: bool) -> None:
        """Raises: AdminError when the gateway, or who else might act, cannot be asked."""
        deployment = self._look_at(state.model)
        if deployment is None:
            return
        if is_lagging(_end_ns(state), now_ns, self._guards):
            self.withheld[state.model] = "the log is ahead of the statistics"
        elif state.standing is Kind.ROLLBACK:
            self._roll_back(state, deployment)
        elif state.standing is Kind.RETRAIN:
            self._retrain(state, deployment)
        if steps and state.standing is not Kind.ROLLBACK and not self.withheld.get(state.model):
            self._take_step(state, deployment)

    def _look_at(self, model: str) -> Deployment | None:
        try:
            deployment = self._gateway.deployment(model)
        except AdminRefused:
            return None  # the gateway does not know the model (any more)
        if not deployment.frozen:
            self._note_unfrozen(model)
        return deployment

    def _note_unfrozen(self, model: str) -> None:
        """An operator lifted our freeze: what happened before it is forgiven."""
        for row in self._actions.actions(model):
            if row.action is Action.FREEZE and row.state == DONE:
                self._finish(row.key, LIFTED, {"lifted_ns": self._clock()})

    def _unfrozen_ns(self, model: str) -> int:
        rows = [row for row in self._actions.actions(model) if row.action is Action.FREEZE]
        return max((int(row.data.get("lifted_ns", 0)) for row in rows), default=0)

    def _withhold(self, state: ModelState, reason: str) -> None:
        self.withheld[state.model] = reason

    def _roll_back(self, state: ModelState, deployment: Deployment) -> None:
        rollout = state.rollout
        if rollout is None or deployment.rollout != rollout.id:
            return None
        refusal = self._refusal(Action.ROLLBACK, state, deployment)
        if refusal is None and not self._rollback:
            refusal = "rolling back is switched off"
        facts = self._facts(state, deployment)
        if (
            refusal is None
            and facts
            and split_is_off(facts.candidate, facts.stable, deployment.weight)
        ):
            refusal = "inconclusive: the split of traffic is not what was set"
        if refusal is not None:
            return self._withhold(state, refusal)
        verdict = self._verdict(state)
        key = f"monitor:{state.model}:rollback:{rollout.id}"
        command = self._command(state.model, key, "ROLLBACK", verdict, rollout=rollout.id)
        return self._begin(key, state, Action.ROLLBACK, {"command": command})

    def _retrain(self, state: ModelState, deployment: Deployment) -> None:
        refusal = self._refusal(Action.RETRAIN, state, deployment)
        if refusal is not None:
            return self._withhold(state, refusal)
        assert state.stable is not None
        attempts = sum(
            row.action is Action.RETRAIN and row.data.get("digest") == state.stable.digest
            for row in self._actions.actions(state.model)
        )
        key = f"monitor:{state.model}:retrain:{state.stable.digest[:16]}:{attempts}"
        evidence = retrain_evidence(self._verdict(state), self._retrain_window_ns)
        data = {"digest": state.stable.digest, "evidence": evidence}
        if not self._hooks.configured:
            if not self._store_first(self._row(key, state, Action.RETRAIN, DRY_RUN, data)):
                return None
            self._finish(key, DRY_RUN, {"outcome": "no retrain hook is configured"})
            reason = "would retrain, but no retrain hook is configured (dry run)"
            return self._add_note(state.model, f"{key}:note", reason, evidence)
        if self._store_first(self._row(key, state, Action.RETRAIN, RUNNING, data)):
            self._hooks.start(key, evidence)
        return None

    def _refusal(self, action: Action, state: ModelState, deployment: Deployment) -> str | None:
        """Why not; stops automation when it has done too much."""
        past, now_ns = self._actions.past(state.model), self._clock()
        unfrozen_ns = self._unfrozen_ns(state.model)
        refusal = may_act(action, past, deployment, now_ns, self._guards)
        stop = must_freeze(past, deployment, unfrozen_ns, now_ns, self._guards)
        if refusal is None and stop is not None:
            key = f"monitor:{state.model}:freeze:{deployment.generation}"
            command = self._command(state.model, key, "FREEZE", None, reason=stop)
            self._begin(key, state, Action.FREEZE, {"command": command})
            return stop
        return refusal

    def _take_step(self, state: ModelState, deployment: Deployment) -> None:
        facts = self._facts(state, deployment)
        if facts is None or may_advance(facts, deployment, self._clock(), self._guards):
            return
        key = f"monitor:{state.model}:advance:{facts.rollout}:{deployment.step}"
        reason = (
            f"healthy on this step: {facts.candidate.rows} rows of the candidate, "
            f"{facts.candidate_labelled} labelled since the rollout began"
        )
        command = self._command(
            state.model,
            f"{key}:{deployment.generation}",
            "ADVANCE",
            None,
            rollout=facts.rollout,
            reason=reason,
            expected_generation=deployment.generation,
        )
        self._begin(command["id"], state, Action.ADVANCE, {"command": command})

    def _facts(self, state: ModelState, deployment: Deployment) -> StepFacts | None:
        rollout = state.rollout
        if rollout is None:
            return None
        # Whole blocks since the change; the one it fell into saw two weights.
        since_ns = deployment.changed_ns
        stable, candidate = self._store.rows_since(state.model, since_ns)
        groups = state.groups()
        against = max(groups.get(g, NOTHING) for g in (Group.CANDIDATE, Group.COMPARISON))
        return StepFacts(
            rollout=rollout.id,
            candidate_digest=rollout.digest,
            first_ns=rollout.first_ns,
            end_ns=_end_ns(state),
            candidate=candidate,
            stable=stable,
            candidate_labelled=rollout.candidate.labelled,
            receives_labels=state.receives_labels,
            inputs_differ=state.inputs_differ(),
            log_blocks_against=against - log(state.settings.block_s),
            log_e_value=rollout.log_e_value(),
        )

    # -- doing ---------------------------------------------------------------------

    def _row(
        self, key: str, state: ModelState, action: Action, status: str, data: Document
    ) -> ActionRow:
        return ActionRow(key, state.model, action, self._clock(), status, state.standing_id, data)

    def _begin(self, key: str, state: ModelState, action: Action, data: Document) -> None:
        row = self._row(key, state, action, PENDING, data)
        if action is Action.ADVANCE:
            row = ActionRow(key, state.model, action, row.at_ns, PENDING, "", data)
        if self._store_first(row):
            self._send(row)

    def _store_first(self, row: ActionRow) -> bool:
        """Whether it may be done now: it is stored here, and where a successor would look.

        Raises: AdminError; nothing is stored then, or it is found unfinished.
        """
        if not self._actions.may_begin(row):
            return False
        self._mandate.confirm()
        self._mandate.record(row)
        return self._actions.begin(row)

    def _send_unfinished(self) -> None:
        for row in self._actions.unfinished():
            if row.state == PENDING:
                self._send(row)

    def _send(self, row: ActionRow) -> None:
        """Raises: AdminError when the gateway cannot be asked; the row stays pending."""
        try:
            self._mandate.confirm()
            result = self._gateway.apply(self._fenced(row.data["command"]))
        except AdminRefused as exc:
            self._refused(row, str(exc))
            return
        outcome = {
            "accepted_ns": int(result.get("accepted_ns", 0)),
            "applied_ns": int(result.get("applied_ns", 0)) or self._clock(),
            "undo": str(result.get("undo", "")),
        }
        self._finish(row.key, DONE, outcome)
        logger.info("%s: %s done", row.model, row.action.value)

    def _fenced(self, command: Document) -> Document:
        """A command under this mandate, whoever began it."""
        fence = self._mandate.fence
        return {**command, "fence": str(fence)} if fence else command

    def _finish(self, key: str, state: str, data: Document) -> None:
        """The verdict first: killed in between, an unfinished action is done again."""
        verdict = self._actions.verdict_of(key)
        if verdict:
            self._store.extend_verdict(verdict, {"action_state": state, **data})
        self._actions.finish(key, state, data)
        row = self._actions.action(key)
        if row is not None:
            with contextlib.suppress(AdminError):
                self._mandate.record(row)

    def _refused(self, row: ActionRow, reason: str) -> None:
        """Nothing has happened; if it is still wanted, it is decided afresh.

        Insisting would be wrong: a hold may have begun since we looked, or the
        rollout may be over.
        """
        self._finish(row.key, REFUSED, {"outcome": reason})
        logger.warning("%s: %s refused: %s", row.model, row.action.value, reason)

    def _hook_ended(self, ended: HookEnded) -> None:
        good = ended.exit_code == 0
        outcome: Document = {"exit_code": ended.exit_code, "output": ended.output}
        if good:
            outcome["applied_ns"] = ended.ended_ns
        self._finish(ended.key, DONE if good else FAILED, outcome)
        how = "ended well" if good else f"failed (exit code {ended.exit_code})"
        self._add_note(ended.model, f"{ended.key}:note", f"the retrain hook {how}", outcome)

    def _add_note(self, model: str, key: str, reason: str, evidence: Document) -> None:
        self._notes.append(self._command(model, key, "NOTE", evidence, reason=reason))
        if len(self._notes) > NOTES_MAX:
            self._notes.pop(0)
            self.notes_dropped += 1

    def _send_notes(self) -> None:
        while self._notes:
            try:
                self._gateway.apply(self._fenced(self._notes[0]), wait_ms=0)
            except AdminRefused as exc:
                logger.warning("a note was refused: %s", exc)
            self._notes.pop(0)

    def _command(
        self,
        model: str,
        key: str,
        verb: str,
        evidence: Document | None,
        *,
        reason: str = "",
        rollout: str = "",
        expected_generation: int | None = None,
    ) -> Document:
        evidence = {k: v for k, v in (evidence or {}).items() if k != "shifts"}
        command: Document = {
            "id": key,
            "actor": "monitor",
            "origin": "monitor",
            "model": model,
            "verb": verb,
            "reason": reason or str(evidence.get("reason", "")),
            "evidence_json": json.dumps(evidence),
        }
        if rollout:
            command["rollout"] = rollout
        if expected_generation is not None:
            command["expected_generation"] = str(expected_generation)
        return command

    def _verdict(self, state: ModelState) -> Document:
        return self._store.verdict(state.standing_id)


def _end_ns(state: ModelState) -> int:
    return ((state.last_index or 0) + 1) * state.settings.block_ns
