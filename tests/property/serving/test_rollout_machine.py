"""Any sequence of commands, from every origin, keeps the laws of the fold."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from serving.core.rollout import fold
from serving.core.rollout_codec import (
    command_from_proto,
    command_to_proto,
    deployment_from_json,
    deployment_to_json,
)
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Origin,
    Refused,
    Repeated,
    Verb,
    Version,
    problems,
)

MODELS = ("a", "b")
VERSIONS = tuple(Version(str(n), f"{n:064x}") for n in range(1, 5))
STEPS = st.sampled_from([(), (5, 25, 100), (100,), (1, 2, 3, 50, 100), (10, 5, 100), (50,)])


class Deployments(RuleBasedStateMachine):
    commands = Bundle("commands")

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[str, Deployment] = {}
        self.accepted: list[Command] = []
        self.now_ns = 10**18
        self.tampered_ids = 0

    @rule(
        target=commands,
        verb=st.sampled_from(Verb),
        origin=st.sampled_from(Origin),
        model=st.sampled_from(MODELS),
        version=st.none() | st.sampled_from(VERSIONS),
        steps=STEPS,
        weight=st.integers(0, 130),
        hold_s=st.integers(-10, 7200),
        force=st.booleans(),
        about=st.sampled_from(["current", "", "old"]),
        later_s=st.integers(0, 3000),
        expected=st.sampled_from(["none", "current", "off by one"]),
    )
    def tell(self, **drawn: Any) -> Command:
        return self.tell_drawn(drawn)

    def tell_drawn(self, drawn: dict[str, Any]) -> Command:
        self.now_ns += drawn["later_s"] * 10**9
        current = self.state.get(drawn["model"], Deployment(drawn["model"]))
        generation = {"none": None, "current": 0, "off by one": 1}[drawn["expected"]]
        command = Command(
            id=f"c{self.now_ns}-{len(self.accepted)}-{self.tampered_ids}",
            ts_ns=self.now_ns,
            actor="someone",
            origin=drawn["origin"],
            model=drawn["model"],
            verb=drawn["verb"],
            version=drawn["version"],
            steps=drawn["steps"],
            weight=drawn["weight"],
            hold_until_ns=self.now_ns + drawn["hold_s"] * 10**9,
            expected_generation=None if generation is None else current.generation + generation,
            force=drawn["force"],
            rollout=current.serving.rollout if drawn["about"] == "current" else drawn["about"],
        )
        self.tampered_ids += 1
        self._apply(command)
        return command

    @rule(
        target=commands,
        verb=st.sampled_from(
            [
                *(Verb.START, Verb.START, Verb.ADVANCE, Verb.ROLLBACK, Verb.UNDO),
                *(Verb.LOAD, Verb.UNLOAD),
            ]
        ),
        origin=st.sampled_from([Origin.CLI, Origin.ALIAS, Origin.MONITOR]),
        version=st.sampled_from([*VERSIONS[:3], replace(VERSIONS[0], override="{}")]),
        steps=st.sampled_from([(5, 100), (100,)]),
    )
    def steer(self, **drawn: Any) -> Command:
        """What mostly applies, so that deep states are reached."""
        return self.tell_drawn(
            {
                **drawn,
                "model": "a",
                "weight": 0,
                "hold_s": 0,
                "force": False,
                "about": "current",
                "later_s": 3000,
                "expected": "none",
            }
        )

    @rule(command=commands)
    def repeat(self, command: Command) -> None:
        """A replay of an accepted id, whatever else it says, is recognised and ignored."""
        if not any(item.id == command.id for item in self.accepted if item.verb is not Verb.NOTE):
            return
        before = dict(self.state)
        state, outcome = fold(self.state, replace(command, weight=99, expected_generation=None))
        assert isinstance(outcome, Repeated)
        assert state == before

    def _apply(self, command: Command) -> None:
        before = self.state.get(command.model, Deployment(command.model))
        state, outcome = fold(self.state, command)
        after = state.get(command.model, Deployment(command.model))
        if isinstance(outcome, Accepted):
            self.accepted.append(command)
            self._check_accepted(command, before, after)
        else:
            assert isinstance(outcome, Refused)
            assert outcome.sentence
            assert after == before
        self.state = dict(state)

    def _check_accepted(self, command: Command, before: Deployment, after: Deployment) -> None:
        assert after.generation == before.generation + (command.verb is not Verb.NOTE)
        assert command.expected_generation in {None, before.generation}
        if command.origin is Origin.MONITOR and command.verb is not Verb.NOTE:
            assert before.hold_until_ns <= command.ts_ns
            assert not before.frozen
        if command.origin is Origin.MONITOR and command.verb is Verb.UNDO:
            last = before.history[-1]
            assert (last.verb, last.actor) == (Verb.ROLLBACK, command.actor)
            return  # its own rollback: what it quarantined comes back
        newly = {after.stable, after.candidate} - {before.stable, before.candidate, None}
        if command.origin in {Origin.ALIAS, Origin.MONITOR}:
            assert not {v.digest for v in newly if v}.intersection(before.quarantined)

    @invariant()
    def every_deployment_is_consistent(self) -> None:
        for deployment in self.state.values():
            assert problems(deployment) == []

    @invariant()
    def the_fold_of_the_log_is_the_state(self) -> None:
        state: Any = {}
        for command in self.accepted:
            state, _ = fold(state, command_from_proto(command_to_proto(command)))
        assert {m: d for m, d in state.items() if d.generation} == {
            m: d for m, d in self.state.items() if d.generation
        }

    @invariant()
    def the_snapshot_keeps_everything(self) -> None:
        for deployment in self.state.values():
            text = json.dumps(deployment_to_json(deployment))
            assert deployment_from_json(json.loads(text)) == deployment


Deployments.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestDeployments = Deployments.TestCase
