"""The guard rails: each stops what it is there to stop, and only that."""

from dataclasses import replace

import pytest

from monitor.core.block import Sample
from monitor.core.deployment import Change, parse_deployment
from monitor.core.guards import (
    DAY_NS,
    Action,
    Guards,
    PastAction,
    StepFacts,
    is_lagging,
    may_act,
    may_advance,
    must_freeze,
    reverted_actions,
    split_is_off,
)

S = 10**9
NOW = 1_000_000 * S
GUARDS = Guards(
    rollback_cooldown_ns=1800 * S,
    retrain_cooldown_ns=6 * 3600 * S,
    actions_per_day_max=4,
    rows_min=200,
    bake_ns=60 * S,
    lag_max_ns=30 * S,
)
DEPLOYMENT = parse_deployment(
    {
        "model": "m",
        "generation": "9",
        "phase": "PROGRESSING",
        "stable": {"version": "1", "digest": "a"},
        "candidate": {"version": "2", "digest": "b"},
        "weight": 10,
        "rollout": "r",
        "changed_ns": str(NOW - 100 * S),
    }
)
STABLE = replace(DEPLOYMENT, candidate_digest="", phase="STABLE", rollout="")
FACTS = StepFacts(
    rollout="r",
    candidate_digest="b",
    first_ns=NOW - 100 * S,
    end_ns=NOW,
    candidate=Sample(1000, 1000),
    stable=Sample(9000, 9000),
    candidate_labelled=800,
    receives_labels=True,
    inputs_differ=False,
    log_blocks_against=0.0,
    log_e_value=0.0,
)


def past(action: Action, ago_s: float, running: bool = False) -> PastAction:
    return PastAction(action, NOW - int(ago_s * S), running)


def test_nothing_stands_against_a_first_action() -> None:
    assert may_act(Action.ROLLBACK, [], DEPLOYMENT, NOW, GUARDS) is None
    assert may_act(Action.RETRAIN, [], STABLE, NOW, GUARDS) is None


@pytest.mark.parametrize(
    ("action", "history", "deployment", "word"),
    [
        (Action.ROLLBACK, [], replace(DEPLOYMENT, frozen=True), "frozen"),
        (Action.ROLLBACK, [], replace(DEPLOYMENT, hold_until_ns=NOW + 1), "holds"),
        (Action.ROLLBACK, [past(Action.ROLLBACK, 1799)], DEPLOYMENT, "cooling"),
        (Action.RETRAIN, [past(Action.RETRAIN, 5 * 3600)], STABLE, "cooling"),
        (Action.RETRAIN, [past(Action.RETRAIN, 99_999, running=True)], STABLE, "under way"),
        (Action.RETRAIN, [], DEPLOYMENT, "rollout"),
    ],
)
def test_an_action_is_refused(action, history, deployment, word) -> None:  # type: ignore[no-untyped-def]
    assert word in (may_act(action, history, deployment, NOW, GUARDS) or "")


def test_cool_downs_end_and_belong_to_one_kind_of_action() -> None:
    history = [past(Action.ROLLBACK, 1801), past(Action.RETRAIN, 10)]
    assert may_act(Action.ROLLBACK, history, DEPLOYMENT, NOW, GUARDS) is None


def test_a_fifth_action_in_a_day_freezes_until_it_is_forgiven() -> None:
    history = [past(Action.ROLLBACK, 3000 * i) for i in range(1, 5)]
    assert "4 actions" in (must_freeze(history, DEPLOYMENT, 0, NOW, GUARDS) or "")
    assert must_freeze(history, DEPLOYMENT, NOW - 5000 * S, NOW, GUARDS) is None
    assert must_freeze(history, DEPLOYMENT, 0, NOW + DAY_NS, GUARDS) is None
    assert must_freeze(history, replace(DEPLOYMENT, frozen=True), 0, NOW, GUARDS) is None


def test_dry_runs_do_not_use_up_the_budget_but_cool_down() -> None:
    """Four things only said must not cost the rollback of a bad candidate."""
    history = [PastAction(Action.RETRAIN, NOW - 3000 * i * S, dry=True) for i in range(1, 5)]
    assert must_freeze(history, DEPLOYMENT, 0, NOW, GUARDS) is None
    assert "cooling down" in (may_act(Action.RETRAIN, history, STABLE, NOW, GUARDS) or "")


