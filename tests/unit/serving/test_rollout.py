"""What each verb does, refuses, and how it is undone."""

from dataclasses import replace
from itertools import count

import pytest

from serving.core.rollout import HOLD_NS, fold, undo_line
from serving.core.rollout_routes import wanted
from serving.core.rollout_state import (
    Accepted,
    Command,
    Deployment,
    Origin,
    Outcome,
    Phase,
    Refusal,
    Refused,
    Repeated,
    Verb,
    Version,
    content_of,
    problems,
)

V1, V2, V3 = (Version(str(n), f"{n}" * 64) for n in (1, 2, 3))
SECOND = 1_000_000_000


class Story:
    """A deployment and the commands it is told, a second apart."""

    def __init__(self) -> None:
        self.state: dict[str, Deployment] = {}
        self._ids = count(1)
        self.now_ns = 0

    @property
    def digits(self) -> Deployment:
        return self.state["digits"]

    def command(self, verb: Verb, version: Version | None = None, **fields: object) -> Command:
        self.now_ns += SECOND
        base = Command(
            id=f"c{next(self._ids)}",
            ts_ns=self.now_ns,
            actor="ann",
            origin=Origin.CLI,
            model="digits",
            verb=verb,
            version=version,
        )
        return replace(base, **fields)  # type: ignore[arg-type]

    def tell(self, verb: Verb, version: Version | None = None, **fields: object) -> Outcome:
        state, outcome = fold(self.state, self.command(verb, version, **fields))
        self.state = dict(state)
        return outcome

    def does(self, verb: Verb, version: Version | None = None, **fields: object) -> Deployment:
        outcome = self.tell(verb, version, **fields)
        assert isinstance(outcome, Accepted), outcome
        assert problems(outcome.after) == []
        return outcome.after

    def refuses(self, verb: Verb, version: Version | None = None, **fields: object) -> Refused:
        before = dict(self.state)
        outcome = self.tell(verb, version, **fields)
        assert isinstance(outcome, Refused), outcome
        assert self.state == before
        assert "\n" not in outcome.sentence
        return outcome

    def monitor(self, verb: Verb, **fields: object) -> Outcome:
        return self.tell(
            verb,
            origin=Origin.MONITOR,
            actor="monitor",
            **{"rollout": self.digits.serving.rollout, **fields},
        )


@pytest.fixture
def story() -> Story:
    story = Story()
    story.does(Verb.ADOPT, V1, origin=Origin.ALIAS)
    return story


def test_a_canary_goes_through_its_steps_and_becomes_stable(story: Story) -> None:
    story.does(Verb.START, V2, steps=(5, 25, 100))
    assert (story.digits.phase, story.digits.serving.weight) == (Phase.PROGRESSING, 5)
    story.does(Verb.ADVANCE)
    assert (story.digits.serving.weight, story.digits.serving.step) == (25, 1)
    story.does(Verb.ADVANCE)
    assert story.digits.phase is Phase.STABLE
    assert (story.digits.stable, story.digits.previous, story.digits.candidate) == (V2, V1, None)


def test_a_single_step_of_100_switches_at_once(story: Story) -> None:
    story.does(Verb.START, V2, steps=(100,))
    assert (story.digits.stable, story.digits.previous) == (V2, V1)


@pytest.mark.parametrize("steps", [(0, 100), (5, 5, 100), (5, 25), (25, 5, 100), (5, 101)])
def test_steps_that_do_not_rise_to_100_are_refused(story: Story, steps: tuple[int, ...]) -> None:
    assert story.refuses(Verb.START, V2, steps=steps).refusal is Refusal.INVALID


def test_rollback_with_a_candidate_takes_it_away_and_quarantines_it(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ROLLBACK)
    assert (story.digits.stable, story.digits.candidate) == (V1, None)
    assert story.digits.quarantined == (V2.digest,)


def test_rollback_without_a_candidate_goes_back_to_the_previous_stable(story: Story) -> None:
    story.does(Verb.START, V2, steps=(100,))
    story.does(Verb.ROLLBACK)
    assert (story.digits.stable, story.digits.previous) == (V1, V2)
    assert story.digits.quarantined == (V2.digest,)


