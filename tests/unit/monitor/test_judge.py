"""Each rule of the judgement, alone."""

from dataclasses import replace
from math import log

import pytest

from monitor.core.events import Group
from monitor.core.judge import Evidence, Kind, RolloutEvidence, judge
from tests.monitor_world import SETTINGS

UP, DOWN = log(SETTINGS.budget_s) + 5, 0.0
QUIET = Evidence(total=DOWN, groups={}, unseen_share=0.0, changed_recently=False)
PAGED = replace(QUIET, total=UP)
WORSE = RolloutEvidence(
    log_e_value=log(200.0),
    candidate_rows=1000,
    stable_rows=1000,
    labelled_rows=900,
    inputs_differ=False,
)
EQUAL = replace(WORSE, log_e_value=0.0)


def up(*groups: Group) -> dict[Group, float]:
    return dict.fromkeys(groups, UP)


def kind(evidence: Evidence, standing: Kind = Kind.HEALTHY) -> Kind:
    return judge(evidence, SETTINGS, standing).kind


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (QUIET, Kind.HEALTHY),
        (replace(QUIET, total=SETTINGS.warn + 0.1), Kind.WARN),
        (replace(PAGED, groups=up(Group.CANDIDATE), rollout=WORSE), Kind.ROLLBACK),
        (replace(PAGED, groups=up(Group.COMPARISON), rollout=EQUAL), Kind.ROLLBACK),
        (replace(PAGED, groups=up(Group.CANDIDATE), rollout=EQUAL), Kind.INCONCLUSIVE),
        (
            replace(PAGED, rollout=replace(WORSE, candidate_rows=SETTINGS.rows_min - 1)),
            Kind.INCONCLUSIVE,
        ),
        (replace(PAGED, rollout=replace(WORSE, inputs_differ=True)), Kind.INCONCLUSIVE),
        (replace(PAGED, groups=up(Group.LOSS, Group.FEATURES)), Kind.RETRAIN),
        (replace(PAGED, groups=up(Group.LOSS)), Kind.RETRAIN),
        (replace(PAGED, groups=up(Group.LOSS), changed_recently=True), Kind.PAGE),
        (
            replace(PAGED, groups=up(Group.LOSS, Group.FEATURES), changed_recently=True),
            Kind.RETRAIN,
        ),
        (
            replace(PAGED, groups=up(Group.LOSS, Group.FEATURES, Group.CANDIDATE), rollout=WORSE),
            Kind.RETRAIN,
        ),
        (
            replace(PAGED, groups=up(Group.LOSS, Group.FEATURES), rollout=EQUAL),
            Kind.RECOVERING,
        ),
        (replace(PAGED, groups=up(Group.FEATURES)), Kind.ANNOTATE),
        (replace(PAGED, groups=up(Group.PREDICTIONS)), Kind.ANNOTATE),
        (replace(PAGED, groups=up(Group.OUTLIERS)), Kind.ANNOTATE),
        (replace(PAGED, groups=up(Group.OUTLIERS, Group.LOSS)), Kind.RETRAIN),
        (replace(PAGED, groups=up(Group.QUALITY, Group.LOSS, Group.FEATURES)), Kind.UPSTREAM),
        (replace(PAGED, groups=up(Group.LOSS), broken=("x is missing",)), Kind.UPSTREAM),
        (PAGED, Kind.PAGE),
        (replace(PAGED, groups=up(Group.LOSS), unseen_share=0.5), Kind.BLIND),
    ],
)
def test_evidence_leads_to_one_verdict(evidence: Evidence, expected: Kind) -> None:
    assert kind(evidence) is expected


def test_a_page_stands_until_evidence_is_well_below_the_warning() -> None:
    between = replace(QUIET, total=SETTINGS.warn + 0.5, groups=up(Group.FEATURES))
    assert kind(between) is Kind.WARN
    assert kind(between, Kind.ANNOTATE) is Kind.ANNOTATE
    below = replace(between, total=SETTINGS.warn - 1.5)
    assert kind(below, Kind.ANNOTATE) is Kind.HEALTHY