def test_steps_of_a_rollout_do_not_use_up_the_budget() -> None:
    history = [past(Action.ADVANCE, i) for i in range(50)]
    assert must_freeze(history, DEPLOYMENT, 0, NOW, GUARDS) is None


def test_two_undone_actions_freeze() -> None:
    undone = (Change("ROLLBACK", "monitor", 5), Change("UNDO", "ann", 6))
    once = replace(DEPLOYMENT, history=undone)
    assert must_freeze([], once, 0, NOW, GUARDS) is None
    twice = replace(DEPLOYMENT, history=(*undone, *undone))
    assert "undone" in (must_freeze([], twice, 0, NOW, GUARDS) or "")
    assert reverted_actions(twice, 7) == 0
    by_hand = (Change("ROLLBACK", "ann", 5), Change("UNDO", "ann", 6))
    assert reverted_actions(replace(DEPLOYMENT, history=by_hand), 0) == 0


def test_a_healthy_candidate_earns_its_step() -> None:
    assert may_advance(FACTS, DEPLOYMENT, NOW, GUARDS) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rollout": "other"}, "not the one"),
        ({"candidate_digest": "c"}, "not the one"),
        ({"first_ns": NOW - 59 * S}, "59 s"),
        ({"candidate": Sample(199, 199)}, "rows"),
        ({"stable": Sample(199, 9000)}, "rows"),
        ({"candidate_labelled": 199}, "labelled"),
        ({"log_blocks_against": 7.0}, "evidence"),
        ({"log_e_value": 2.4}, "evidence"),
        ({"inputs_differ": True}, "inputs"),
        ({"candidate": Sample(3000, 3000)}, "split"),
    ],
)
def test_a_step_is_not_taken(change: dict, word: str) -> None:
    assert word in (may_advance(replace(FACTS, **change), DEPLOYMENT, NOW, GUARDS) or "")


@pytest.mark.parametrize(
    "change", [{"phase": "PAUSED"}, {"frozen": True}, {"hold_until_ns": NOW + 1}]
)
def test_a_step_waits_for_the_operator(change: dict) -> None:
    assert may_advance(FACTS, replace(DEPLOYMENT, **change), NOW, GUARDS)


def test_labels_are_asked_for_only_where_there_are_any() -> None:
    facts = replace(FACTS, candidate_labelled=0, receives_labels=False)
    assert may_advance(facts, DEPLOYMENT, NOW, GUARDS) is None


@pytest.mark.parametrize(
    ("candidate", "stable", "weight", "off"),
    [
        (50, 950, 5, False),
        (110, 890, 5, False),
        (300, 700, 5, True),
        (0, 0, 5, False),
        (0, 5000, 25, True),
        (3, 4, 5, False),
        (100, 0, 100, False),
    ],
)
def test_a_split_is_off_when_chance_and_sticky_keys_do_not_explain_it(
    candidate: int, stable: int, weight: int, off: bool
) -> None:
    assert split_is_off(Sample(candidate, candidate), Sample(stable, stable), weight) is off


@pytest.mark.parametrize(
    ("candidate", "stable", "weight", "off"),
    [
        (Sample(1000, 1000), Sample(190, 19_000), 5, False),  # all of one arm, 1 % of the other
        (Sample(50, 1000), Sample(950, 950), 5, True),  # as logged it looks right
        (Sample(3, 300), Sample(950, 950), 10, False),  # three rows know little of a share
        (Sample(300, 30_000), Sample(9500, 95_000), 5, True),
        (Sample(0, 0), Sample(50, 5000), 25, False),
        (Sample(0, 0), Sample(500, 5000), 25, True),
    ],
)
def test_a_split_is_judged_by_the_traffic_that_sampled_rows_stand_for(
    candidate: Sample, stable: Sample, weight: int, off: bool
) -> None:
    assert split_is_off(candidate, stable, weight) is off


def test_statistics_that_are_too_old_are_not_acted_on() -> None:
    assert not is_lagging(NOW - 30 * S, NOW, GUARDS)
    assert is_lagging(NOW - 31 * S, NOW, GUARDS)