def test_a_second_rollback_does_not_go_to_the_version_that_was_bad(story: Story) -> None:
    story.does(Verb.START, V2, steps=(100,))
    story.does(Verb.ROLLBACK)
    assert story.refuses(Verb.ROLLBACK).refusal is Refusal.QUARANTINED
    assert story.digits.stable == V1


def test_rollback_with_no_previous_version_keeps_what_serves(story: Story) -> None:
    assert story.refuses(Verb.ROLLBACK).refusal is Refusal.INAPPLICABLE


@pytest.mark.parametrize("origin", [Origin.ALIAS, Origin.MONITOR])
def test_a_quarantined_version_is_started_neither_by_alias_nor_by_monitor(
    story: Story, origin: Origin
) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ROLLBACK, origin=Origin.MONITOR, rollout=story.digits.serving.rollout)
    assert story.refuses(Verb.START, V2, origin=origin).refusal is Refusal.QUARANTINED
    assert story.refuses(Verb.START, V2, origin=origin, force=True).refusal is Refusal.QUARANTINED
    assert story.refuses(Verb.START, V2).refusal is Refusal.QUARANTINED
    story.does(Verb.START, V2, force=True)
    assert story.digits.quarantined == ()


def test_the_monitor_takes_back_its_own_last_rollback_and_nothing_else(story: Story) -> None:
    started = story.does(Verb.START, V2, steps=(20, 100)).serving.rollout
    refused = story.monitor(Verb.UNDO)
    assert isinstance(refused, Refused)
    assert "not the monitor's rollback" in refused.sentence
    assert isinstance(story.monitor(Verb.ROLLBACK), Accepted)
    for wrong in ("", "another"):
        assert isinstance(story.monitor(Verb.UNDO, rollout=wrong), Refused)
    undone = story.monitor(Verb.UNDO, rollout=started)
    assert isinstance(undone, Accepted)
    serving = undone.after.serving
    assert (serving.stable, serving.candidate, serving.weight) == (V1, V2, 20)
    assert (undone.after.phase, undone.after.quarantined) == (Phase.PROGRESSING, ())
    assert serving.rollout != started  # what was found of it before does not count again
    assert isinstance(story.monitor(Verb.UNDO, rollout=started), Refused)


def test_the_monitor_does_not_take_back_what_an_operator_did(story: Story) -> None:
    started = story.does(Verb.START, V2).serving.rollout
    story.does(Verb.ROLLBACK)
    story.does(Verb.RELEASE)  # of the hold that began with it
    assert isinstance(story.monitor(Verb.UNDO, rollout=started), Refused)


def test_release_lifts_a_quarantine(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ROLLBACK)
    story.does(Verb.RELEASE, V2)
    story.does(Verb.START, V2, origin=Origin.ALIAS)
    assert story.digits.candidate == V2


def test_an_operators_abort_leaves_the_version_free_and_the_monitors_does_not(
    story: Story,
) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ABORT)
    assert story.digits.quarantined == ()
    story.does(Verb.START, V2)
    assert isinstance(story.monitor(Verb.ABORT), Accepted)
    assert story.digits.quarantined == (V2.digest,)


@pytest.mark.parametrize(
    "verb", [Verb.ROLLBACK, Verb.ABORT, Verb.PAUSE, Verb.SET_WEIGHT, Verb.PROMOTE]
)
def test_an_operators_hand_starts_an_hour_in_which_the_monitor_only_notes(
    story: Story, verb: Verb
) -> None:
    story.does(Verb.START, V2)
    rollout = story.digits.serving.rollout
    story.does(verb, weight=50)
    assert story.digits.hold_until_ns == story.now_ns + HOLD_NS
    refused = story.monitor(Verb.ADVANCE, rollout=rollout)
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.HELD
    assert isinstance(story.monitor(Verb.NOTE), Accepted)


@pytest.mark.parametrize("verb", [Verb.START, Verb.ADVANCE, Verb.UNDO])
def test_start_advance_and_undo_by_hand_start_no_hold(story: Story, verb: Verb) -> None:
    story.does(Verb.START, V2)
    story.does(verb, V3 if verb is Verb.START else None)
    assert story.digits.hold_until_ns == 0