def test_a_candidate_is_never_blamed_without_a_page() -> None:
    assert kind(replace(QUIET, rollout=WORSE)) is Kind.HEALTHY


def test_what_a_break_leaves_behind_is_no_reason_to_retrain() -> None:
    loss = replace(PAGED, groups=up(Group.LOSS, Group.FEATURES))
    assert kind(loss, Kind.UPSTREAM) is Kind.UPSTREAM
    assert kind(replace(PAGED, groups=up(Group.FEATURES)), Kind.UPSTREAM) is Kind.UPSTREAM
    assert kind(QUIET, Kind.UPSTREAM) is Kind.HEALTHY
    worse = replace(PAGED, groups=up(Group.COMPARISON), rollout=WORSE)
    assert kind(worse, Kind.UPSTREAM) is Kind.ROLLBACK


def test_rows_that_do_not_fit_page_without_evidence_and_block_a_retraining() -> None:
    misfits = ("input x has 5 values a row, the reference 6",)
    assert kind(replace(QUIET, misfits=misfits)) is Kind.UPSTREAM
    loss = replace(PAGED, groups=up(Group.LOSS, Group.FEATURES), misfits=misfits)
    assert kind(loss) is Kind.UPSTREAM


ESTIMATE_ALONE = replace(
    PAGED, groups=up(Group.ESTIMATED), without_estimate=log(SETTINGS.budget_s) - 0.1
)


def test_an_estimated_loss_pages_and_warns_and_says_that_labels_are_pending() -> None:
    verdict = judge(ESTIMATE_ALONE, SETTINGS, Kind.HEALTHY)
    assert (verdict.kind, verdict.reason) == (
        Kind.PAGE,
        "the loss is likely up: it is estimated so, and labels have yet to say it",
    )
    moved = replace(ESTIMATE_ALONE, groups=up(Group.ESTIMATED, Group.FEATURES))
    assert kind(moved) is Kind.PAGE
    assert kind(replace(ESTIMATE_ALONE, total=SETTINGS.warn + 0.1)) is Kind.WARN
    broken = replace(ESTIMATE_ALONE, broken=("x is missing",))
    assert kind(broken) is Kind.UPSTREAM
    assert kind(ESTIMATE_ALONE, Kind.UPSTREAM) is Kind.UPSTREAM


@pytest.mark.parametrize("standing", [*Kind])
def test_an_estimated_loss_never_leads_alone_to_a_rollback_or_a_retraining(standing: Kind) -> None:
    worse = replace(ESTIMATE_ALONE, rollout=WORSE)
    loss = replace(ESTIMATE_ALONE, groups=up(Group.ESTIMATED, Group.LOSS, Group.FEATURES))
    below = SETTINGS.warn - 1.1  # even for a verdict that stands
    for evidence in (worse, loss):
        assert kind(replace(evidence, without_estimate=below), standing) in (
            Kind.PAGE,
            Kind.UPSTREAM,
        )
        if standing not in (Kind.ROLLBACK, Kind.RETRAIN):
            assert kind(evidence, standing) in (Kind.PAGE, Kind.UPSTREAM)


def test_beside_evidence_that_pages_without_it_an_estimated_loss_is_named() -> None:
    loss = replace(
        PAGED, groups=up(Group.ESTIMATED, Group.LOSS, Group.FEATURES), without_estimate=UP
    )
    verdict = judge(loss, SETTINGS, Kind.HEALTHY)
    assert verdict.kind is Kind.RETRAIN
    assert "as the estimated loss is" in verdict.reason
    assert kind(replace(PAGED, rollout=WORSE, without_estimate=UP)) is Kind.ROLLBACK
    between = replace(loss, total=SETTINGS.warn + 0.5, without_estimate=SETTINGS.warn + 0.5)
    assert kind(between, Kind.RETRAIN) is Kind.RETRAIN
    # What an estimate has raised does not lower what is asked of the rest.
    assert kind(between, Kind.PAGE) is Kind.PAGE
