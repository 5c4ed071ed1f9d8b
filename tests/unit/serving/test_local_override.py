"""Overrides merged after what others did meanwhile; fences; a model that joins a shared log."""

from dataclasses import replace
from itertools import count

import pytest

from serving.core.local_override import as_override
from serving.core.replica import Replica
from serving.core.rollout import HOLD_NS, decide, fold
from serving.core.rollout_codec import command_from_proto, command_to_proto
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Origin,
    Outcome,
    Refusal,
    Refused,
    Repeated,
    Verb,
    Version,
    problems,
)

V1, V2, V3 = (Version(str(n), f"{n}" * 64) for n in (1, 2, 3))
_ids = count(1)


def command(verb: Verb, version: Version | None = None, **fields: object) -> Command:
    number = next(_ids)
    base = Command(f"c{number}", number * 10**9, "ann", Origin.CLI, "digits", verb, version)
    return replace(base, **fields)  # type: ignore[arg-type]


def told(deployment: Deployment, *commands: Command) -> Deployment:
    for item in commands:
        outcome = decide(deployment, item)
        assert isinstance(outcome, Accepted), outcome
        deployment = outcome.after
        assert problems(deployment) == []
    return deployment


def begun(*commands: Command) -> Deployment:
    return told(Deployment("digits"), command(Verb.ADOPT, V1), *commands)


def taken(deployment: Deployment, wish: Command) -> Command:
    """The override that a gateway at this state takes; there it does what the plain one does."""
    plain = decide(deployment, wish)
    assert isinstance(plain, Accepted)
    local = as_override(wish, plain)
    assert decide(deployment, local) == plain
    return local


def at_100(version: Version) -> Command:
    return command(Verb.START, version, steps=(100,), force=True)


@pytest.mark.parametrize("verb", [Verb.ROLLBACK, Verb.ABORT])
def test_an_override_of_a_candidate_holds_after_it_was_promoted(verb: Verb) -> None:
    here = begun(command(Verb.START, V2))
    local = taken(here, command(verb))
    merged = told(here, command(Verb.PROMOTE), local)
    assert (merged.stable, merged.candidate) == (V1, None)
    assert merged.quarantined == ((V2.digest,) if verb is Verb.ROLLBACK else ())
    assert merged.hold_until_ns == local.ts_ns + HOLD_NS or merged.hold_until_ns > local.ts_ns


def test_a_rollback_that_another_gateway_did_already_is_not_done_twice() -> None:
    here = begun(at_100(V2))
    local = taken(here, command(Verb.ROLLBACK))
    elsewhere = told(here, command(Verb.ROLLBACK))
    merged = told(elsewhere, local)
    assert merged.serving == elsewhere.serving
    assert merged.generation == elsewhere.generation + 1


def test_a_rollback_merged_onto_a_later_version_quarantines_and_lets_it_serve() -> None:
    here = begun(at_100(V2))
    local = taken(here, command(Verb.ROLLBACK))
    merged = told(here, at_100(V3), local)
    assert merged.stable == V3
    assert merged.quarantined == (V2.digest,)


def test_a_rollback_goes_to_what_its_gateway_serves_and_ends_the_rollout_on_top() -> None:
    here = begun(at_100(V2))
    local = taken(here, command(Verb.ROLLBACK))
    merged = told(here, at_100(V3), command(Verb.UNDO), command(Verb.START, V3), local)
    assert (merged.stable, merged.candidate) == (V1, None)


def test_an_unloaded_model_stays_so() -> None:
    here = begun(at_100(V2))
    local = taken(here, command(Verb.ROLLBACK))
    merged = told(here, command(Verb.UNLOAD), local)
    assert merged.stable is None
    assert merged.quarantined == (V2.digest,)


def test_a_hold_is_never_shortened_by_an_override() -> None:
    here = begun()
    local = taken(here, command(Verb.HOLD, hold_until_ns=10**15))
    longer = told(here, command(Verb.HOLD, hold_until_ns=10**16))
    assert told(longer, local).hold_until_ns == 10**16
    assert told(here, local).hold_until_ns == 10**15


def test_an_override_ignores_a_generation_that_it_met_where_it_was_taken() -> None:
    here = begun(at_100(V2))
    local = taken(here, command(Verb.ROLLBACK, expected_generation=here.generation))
    told(here, command(Verb.HOLD, hold_until_ns=10**15), local)


