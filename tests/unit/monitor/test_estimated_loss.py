"""Evidence on the loss before its labels come: what gathers it, and what makes it void."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from driftgate.commands.monitor_status import model_lines
from monitor.core.estimation.answered import AnsweredScores
from monitor.core.estimation.calibration import Calibration
from monitor.core.estimation.estimated_loss import estimated_loss
from monitor.core.estimation.reason import Reason
from monitor.core.events import Group
from monitor.core.evidence import NOTHING
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.core.performance.score_histogram import ScoreHistogram
from monitor.core.predictions import LOSS_UNITS
from monitor.core.profile import LossReference, PredictionKind, PredictionSpec, ReferenceProfile
from monitor.core.tree import pack, unpack
from monitor.documents import state_document
from monitor.metrics import expose, make_registry
from monitor.performance_documents import performance_document
from monitor.published import Published, Snapshot
from tests.estimation_world import Run, World
from tests.monitor_world import MODEL, SETTINGS

SEED = 20261129
WINDOW = SETTINGS.window_blocks
SAME, TURNED = World(), World(slope=-1.5)
HARD = World(spread=0.3)  # where the scores themselves say that they know little
EASY = World(mean=1.5)


def error_of(world: World) -> float:
    scores, truth = world.draw(np.random.default_rng(SEED), 200_000)
    return float(np.mean((scores >= 0.5) != truth))


PROFILE = ReferenceProfile(
    rows=20_000,
    features=(),
    prediction=PredictionSpec(PredictionKind.CLASS, "label"),
    loss=LossReference(error_of(SAME), 0.003, 20_000),
)


def started(profile: ReferenceProfile = PROFILE) -> Run:
    """Labels came for a while, and come no more."""
    run = Run(SEED, profile=profile)
    run.run(SAME, 3 * WINDOW)
    run.run(SAME, 2 * WINDOW, labelled=0.0)
    return run


def evidence(run: Run, group: Group = Group.ESTIMATED) -> float:
    return run.state.groups()[group]


def reason(run: Run) -> str | None:
    (version,) = performance_document(run.state)
    found: str | None = version["estimated"]["reason"]
    return found


def test_a_shift_to_rows_that_are_harder_pages_before_any_label_comes() -> None:
    run = started()
    assert evidence(run) < SETTINGS.warn
    run.run(HARD, 3 * WINDOW, labelled=0.0)
    assert reason(run) is None
    assert evidence(run) >= SETTINGS.page
    assert evidence(run, Group.LOSS) < SETTINGS.warn
    kinds = {verdict.kind for verdict in run.verdicts}
    assert Kind.PAGE in kinds
    assert not kinds & {Kind.ROLLBACK, Kind.RETRAIN}
    assert "labels have yet to say it" in run.verdicts[-1].reason


def test_its_labels_then_say_the_same_and_ask_for_a_training() -> None:
    run = started()
    run.run(HARD, 4 * WINDOW, labelled=0.0)
    assert run.state.standing is Kind.PAGE
    run.run(HARD, 2 * WINDOW)
    assert evidence(run, Group.LOSS) >= SETTINGS.page
    assert run.state.standing is Kind.RETRAIN


@pytest.mark.parametrize("world", [SAME, EASY])
def test_rows_that_are_as_hard_as_before_or_easier_bring_none(world: World) -> None:
    run = started()
    run.run(world, 10 * WINDOW, labelled=0.0)
    assert reason(run) is None
    assert evidence(run) < SETTINGS.warn
    assert {verdict.kind for verdict in run.verdicts} == {Kind.HEALTHY}


def test_a_changed_concept_is_not_seen_and_labels_that_show_it_void_the_evidence() -> None:
    run = started()
    run.run(TURNED, 2 * WINDOW, labelled=0.0)
    assert evidence(run) < SETTINGS.warn
    hard = started()
    hard.run(HARD, 3 * WINDOW, labelled=0.0)
    assert evidence(hard) >= SETTINGS.page
    hard.run(replace(HARD, slope=-9.0), WINDOW, labelled=0.5)
    assert reason(hard) == Reason.LABELS_DISAGREE
    assert evidence(hard) == NOTHING


def test_there_is_none_without_labels_from_before_or_without_a_bound() -> None:
    run = Run(SEED, profile=PROFILE)
    run.run(SAME, WINDOW)
    assert reason(run) == Reason.TOO_FEW_LABELS
    assert evidence(run) == NOTHING
    boundless = started(replace(PROFILE, loss=None))
    boundless.run(HARD, WINDOW, labelled=0.0)
    assert reason(boundless) is None
    assert evidence(boundless) == NOTHING
    nameless = started(replace(PROFILE, prediction=None))
    nameless.run(HARD, WINDOW, labelled=0.0)
    assert evidence(nameless) == NOTHING


def test_bets_on_rows_see_it_as_well() -> None:
    state = ModelState(MODEL, replace(SETTINGS, independent_rows=True))
    run = Run(SEED, state, PROFILE)
    run.run(SAME, 3 * WINDOW)
    run.run(SAME, 2 * WINDOW, labelled=0.0)
    assert evidence(run) < SETTINGS.warn
    run.run(HARD, WINDOW, labelled=0.0)
    assert evidence(run) >= SETTINGS.page


def test_a_restart_between_any_two_blocks_changes_no_evidence() -> None:
    def run(*, stored: bool) -> bytes:
        world = started()
        world.run(HARD, 2 * WINDOW, labelled=0.0)
        for _ in range(WINDOW // 2):
            world.run(HARD, 1, labelled=0.2)
            if stored:
                tree = unpack(pack(world.state.to_tree()))
                world.state = ModelState.from_tree(MODEL, tree, SETTINGS, lambda *_: PROFILE)
        assert evidence(world) > SETTINGS.warn
        return pack(world.state.to_tree())

    assert run(stored=True) == run(stored=False)


def test_the_state_the_status_and_the_metrics_say_how_high_it_is_or_why_there_is_none() -> None:
    run = started()
    run.run(HARD, 2 * WINDOW, labelled=0.0)
    document, text, line = shown(run)
    found = document["estimated_loss"]
    assert error_of(SAME) + 0.05 < found["value"] < error_of(HARD)
    assert (found["reason"], found["sentence"]) == (None, "")
    value = f'driftgate_monitor_loss_ratio{{model="m",of="estimated"}} {found["value"]}'
    assert value in text
    assert line == ["estimated", "5%", f"{document['groups_s']['estimated']:.0f}"]
    waiting = Run(SEED, profile=PROFILE)
    waiting.run(SAME, WINDOW)
    document, text, line = shown(waiting)
    assert document["estimated_loss"]["reason"] == Reason.TOO_FEW_LABELS
    assert 'of="estimated"' not in text
    assert line == ["estimated", "5%", "withheld:"]
    boundless = Run(SEED, profile=replace(PROFILE, loss=None))
    boundless.run(SAME, WINDOW)
    document, text, line = shown(boundless)
    assert document["estimated_loss"] is None
    assert 'of="estimated"' not in text
    assert line == ["estimated", "5%", "not"]


def shown(run: Run) -> tuple[dict[str, Any], str, list[str]]:
    """The state, the metrics, and the first words of the line of the status."""
    document = state_document(run.state, None, {})
    text = expose(make_registry(Published(Snapshot(ready=True, models={MODEL: document})))).decode()
    (line,) = [line for line in model_lines(document) if line.startswith("    estimated")]
    return document, text, line.split()[:3]


# -- of one block ------------------------------------------------------------------


def calibrated(scores: np.ndarray, truth: np.ndarray) -> Calibration:
    labelled = ScoreHistogram()
    for score, is_true in zip(scores.tolist(), truth.tolist(), strict=True):
        labelled.add(score, is_true)
    return Calibration.of(labelled)


def answered(scores: np.ndarray, unscored: int = 0) -> AnsweredScores:
    found = AnsweredScores()
    found.add(scores, scores >= 0.5, unscored)
    return found


def test_rows_that_the_calibration_says_nothing_of_cost_nothing() -> None:
    calibration = calibrated(*World(mean=-2.0, spread=0.5).draw(np.random.default_rng(SEED), 3000))
    found = estimated_loss(answered(np.full(10, 0.99), unscored=5), calibration, None)
    assert (found.rows, found.units) == (15, 0)
    assert estimated_loss(AnsweredScores(), calibration, None).rows == 0


def test_a_probability_that_is_the_answer_costs_its_distance_over_the_range() -> None:
    random = np.random.default_rng(SEED)
    scores = np.repeat([0.2, 0.6], 50_000)
    calibration = calibrated(scores, random.random(len(scores)) < scores)
    found = estimated_loss(answered(np.full(1000, 0.2)), calibration, 0.5)
    # 0.8 / 0.5 is more than all; 0.2 / 0.5 of the rest.
    assert found.units / LOSS_UNITS / 1000 == pytest.approx(0.2 * 1.0 + 0.8 * 0.4, abs=0.01)
    of_classes = estimated_loss(answered(np.full(1000, 0.6)), calibration, None)
    assert of_classes.units / LOSS_UNITS / 1000 == pytest.approx(0.4, abs=0.02)


# -- silence -----------------------------------------------------------------------


@pytest.mark.parametrize("independent", [False, True])
def test_weeks_without_labels_are_no_evidence_on_the_loss(*, independent: bool) -> None:
    state = ModelState(MODEL, replace(SETTINGS, independent_rows=independent))
    run = Run(SEED, state, PROFILE)
    for _ in range(4):
        run.run(SAME, 2, labelled=0.0)
        run.index += 8 * 86_400
    assert evidence(run, Group.LOSS) < np.log(3600.0)
    assert run.state.total_evidence() < np.log(3600.0)