def test_an_alias_that_moves_leaves_an_operators_hold_alone(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ROLLBACK)
    until_ns = story.digits.hold_until_ns
    story.does(Verb.START, V3, origin=Origin.ALIAS)
    assert story.digits.hold_until_ns == until_ns > 0
    refused = story.monitor(Verb.ROLLBACK, rollout=story.digits.serving.rollout)
    assert isinstance(refused, Refused)
    assert refused.refusal is Refusal.HELD


def test_the_monitor_may_act_again_when_the_hold_is_over(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.SET_WEIGHT, weight=10)
    story.now_ns += HOLD_NS
    assert isinstance(story.monitor(Verb.ADVANCE), Accepted)


@pytest.mark.parametrize("verb", [Verb.RELEASE, Verb.RESUME, Verb.START])
def test_release_resume_and_start_end_a_hold(story: Story, verb: Verb) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.PAUSE)
    story.does(verb, V3 if verb is Verb.START else None)
    assert story.digits.hold_until_ns == 0


def test_frozen_automation_waits_for_an_operator(story: Story) -> None:
    story.does(Verb.START, V2)
    assert isinstance(story.monitor(Verb.FREEZE), Accepted)
    assert isinstance(story.monitor(Verb.ROLLBACK), Refused)
    assert story.refuses(Verb.START, V3, origin=Origin.ALIAS).refusal is Refusal.FROZEN
    story.does(Verb.ROLLBACK)
    story.does(Verb.UNFREEZE)
    assert not story.digits.frozen


def test_a_verdict_about_an_earlier_rollout_is_refused(story: Story) -> None:
    story.does(Verb.START, V2)
    judged = story.digits.serving.rollout
    story.does(Verb.START, V3)
    outcome = story.monitor(Verb.ROLLBACK, rollout=judged)
    assert isinstance(outcome, Refused)
    assert story.digits.candidate == V3


@pytest.mark.parametrize(
    "verb", [Verb.PROMOTE, Verb.SET_WEIGHT, Verb.HOLD, Verb.RELEASE, Verb.UNFREEZE]
)
def test_what_an_operator_decides_is_not_the_monitors_to_decide(story: Story, verb: Verb) -> None:
    story.does(Verb.START, V2)
    outcome = story.monitor(verb)
    assert isinstance(outcome, Refused)
    assert outcome.refusal is Refusal.FORBIDDEN


def test_a_stale_generation_is_refused_and_the_current_one_is_not(story: Story) -> None:
    generation = story.digits.generation
    story.does(Verb.START, V2, expected_generation=generation)
    refused = story.refuses(Verb.ABORT, expected_generation=generation)
    assert refused.refusal is Refusal.STALE


def test_a_repeated_id_is_applied_once(story: Story) -> None:
    command = story.command(Verb.START, V2)
    story.state = dict(fold(story.state, command)[0])
    once = dict(story.state)
    state, outcome = fold(story.state, command)
    assert isinstance(outcome, Repeated)
    assert state == once


def test_undo_of_a_rollback_brings_the_version_back_and_lifts_its_quarantine(
    story: Story,
) -> None:
    story.does(Verb.START, V2, steps=(100,))
    story.does(Verb.ROLLBACK)
    story.does(Verb.UNDO)
    assert (story.digits.stable, story.digits.previous) == (V2, V1)
    assert story.digits.quarantined == ()


def test_undo_of_an_abort_revives_the_candidate_as_a_rollout_of_its_own(story: Story) -> None:
    story.does(Verb.START, V2, steps=(5, 25, 100))
    story.does(Verb.ADVANCE)
    first = story.digits.serving.rollout
    story.does(Verb.ABORT)
    story.does(Verb.UNDO)
    serving = story.digits.serving
    assert (serving.candidate, serving.weight, serving.step) == (V2, 25, 1)
    assert serving.rollout not in {"", first}


