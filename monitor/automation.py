"""From a standing verdict to an action, under the guards.

Laws:
- whether something may be done is decided in `core/guards.py`; how it is done stands in
  `doing.py`, and how an operator is asked first in `asking.py`;
- a gateway that cannot be reached delays actions and nothing else.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log

from monitor.action_store import (
    DRY_RUN,
    ONCE_MORE,
    PENDING,
    RUNNING,
    WAITING,
    ActionRow,
    ActionStore,
)
from monitor.admin import AdminError, AdminRefused
from monitor.asking import POLL_NS, Asking
from monitor.commands import Notes, command_of
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
    may_undo,
    must_freeze,
    split_is_off,
)
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.core.verification import Outcome
from monitor.documents import Document, retrain_evidence
from monitor.doing import DONE, Doing
from monitor.mandate import Gateway, Mandate, SoleMandate
from monitor.store import Store
from monitor.trainings import Due, Trainings
from monitor.triggers.core.schedule import Schedule
from monitor.triggers.hooks import HookEnded, RetrainHooks

FAILED, GIVEN_UP = "failed", "given up"
LIFTED = "lifted"  # a freeze that an operator ended
BACKOFF_NS = (500_000_000, 1_000_000_000, 5_000_000_000, 15_000_000_000)

logger = logging.getLogger(__name__)


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
        undo: bool,
        advance: bool,
        retrain_window_ns: int,
        clock: Callable[[], int],
        mandate: Mandate | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        self._store, self._actions = store, actions
        self._gateway, self._hooks, self._guards = gateway, hooks, guards
        self._rollback, self._undo, self._advance = rollback, undo, advance
        self._retrain_window_ns, self._clock = retrain_window_ns, clock
        self._trainings = Trainings(schedule or Schedule(), actions)
        self._retry_ns, self._failures = 0, 0
        self._polled_ns: dict[str, int] = {}  # of models
        self._verified: dict[str, str] = {}  # model -> rollout whose rollback is settled
        self._notes = Notes()
        may = mandate or SoleMandate()
        self._doing = Doing(store, actions, gateway, may, clock)
        self._asking = Asking(
            actions, self._doing, hooks, guards, may, self._notes, self._look_at, clock
        )
        self.withheld: dict[str, str] = {}  # model -> why its verdict is not acted on
        self._resume()

    def _resume(self) -> None:
        """After a start: commands are sent again, and requests for a training if they may be."""
        for row in self._actions.unfinished():
            if row.state != RUNNING:
                continue
            if not self._hooks.resume(row.key, row.data["evidence"], row.at_ns):
                self._doing.finish(row.key, GIVEN_UP, {"outcome": "the monitor ended meanwhile"})

    # -- one round -----------------------------------------------------------------

    def note(self, verdict: Document) -> None:
        """Put a raised verdict into the gateway's audit log, when it can be reached."""
        self._notes.add(verdict["model"], f"{verdict['id']}:note", verdict["reason"], verdict)

    def step(self, models: Mapping[str, ModelState]) -> None:
        """Do what is due now: finished hooks, commands under way, notes, new actions."""
        for ended in self._hooks.ended():
            self._hook_ended(ended)
        # A clock that was set back must not make us wait for ever.
        if 0 < self._retry_ns - self._clock() <= BACKOFF_NS[-1]:
            return
        try:
            self._asking.hear_answers()
            self._doing.send_unfinished()
            for model in sorted(models):
                self._decide(models[model])
            self._notes.send(self._doing.send_note)
        except AdminError as exc:
            self._back_off(exc)
        else:
            self._failures = 0

    @property
    def notes_dropped(self) -> int:
        """Notes that never reached the gateway: it was away for too long."""
        return self._notes.dropped

    def _back_off(self, error: AdminError) -> None:
        delay_ns = BACKOFF_NS[min(self._failures, len(BACKOFF_NS) - 1)]
        self._retry_ns = self._clock() + delay_ns
        self._failures += 1
        if self._failures == 1:
            logger.warning("%s; trying again", error)

    # -- deciding ------------------------------------------------------------------

    def _decide(self, state: ModelState) -> None:
        now_ns = self._clock()
        due = self._trainings.due(state, now_ns)
        acts = state.standing in (Kind.ROLLBACK, Kind.RETRAIN) or due is not None
        steps = self._advance and state.rollout is not None and state.standing is not Kind.BLIND
        regretted = self._regretted(state)
        acts = acts or regretted is not None
        if (acts or steps) and abs(now_ns - self._polled_ns.get(state.model, 0)) < POLL_NS:
            return  # what was found last is still shown
        self.withheld.pop(state.model, None)
        if not (acts or steps):
            return
        self._polled_ns[state.model] = now_ns
        try:
            self._decide_by(state, now_ns, due, regretted, steps=steps)
        except AdminError as exc:
            self.withheld[state.model] = str(exc)
            raise

    def _decide_by(
        self,
        state: ModelState,
        now_ns: int,
        due: Due | None,
        regretted: ActionRow | None,
        *,
        steps: bool,
    ) -> None:
        """Raises: AdminError when the gateway, or who else might act, cannot be asked."""
        deployment = self._look_at(state.model)
        if deployment is None:
            return
        if is_lagging(_end_ns(state), now_ns, self._guards):
            self.withheld[state.model] = "the log is ahead of the statistics"
        elif regretted is not None:
            self._take_back(state, deployment, regretted)
        elif state.standing is Kind.ROLLBACK:
            self._roll_back(state, deployment)
        elif state.standing is Kind.RETRAIN or (due is not None and not steps):
            self._retrain(state, deployment, due)
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
                self._doing.finish(row.key, LIFTED, {"lifted_ns": self._clock()})

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
        key = _rollback_key(state.model, rollout.id)
        command = command_of(state.model, key, "ROLLBACK", verdict, rollout=rollout.id)
        data: Document = {"command": command}
        if Action.ROLLBACK in self._guards.approve:
            return self._asking.ask(self._row(key, state, Action.ROLLBACK, WAITING, data))
        return self._doing.begin(self._row(key, state, Action.ROLLBACK, PENDING, data))

    def _regretted(self, state: ModelState) -> ActionRow | None:
        """A rollback of ours that made it worse and stands; whatever came of one is noted."""
        found = state.verification
        if found is None or found.is_open or self._verified.get(state.model) == found.rollout:
            return None
        row = self._actions.action(_rollback_key(state.model, found.rollout))
        if row is None or row.state not in (DONE, PENDING):  # an operator's, or none at all
            self._verified[state.model] = found.rollout
            return None
        if row.state == PENDING:
            return None
        if "verified" not in row.data:
            sentence = f"the rollback is {found.outcome.value}: {found.in_words()}"
            said = {"verified": found.outcome.value, "verification": found.in_words()}
            self._doing.finish(row.key, DONE, said)
            self._notes.add(row.model, f"{row.key}:verified:note", sentence, said)
        undo = self._actions.action(_undo_key(row))
        taken_back = undo is not None and undo.state not in ONCE_MORE
        if found.outcome is not Outcome.WORSE or taken_back or _end_ns(state) >= found.until_ns:
            self._verified[state.model] = found.rollout
            return None
        return row

    def _take_back(self, state: ModelState, deployment: Deployment, row: ActionRow) -> None:
        assert state.verification is not None
        refusal = may_undo(deployment, row.at_ns, self._clock())
        if refusal is None and not self._undo:
            refusal = "undoing a rollback is switched off"
        if refusal is None and state.has_moved():
            refusal = "the data has moved since the rollback, so that may be why the loss is up"
        if refusal is not None:
            return self._withhold(state, f"the rollback made it worse, and stays: {refusal}")
        command = command_of(
            state.model,
            _undo_key(row),
            "UNDO",
            None,
            rollout=row.data["command"]["rollout"],
            reason=f"the rollback made it worse: {state.verification.in_words()}",
            expected_generation=deployment.generation,
        )
        undo = replace(
            self._row(command["id"], state, Action.UNDO, PENDING, {"command": command}), verdict=""
        )
        if Action.UNDO in self._guards.approve:
            return self._asking.ask(replace(undo, state=WAITING))
        return self._doing.begin(undo)

    def _retrain(self, state: ModelState, deployment: Deployment, due: Due | None) -> None:
        """due: where no verdict asks for it."""
        refusal = self._refusal(Action.RETRAIN, state, deployment)
        if refusal is not None:
            return self._withhold(state, refusal)
        assert state.stable is not None
        attempts = sum(
            row.action is Action.RETRAIN and row.data.get("digest") == state.stable.digest
            for row in self._actions.actions(state.model)
        )
        key = f"monitor:{state.model}:retrain:{state.stable.digest[:16]}:{attempts}"
        evidence, stable = self._training_evidence(state, due), state.stable
        data = {"digest": stable.digest, "labelled": stable.labelled, "evidence": evidence}
        status = RUNNING if self._hooks.configured else DRY_RUN
        row = self._row(key, state, Action.RETRAIN, status, data)
        if due is not None:
            row = replace(row, verdict="")
        self._trainings.begun(state.model)
        if self._hooks.configured and Action.RETRAIN in self._guards.approve:
            return self._asking.ask(replace(row, state=WAITING))
        if not self._doing.store_first(row):
            return None
        if not self._hooks.configured:
            self._doing.finish(key, DRY_RUN, {"outcome": "no retrain hook is configured"})
            reason = "would retrain, but no retrain hook is configured (dry run)"
            return self._notes.add(state.model, f"{key}:note", reason, evidence)
        return self._hooks.start(key, evidence)

    def _training_evidence(self, state: ModelState, due: Due | None) -> Document:
        if due is not None:
            return due.evidence(state, self._retrain_window_ns)
        return retrain_evidence(self._verdict(state), self._retrain_window_ns)

    def _refusal(self, action: Action, state: ModelState, deployment: Deployment) -> str | None:
        """Why not; stops automation when it has done too much."""
        past, now_ns = self._actions.past(state.model), self._clock()
        unfrozen_ns = self._unfrozen_ns(state.model)
        refusal = may_act(action, past, deployment, now_ns, self._guards)
        stop = must_freeze(past, deployment, unfrozen_ns, now_ns, self._guards)
        if refusal is None and stop is not None:
            key = f"monitor:{state.model}:freeze:{deployment.generation}"
            command = command_of(state.model, key, "FREEZE", None, reason=stop)
            self._doing.begin(self._row(key, state, Action.FREEZE, PENDING, {"command": command}))
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
        command = command_of(
            state.model,
            f"{key}:{deployment.generation}",
            "ADVANCE",
            None,
            rollout=facts.rollout,
            reason=reason,
            expected_generation=deployment.generation,
        )
        row = self._row(command["id"], state, Action.ADVANCE, PENDING, {"command": command})
        self._doing.begin(replace(row, verdict=""))

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

    # -- what all actions have -------------------------------------------------------

    def _row(
        self, key: str, state: ModelState, action: Action, status: str, data: Document
    ) -> ActionRow:
        return ActionRow(key, state.model, action, self._clock(), status, state.standing_id, data)

    def _hook_ended(self, ended: HookEnded) -> None:
        outcome: Document = dict(ended.outcome)
        if ended.good:
            outcome["applied_ns"] = ended.ended_ns
        self._doing.finish(ended.key, DONE if ended.good else FAILED, outcome)
        self._notes.add(ended.model, f"{ended.key}:note", ended.sentence, outcome)

    def _verdict(self, state: ModelState) -> Document:
        return self._store.verdict(state.standing_id)


def _rollback_key(model: str, rollout: str) -> str:
    return f"monitor:{model}:rollback:{rollout}"


def _undo_key(rollback: ActionRow) -> str:
    return rollback.key.replace(":rollback:", ":undo:")


def _end_ns(state: ModelState) -> int:
    return ((state.last_index or 0) + 1) * state.settings.block_ns
