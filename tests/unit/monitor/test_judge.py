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