def test_undo_of_a_weight_keeps_the_rollout_and_its_pause(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.PAUSE)
    rollout = story.digits.serving.rollout
    story.does(Verb.SET_WEIGHT, weight=60)
    story.does(Verb.UNDO)
    assert story.digits.serving.weight == 5
    assert story.digits.phase is Phase.PAUSED
    assert story.digits.serving.rollout == rollout


def test_there_is_nothing_to_undo_after_the_first_version(story: Story) -> None:
    assert story.refuses(Verb.UNDO).refusal is Refusal.INAPPLICABLE


def test_load_serves_a_version_at_once_and_keeps_the_one_before_it(story: Story) -> None:
    story.does(Verb.LOAD, V2)
    assert (story.digits.stable, story.digits.previous) == (V2, V1)
    assert story.refuses(Verb.LOAD, V2).refusal is Refusal.INAPPLICABLE
    other = Version(V2.version, "f" * 64)
    assert story.refuses(Verb.LOAD, other).refusal is Refusal.INVALID
    story.does(Verb.START, V3)
    assert "promote or abort" in story.refuses(Verb.LOAD, V1).sentence


def test_a_load_with_another_configuration_takes_the_place_of_the_same_version(
    story: Story,
) -> None:
    other = replace(V1, override='{"max_batch_size": 2}')
    story.does(Verb.LOAD, other)
    assert (story.digits.stable, story.digits.previous) == (other, V1)
    assert wanted(story.digits, keep_previous=1) == (other,)
    assert story.digits.stable is not None
    assert story.digits.stable.build != V1.build == V1.digest
    assert content_of(other.build) == V1.digest
    story.does(Verb.ROLLBACK)
    assert (story.digits.stable, story.digits.quarantined) == (V1, ())
    assert problems(story.digits) == []


def test_load_brings_no_quarantined_version_in(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ROLLBACK)
    assert story.refuses(Verb.LOAD, V2).refusal is Refusal.QUARANTINED


def test_unload_serves_nothing_until_a_load_or_an_undo(story: Story) -> None:
    story.does(Verb.LOAD, V2)
    story.does(Verb.START, V3)
    story.does(Verb.UNLOAD)
    assert (story.digits.phase, story.digits.stable) == (Phase.EMPTY, None)
    assert story.refuses(Verb.UNLOAD).refusal is Refusal.INAPPLICABLE
    assert story.refuses(Verb.ROLLBACK).refusal is Refusal.INAPPLICABLE
    story.does(Verb.UNDO)
    assert (story.digits.stable, story.digits.candidate) == (V2, V3)
    story.does(Verb.UNLOAD)
    story.does(Verb.LOAD, V1)
    assert (story.digits.phase, story.digits.stable, story.digits.previous) == (
        Phase.STABLE, V1, None,
    )  # fmt: skip


@pytest.mark.parametrize("origin", [Origin.MONITOR, Origin.ALIAS, Origin.SUPERVISOR])
def test_only_operators_load_and_unload(story: Story, origin: Origin) -> None:
    for verb in (Verb.LOAD, Verb.UNLOAD):
        assert story.refuses(verb, V2, origin=origin).refusal is Refusal.FORBIDDEN


def test_advance_goes_on_from_a_weight_set_by_hand(story: Story) -> None:
    story.does(Verb.START, V2, steps=(5, 25, 50, 100))
    story.does(Verb.SET_WEIGHT, weight=30)
    story.does(Verb.ADVANCE)
    assert story.digits.serving.weight == 50


def test_a_paused_rollout_does_not_advance_and_can_be_promoted(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.PAUSE)
    assert story.refuses(Verb.ADVANCE).refusal is Refusal.INAPPLICABLE
    assert story.refuses(Verb.PAUSE).refusal is Refusal.INAPPLICABLE
    story.does(Verb.PROMOTE)
    assert story.digits.stable == V2


