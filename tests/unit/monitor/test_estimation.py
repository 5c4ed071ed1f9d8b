"""Performance without labels: what is counted, when it is withheld, and the page on it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitor.core.block import ModelBlock, Part
from monitor.core.estimation import ESTIMATED, Reason
from monitor.core.estimation.answered import UNIT, AnsweredScores, count_scores
from monitor.core.estimation.calibration import GROUP_ROWS, MIDDLE, WIDTH_MAX, Calibration
from monitor.core.estimation.disagreement import disagree
from monitor.core.estimation.estimation import CLASS_MIN, LABELS_MIN
from monitor.core.model_state import ModelState
from monitor.core.performance.answers import NumberAnswer, answer_of, of_probability
from monitor.core.performance.score_histogram import (
    BINS,
    ScoreHistogram,
    bin_edges,
    bin_of,
    bins_of,
)
from monitor.core.predictions import find_output, infer_spec
from monitor.core.tree import pack, unpack
from monitor.performance_documents import performance_document
from tests.conftest import ROOT
from tests.estimation_world import FIRST, Run, World, add_rows
from tests.monitor_world import BLOCK_NS, MODEL, SETTINGS

SEED = 20261129
SAME, SHIFTED = World(), World(mean=0.7)
TURNED = World(slope=-1.5)  # another concept
COMMON = World(base=0.9)  # more rows of the positive class, the scores as they were
WINDOW = SETTINGS.window_blocks


def shown(state: ModelState) -> dict[str, Any]:
    (version,) = performance_document(state)
    found: dict[str, Any] = version["estimated"]
    return found


def labels(scores: np.ndarray, truth: np.ndarray) -> ScoreHistogram:
    found = ScoreHistogram()
    for score, is_true in zip(scores.tolist(), truth.tolist(), strict=True):
        found.add(score, is_true)
    return found


# -- what is counted ---------------------------------------------------------------


def test_bins_of_many_scores_are_those_of_each_and_lie_between_their_edges() -> None:
    random = np.random.default_rng(SEED)
    ends = [0.0, 1.0, 0.5, 1e-300, 2.0**-30, 2.0**-29, 1 - 2.0**-30, np.nextafter(0.5, 0)]
    tails = 10.0 ** -random.uniform(0, 12, 2000)
    scores = np.concatenate([ends, random.random(2000), tails, 1 - tails])
    places = bins_of(scores)
    assert places.tolist() == [bin_of(score) for score in scores.tolist()]
    low, high = bin_edges()
    assert len(low) == len(high) == BINS
    assert np.all((low[places] <= scores) & (scores <= high[places]))


@pytest.mark.parametrize(
    "outputs",
    [
        {"label": np.array([1, 0, 1]), "p": np.array([[0.2, 0.8], [0.9, 0.1], [np.nan, 1.0]])},
        {"p": np.array([[0.2, 0.8], [0.5, 0.5], [3.0, -2.0]], dtype=np.float32)},
        {"p": np.array([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])},
        {"label": np.array([1, 0, 2]), "p": np.array([[0.2, 0.8], [1.004, -0.004], [0.7, 0.3]])},
        {"a": np.array([[5.0, 7.0]] * 3), "label": np.array([1, 1, 0]), "z": np.eye(3)[:, :2]},
        {"score": np.array([0.7, np.nan, 1.5])},
        {"score": np.array([0.5, 0.0, 1.0], dtype=np.float32)},
        {"label": np.array([b"yes", b"no", b"1"], dtype=object)},
    ],
)
def test_rows_have_the_scores_that_they_would_have_with_a_label(
    outputs: dict[str, np.ndarray],
) -> None:
    expected, unscored = np.zeros((BINS, 2), dtype=np.int64), 0
    spec = infer_spec(outputs)
    assert spec is not None
    output = find_output(outputs, spec)
    assert output is not None
    for row in range(3):
        answer = answer_of(output, outputs, spec, None, row, 0.0)
        if isinstance(answer, NumberAnswer):
            probability = of_probability(answer)
            if probability is None:
                unscored += 1
                continue
            answer = probability
        if answer.scores is None or answer.scores.positive is None or answer.said not in "01":
            unscored += 1
        else:
            expected[bin_of(answer.scores.positive), int(answer.said == "1")] += 1
    found = count_scores([Part({}, outputs)], None)
    assert found.rows.tolist() == expected.tolist()
    assert found.unscored == unscored
    halves = (
        {name: tensor[at] for name, tensor in outputs.items()} for at in (np.s_[:1], np.s_[1:])
    )
    split = count_scores([Part({}, half) for half in halves], None)
    assert pack(split.to_tree()) == pack(found.to_tree())


def test_rows_that_failed_have_no_outputs_and_no_part() -> None:
    assert count_scores([Part({"x": np.zeros((3, 1))}, {})], None).to_tree() == [0, []]


def test_scores_are_summed_to_the_bit_in_any_order() -> None:
    random = np.random.default_rng(SEED)
    scores = random.random(500)
    one, other = AnsweredScores(), AnsweredScores()
    one.add(scores, scores > 0.4, 3)
    for score in scores[::-1]:
        part = AnsweredScores()
        part.add(np.array([score]), np.array([score > 0.4]))
        other.merge(part)
    other.merge(AnsweredScores(unscored=3))
    assert json.dumps(one.to_tree()) == json.dumps(other.to_tree())
    again = AnsweredScores.from_tree(unpack(pack(one.to_tree())))
    assert pack(again.to_tree()) == pack(one.to_tree())
    assert one.units.sum() * UNIT == pytest.approx(scores.sum(), abs=500 * UNIT)


# -- the calibration ---------------------------------------------------------------


def test_groups_are_bounded_and_hold_all_labels() -> None:
    random = np.random.default_rng(SEED)
    scores, truth = SAME.draw(random, 3000)
    found = Calibration.of(labels(scores, truth))
    assert (found.rows.sum(), found.positives.sum()) == (3000, truth.sum())
    assert np.all(np.diff(found.at) > 0)
    assert np.all(found.high - found.low <= WIDTH_MAX)
    assert np.all(found.weights(MIDDLE).sum(axis=1) == pytest.approx(1.0))
    assert len(found.rows) <= 41


def test_a_score_that_few_labels_had_is_not_held_nor_is_one_beyond_all() -> None:
    scores = np.concatenate([np.full(300, 0.1), np.full(GROUP_ROWS - 1, 0.5), np.full(300, 0.9)])
    found = Calibration.of(labels(scores, scores > 0.3))
    assert found.holds(np.array([0.1, 0.11, 0.3, 0.5, 0.9, 0.99])).tolist() == [
        *(True, True, False, False, True, False)
    ]


def test_one_score_alone_is_one_group() -> None:
    found = Calibration.of(labels(np.full(40, 0.25), np.arange(40) < 10))
    assert found.weights(np.array([0.0, 0.25, 1.0])).tolist() == [[1.0], [1.0], [1.0]]
    assert found.shares.tolist() == [0.25]


# -- when it is withheld -----------------------------------------------------------


def test_after_a_shift_of_inputs_alone_it_says_what_labels_say_much_later() -> None:
    run = Run(SEED)
    run.run(SAME, 2 * WINDOW)
    run.run(SHIFTED, WINDOW, labelled=0.0)
    scores, truth = run.run(SHIFTED, WINDOW, labelled=0.0)
    found = shown(run.state)
    assert found["reason"] is None
    assert found["rows"] in range(WINDOW * 100, 2 * WINDOW * 100 + 1)
    assert found["labels"] == (2 * WINDOW - 1) * 100  # the last block's came in the window
    (accuracy,) = (item for item in found["measures"] if item["name"] == "accuracy")
    assert accuracy["low"] <= np.mean((scores >= 0.5) == truth) <= accuracy["high"]
    assert [item["name"] for item in found["measures"]] == list(ESTIMATED)
    for item in found["measures"]:
        assert item["low"] < item["value"] < item["high"]


@pytest.mark.parametrize("changed", [TURNED, COMMON])
def test_a_changed_concept_withholds_it_once_labels_show_it_until_new_ones_are_enough(
    changed: World,
) -> None:
    run = Run(SEED)
    run.run(SAME, 2 * WINDOW)
    run.run(SAME, 2 * WINDOW, labelled=0.1)
    assert shown(run.state)["reason"] is None
    run.run(changed, 2 * WINDOW, labelled=0.0)
    assert shown(run.state)["reason"] is None  # nobody can know
    run.run(changed, WINDOW, labelled=0.5)
    assert shown(run.state)["reason"] == Reason.LABELS_DISAGREE
    scores, truth = run.run(changed, 5 * WINDOW, labelled=0.5)
    found = shown(run.state)
    assert found["reason"] is None
    (accuracy,) = (item for item in found["measures"] if item["name"] == "accuracy")
    assert accuracy["value"] == pytest.approx(np.mean((scores >= 0.5) == truth), abs=0.05)


def test_after_a_changed_concept_few_new_labels_are_not_a_calibration() -> None:
    run = Run(SEED)
    run.run(SAME, 2 * WINDOW - 1)
    run.run(SAME, 1, labelled=0.0)
    run.run(TURNED, WINDOW, labelled=0.09)
    run.run(TURNED, 3 * WINDOW, labelled=0.0)
    found = shown(run.state)
    assert found["labels"] < LABELS_MIN
    assert found["reason"] == Reason.LABELS_DISAGREE


def test_without_labels_from_before_the_window_there_is_nothing_to_calibrate_by() -> None:
    run = Run(SEED)
    run.run(SAME, WINDOW)
    assert shown(run.state)["reason"] == Reason.TOO_FEW_LABELS
    one_class = Run(SEED)
    one_class.run(World(base=-30.0), 3 * WINDOW)
    assert shown(one_class.state)["labels"] > LABELS_MIN
    assert shown(one_class.state)["reason"] == Reason.TOO_FEW_LABELS
    assert CLASS_MIN > 0


def test_scores_that_no_labels_had_withhold_it() -> None:
    run = Run(SEED)
    run.run(World(mean=-2.0), 2 * WINDOW, labelled=0.5)
    run.run(World(mean=-2.0), 2 * WINDOW, labelled=0.0)
    assert shown(run.state)["reason"] is None
    run.run(World(mean=2.0), WINDOW, labelled=0.0)
    assert shown(run.state)["reason"] == Reason.BEYOND_LABELS


def test_rows_answered_while_data_was_broken_withhold_it_as_long_as_they_are_in_the_window() -> (
    None
):
    run = Run(SEED)
    run.run(SAME, 2 * WINDOW)
    run.state.mending.broke(run.index * BLOCK_NS)
    assert shown(run.state)["reason"] == Reason.BROKEN_DATA
    run.state.mending.end((run.index + 1) * BLOCK_NS)
    run.run(SAME, WINDOW)
    assert shown(run.state)["reason"] == Reason.BROKEN_DATA
    run.run(SAME, 2 * WINDOW)
    assert shown(run.state)["reason"] is None


def test_a_window_of_few_rows_or_of_rows_without_scores_withholds_it() -> None:
    run = Run(SEED)
    run.run(SAME, 2 * WINDOW)
    block = ModelBlock(run.index + 10 * WINDOW)
    add_rows(block, np.array([0.5] * 29))
    run.state.close(block, lambda *_: None)
    assert shown(run.state)["reason"] == Reason.TOO_FEW_ROWS
    block = ModelBlock(block.index + 10 * WINDOW)
    add_rows(block, np.array([0.5] * 97 + [np.nan] * 3))
    run.state.close(block, lambda *_: None)
    assert shown(run.state)["reason"] == Reason.NO_SCORES
    block = ModelBlock(block.index + 10 * WINDOW)
    block.arm(next(iter(run_arms(run)))).add(0, 0, 100, 0)  # outputs that the log withholds
    run.state.close(block, lambda *_: None)
    assert shown(run.state)["reason"] == Reason.NO_SCORES


def run_arms(run: Run) -> list[Any]:
    block = ModelBlock(FIRST)
    add_rows(block, np.zeros(1))
    return list(block.arms)


def test_columns_whose_names_are_wrong_give_none() -> None:
    run = Run(SEED)
    run.run(SAME, 2 * WINDOW)
    scores = run.state.performance.versions["d"].whole.since.classes.scores
    scores.agreeing = scores.rows // 2
    assert shown(run.state)["reason"] == Reason.NAMES_UNKNOWN


def test_labels_that_only_lie_elsewhere_do_not_disagree() -> None:
    random = np.random.default_rng(SEED)
    calibration = Calibration.of(labels(*SAME.draw(random, 5000)))
    looks = 200
    found = sum(disagree(calibration, labels(*SHIFTED.draw(random, 500))) for _ in range(looks))
    assert found <= 2
    assert disagree(calibration, labels(*COMMON.draw(random, 500)))
    assert not disagree(calibration, ScoreHistogram())
    assert not disagree(calibration, labels(*TURNED.draw(random, 29)))


# -- stored and shown --------------------------------------------------------------


def test_a_restart_between_any_two_blocks_changes_nothing() -> None:
    def run(*, stored: bool) -> bytes:
        world = Run(SEED)
        world.rows_per_block = 30
        for _ in range(3 * WINDOW):
            world.run(SAME, 1)
            if stored:
                tree = unpack(pack(world.state.to_tree()))
                world.state = ModelState.from_tree(MODEL, tree, SETTINGS, lambda *_: None)
        assert shown(world.state)["reason"] is None
        return pack(world.state.to_tree())

    assert run(stored=True) == run(stored=False)


def test_labels_that_come_after_a_long_silence_join_the_calibration_all_the_same() -> None:
    run = Run(SEED)
    run.run(SAME, WINDOW)
    run.index += 10 * WINDOW
    run.run(SAME, 1, labelled=0.0)
    assert shown(run.state)["reason"] is None
    assert shown(run.state)["labels"] == (WINDOW - 1) * 100


def test_the_page_names_every_reason_and_measure() -> None:
    """What it prints on failure is what belongs on the page."""
    page = (ROOT / "docs" / "model-performance.md").read_text()
    rows = "\n".join(f"| `{reason.value}` | {reason.sentence} |" for reason in Reason)
    assert rows in page, rows
    names = ", ".join(f"`{name}`" for name in ESTIMATED)
    assert names in page, names


def test_settings_of_another_window_give_another_one() -> None:
    state = ModelState(MODEL, replace(SETTINGS, window_blocks=5))
    run = Run(SEED, state)
    run.run(SAME, 3 * WINDOW)
    assert shown(run.state)["rows"] <= 1000
