"""Gateways on one log, cut off and healed at random, end alike and never go back.

The log, the cuts and the gateways are values here; what the shell adds (waiting,
sockets, disks) is tested elsewhere.
"""

import json
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from serving.core.local_override import OVERRIDES, may_override
from serving.core.replica import Replica
from serving.core.rollout_codec import command_from_proto, command_to_proto, deployment_to_json
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Origin,
    Refused,
    Verb,
    Version,
    problems,
)

MODELS = ("a", "b")
VERSIONS = tuple(Version(str(n), f"{n:064x}") for n in range(1, 5))
GATEWAYS = 3


class Gateway:
    def __init__(self) -> None:
        self.replica = Replica()
        self.up = True


class Gateways(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log: list[Command] = []
        self.gateways = [Gateway() for _ in range(GATEWAYS)]
        self.seen: list[dict[str, Deployment]] = [{} for _ in range(GATEWAYS)]
        self.at: dict[int, str] = {}  # position -> the fold of the log up to it
        self.now_ns = 10**18
        self.count = 0

    @rule(
        number=st.integers(0, GATEWAYS - 1),
        model=st.sampled_from(MODELS),
        verb=st.sampled_from(Verb),
        origin=st.sampled_from(Origin),
        version=st.none() | st.sampled_from(VERSIONS),
        steps=st.sampled_from([(), (100,), (5, 100)]),
        weight=st.integers(0, 110),
        hold_s=st.integers(-10, 3000),
        force=st.booleans(),
        fence=st.integers(0, 3),
        guarded=st.booleans(),
        twice=st.booleans(),
    )
    def ask(self, **drawn: Any) -> None:
        self._ask(**drawn)

    @rule(
        number=st.integers(0, GATEWAYS - 1),
        verb=st.sampled_from([*(Verb.START, Verb.START, Verb.LOAD, Verb.PROMOTE), *OVERRIDES]),
        version=st.sampled_from([*VERSIONS, replace(VERSIONS[0], override="{}")]),
        steps=st.sampled_from([(100,), (5, 100)]),
        twice=st.booleans(),
    )
    def steer(self, **drawn: Any) -> None:
        """What mostly applies, so that deep states are reached."""
        plain = {"model": "a", "origin": Origin.CLI, "weight": 0, "hold_s": 60}
        self._ask(**drawn, **plain, force=True, fence=0, guarded=False)

    def _ask(self, number: int, guarded: bool, twice: bool, hold_s: int, **drawn: Any) -> None:
        gateway = self.gateways[number]
        self.count += 1
        self.now_ns += 10**9
        here = gateway.replica.deployment(drawn["model"])
        command = Command(
            id=f"c{self.count}",
            ts_ns=self.now_ns + number * 10**8,  # clocks differ
            actor="someone",
            hold_until_ns=self.now_ns + hold_s * 10**9,
            expected_generation=here.generation if guarded else None,
            rollout=here.serving.rollout,
            **drawn,
        )
        if gateway.up:
            self._append(command)
            if twice:
                self._append(command)
        elif may_override(command):
            gateway.replica, outcome = gateway.replica.override(command)
            if isinstance(outcome, Refused):
                assert outcome.sentence

    def _append(self, command: Command) -> None:
        self.log.append(command_from_proto(command_to_proto(command)))

    @rule(number=st.integers(0, GATEWAYS - 1), most=st.integers(1, 5))
    def read(self, number: int, most: int) -> None:
        if self.gateways[number].up:
            self._read(number, most)

    def _read(self, number: int, most: int) -> None:
        gateway = self.gateways[number]
        for offset in range(gateway.replica.position, len(self.log))[:most]:
            before = gateway.replica
            gateway.replica, folded = before.fold(offset, self.log[offset])
            self._check(before, gateway.replica, self.log[offset], folded)
            text = json.dumps(
                {m: deployment_to_json(d) for m, d in sorted(gateway.replica.shared.items())}
            )
            assert self.at.setdefault(gateway.replica.position, text) == text

    def _check(self, before: Replica, after: Replica, command: Command, folded: Any) -> None:
        if isinstance(folded.outcome, Refused):
            assert folded.outcome.sentence
            assert after.shared == before.shared
        if command.local:
            assert not isinstance(folded.outcome, Refused)
        if command.local and isinstance(folded.outcome, Accepted):
            merged = folded.outcome.after
            assert merged.generation == folded.outcome.before.generation + 1
            assert command.leaving not in _builds(merged) or command.verb is Verb.HOLD

    @rule(number=st.integers(0, GATEWAYS - 1))
    def cut(self, number: int) -> None:
        self.gateways[number].up = False

    @precondition(lambda self: not all(gateway.up for gateway in self.gateways))
    @rule(number=st.integers(0, GATEWAYS - 1), lost=st.booleans())
    def heal(self, number: int, lost: bool) -> None:
        self._heal(number, lost)

    def _heal(self, number: int, lost: bool) -> None:
        """Read on, then append what was done alone; `lost`: the link fails before the answer."""
        gateway = self.gateways[number]
        if gateway.up:
            return
        self._read(number, len(self.log))
        for command in gateway.replica.overrides:
            self._append(command)
            if lost:
                return
        gateway.up = True

    @invariant()
    def no_generation_falls_and_what_serves_changes_with_it_alone(self) -> None:
        for gateway, seen in zip(self.gateways, self.seen, strict=True):
            for model, deployment in gateway.replica.deployments.items():
                before = seen.get(model, Deployment(model))
                assert deployment.generation >= before.generation
                if deployment.generation == before.generation:
                    assert deployment.serving == before.serving
                seen[model] = deployment
                assert problems(deployment) == []

    @invariant()
    def what_was_left_does_not_serve_while_it_is_pending(self) -> None:
        for gateway in self.gateways:
            for model in gateway.replica.diverged:
                last = [item for item in gateway.replica.overrides if item.model == model][-1]
                if last.verb is not Verb.HOLD:
                    assert last.leaving not in _builds(gateway.replica.deployment(model))

    def teardown(self) -> None:
        for number in range(GATEWAYS):
            self._heal(number, lost=False)
        for number in range(GATEWAYS):
            self._read(number, len(self.log))
        self.no_generation_falls_and_what_serves_changes_with_it_alone()
        first = self.gateways[0].replica
        for gateway in self.gateways:
            assert gateway.replica.overrides == ()
            assert gateway.replica.diverged == ()
            assert gateway.replica.deployments == first.deployments == first.shared


def _builds(deployment: Deployment) -> set[str]:
    return {version.build for version in (deployment.stable, deployment.candidate) if version}


Gateways.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestGateways = Gateways.TestCase