def test_a_new_start_supersedes_the_rollout_on_its_way(story: Story) -> None:
    story.does(Verb.START, V2)
    story.does(Verb.ADVANCE)
    story.does(Verb.START, V3, origin=Origin.ALIAS)
    assert (story.digits.candidate, story.digits.serving.weight) == (V3, 5)
    assert (story.digits.stable, story.digits.quarantined) == (V1, ())


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        (Verb.START, {"version": V1}),
        (Verb.START, {"version": Version("1", "f" * 64)}),
        (Verb.START, {"version": Version("2", "")}),
        (Verb.START, {}),
        (Verb.ADOPT, {"version": V2}),
        (Verb.ADVANCE, {}),
        (Verb.PROMOTE, {}),
        (Verb.SET_WEIGHT, {"weight": 10}),
        (Verb.PAUSE, {}),
        (Verb.RESUME, {}),
        (Verb.ABORT, {}),
        (Verb.HOLD, {"hold_until_ns": 1}),
        (Verb.RELEASE, {}),
        (Verb.RELEASE, {"version": V2}),
        (Verb.UNFREEZE, {}),
        (Verb.NOTE, {"id": ""}),
    ],
)
def test_a_verb_that_does_not_apply_is_refused_in_one_sentence(
    story: Story, verb: Verb, fields: dict[str, object]
) -> None:
    story.refuses(verb, **fields)


def test_a_first_version_that_cannot_be_loaded_makes_room_for_the_next(story: Story) -> None:
    story.does(Verb.ABORT, origin=Origin.SUPERVISOR)
    assert story.digits.phase is Phase.EMPTY
    assert story.refuses(Verb.ADOPT, V1, origin=Origin.ALIAS).refusal is Refusal.QUARANTINED
    story.does(Verb.ADOPT, V2, origin=Origin.ALIAS)
    assert story.refuses(Verb.UNDO).refusal is Refusal.INAPPLICABLE


def test_the_supervisor_may_go_back_to_a_quarantined_version_that_still_serves(
    story: Story,
) -> None:
    """An operator rolled back to a version that then could not be loaded."""
    story.does(Verb.START, V2, steps=(100,))
    story.does(Verb.ROLLBACK)
    story.does(Verb.ROLLBACK, origin=Origin.SUPERVISOR)
    assert (story.digits.stable, story.digits.quarantined) == (V2, (V1.digest,))


def test_a_note_changes_nothing(story: Story) -> None:
    before = story.digits
    assert story.does(Verb.NOTE) == before


@pytest.mark.parametrize(
    ("prepare", "verb", "fields", "line"),
    [
        ([], Verb.START, {"version": V2}, "rollout undo digits --if-generation 2"),
        ([Verb.START], Verb.ADVANCE, {}, "rollout undo digits --if-generation 3"),
        ([Verb.START], Verb.PAUSE, {}, "rollout resume digits --if-generation 3"),
        ([Verb.START, Verb.PAUSE], Verb.RESUME, {}, "rollout pause digits --if-generation 4"),
        ([Verb.START], Verb.ROLLBACK, {}, "rollout undo digits --if-generation 3"),
        ([], Verb.LOAD, {"version": V2}, "rollout undo digits --if-generation 2"),
        ([], Verb.UNLOAD, {}, "rollout undo digits --if-generation 2"),
        ([], Verb.FREEZE, {}, "monitor unfreeze digits --if-generation 2"),
        ([], Verb.HOLD, {"hold_until_ns": 10**15}, "rollout release digits --if-generation 2"),
    ],
)
def test_every_change_names_the_command_that_reverses_it(
    story: Story, prepare: list[Verb], verb: Verb, fields: dict[str, object], line: str
) -> None:
    for earlier in prepare:
        story.does(earlier, V2 if earlier is Verb.START else None)
    command = story.command(verb, **fields)
    before = story.digits
    _, outcome = fold(story.state, command)
    assert isinstance(outcome, Accepted)
    assert undo_line(command, before, outcome.after) == f"driftgate {line}"


def test_the_undo_of_a_release_holds_for_the_time_that_was_left(story: Story) -> None:
    story.does(Verb.HOLD, hold_until_ns=story.now_ns + 100 * SECOND)
    command = story.command(Verb.RELEASE)
    before = story.digits
    _, outcome = fold(story.state, command)
    assert isinstance(outcome, Accepted)
    line = undo_line(command, before, outcome.after)
    assert line == "driftgate rollout hold digits --for 98s --if-generation 3"