@pytest.mark.parametrize(
    "fields",
    [
        {"verb": Verb.PROMOTE},
        {"origin": Origin.MONITOR},
        {"leaving": ""},
        {"version": None},
        {"version": V2},
        {"id": ""},
    ],
)
def test_what_no_gateway_takes_on_its_own_is_refused_by_all(fields: dict[str, object]) -> None:
    here = begun(at_100(V2))
    outcome = decide(here, replace(taken(here, command(Verb.ROLLBACK)), **fields))  # type: ignore[arg-type]
    assert isinstance(outcome, Refused)
    assert outcome.refusal is Refusal.INVALID


def test_a_command_and_its_message_are_the_same() -> None:
    here = begun(at_100(V2))
    local = replace(taken(here, command(Verb.ROLLBACK)), fence=7, imported=here)
    assert command_from_proto(command_to_proto(local)) == local


def by_monitor(deployment: Deployment, verb: Verb, fence: int) -> Outcome:
    return decide(
        deployment,
        command(verb, origin=Origin.MONITOR, fence=fence, rollout=deployment.serving.rollout),
    )


def test_a_monitor_that_was_relieved_is_refused_and_told_so() -> None:
    here = begun(command(Verb.START, V2))
    by_new = by_monitor(here, Verb.NOTE, 5)
    assert isinstance(by_new, Accepted)
    assert by_new.after.generation == here.generation
    by_old = by_monitor(by_new.after, Verb.ROLLBACK, 4)
    assert isinstance(by_old, Refused)
    assert by_old.refusal is Refusal.FENCED
    assert by_old.sentence == "a newer monitor owns digits: its fence is 5, not 4"
    assert isinstance(by_monitor(by_new.after, Verb.ROLLBACK, 5), Accepted)
    assert isinstance(by_monitor(by_new.after, Verb.ROLLBACK, 0), Accepted)


def test_the_last_alias_is_known_however_many_commands_came_after_it() -> None:
    alias = command(Verb.START, V2, origin=Origin.ALIAS)
    here = begun(alias)
    for _ in range(300):
        here = told(here, command(Verb.HOLD, hold_until_ns=10**16))
    assert alias.id not in here.remembered
    assert isinstance(decide(here, alias), Repeated)
    noted = command(Verb.NOTE, V1, origin=Origin.ALIAS)
    assert isinstance(decide(told(here, noted), noted), Repeated)


def test_a_gateway_with_a_past_brings_its_models_and_nobodys_count_falls() -> None:
    past = {"digits": begun(at_100(V2), command(Verb.ROLLBACK))}
    first = Replica(joined=False, deployments=past)
    (missing,) = first.imports()
    imported = command(Verb.IMPORT, origin=Origin.SUPERVISOR, imported=missing)
    first, _ = first.fold(0, imported)
    assert first.deployments == past
    assert first.imports() == ()
    first = first.join()
    assert first.deployment("digits").serving == past["digits"].serving
    assert first.deployment("digits").quarantined == (V2.digest,)
    assert first.deployment("digits").generation == past["digits"].generation + 1

    longer = told(past["digits"], *(command(Verb.HOLD, hold_until_ns=10**16) for _ in range(9)))
    second = Replica(joined=False, deployments={"digits": longer})
    second, _ = second.fold(0, imported)
    assert second.imports() == (longer,)
    lifted = command(Verb.IMPORT, origin=Origin.SUPERVISOR, imported=longer)
    second, folded = second.fold(1, lifted)
    assert isinstance(folded.outcome, Accepted)
    assert second.join().deployment("digits").generation == longer.generation + 1
    assert isinstance(fold(second.shared, imported)[1], Repeated)
    again = fold(second.shared, replace(imported, id="another"))[1]
    assert isinstance(again, Refused)
    assert "on the shared log already" in again.sentence


@pytest.mark.parametrize("imported", [None, Deployment("other")])
def test_an_import_of_nothing_is_refused(imported: Deployment | None) -> None:
    wish = command(Verb.IMPORT, origin=Origin.SUPERVISOR, imported=imported)
    assert isinstance(decide(Deployment("digits"), wish), Refused)


def test_an_override_taken_before_a_gateway_has_joined_is_merged_when_it_has() -> None:
    past = {"digits": begun(at_100(V2))}
    gateway = Replica(joined=False, deployments=past)
    gateway, _ = gateway.override(command(Verb.ROLLBACK))
    assert gateway.deployment("digits").stable == V1
    (missing,) = gateway.imports()
    gateway, _ = gateway.fold(0, command(Verb.IMPORT, origin=Origin.SUPERVISOR, imported=missing))
    before = gateway.deployment("digits")
    (local,) = gateway.overrides
    gateway, folded = gateway.join().fold(1, local)
    assert folded.known
    assert gateway.overrides == ()
    assert gateway.deployment("digits").stable == V1
    assert gateway.deployment("digits").generation >= before.generation
