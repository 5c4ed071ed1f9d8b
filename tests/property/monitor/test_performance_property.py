"""Measures equal their plain definitions, and tallies merge exactly, however rows are split."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.performance import MEASURES
from monitor.core.performance.answers import Answer, ClassAnswer, NumberAnswer, scores_of
from monitor.core.performance.class_tally import CLASSES_MAX
from monitor.core.performance.tally import LabelledRow, Tally
from monitor.core.tree import pack, unpack
from tests.property.monitor import plain_performance as plain

NAMES = ("0", "1", "2", "10")
PAIR = ("precision", "recall", "f1")
ENDS = st.sampled_from([0.0, 1.0, 0.5, 1e-9, 1e300, -1e300, 5e-324, float("nan"), float("inf")])
SIZES = ENDS | st.floats(-1e3, 1e3, width=32)


def tally_of(answers: Sequence[Answer]) -> Tally:
    tally = Tally()
    for i, answer in enumerate(answers):
        tally.add(LabelledRow(0, i * 10**8, answer))
    return tally


def value(tally: Tally, name: str) -> float | None:
    found = MEASURES[name].estimate(tally)
    return None if found is None else found.value


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, list[int], list[Answer]]:
    """Rows of 2 to 4 classes with probabilities, ties and certainties among them."""
    classes = draw(st.integers(2, 4))
    weights = st.lists(st.integers(0, 5), min_size=classes, max_size=classes).filter(any)
    rows = draw(st.lists(st.tuples(weights, st.integers(0, classes - 1)), min_size=1, max_size=40))
    scores = np.array([np.array(row) / sum(row) for row, _ in rows])
    truth = [column for _, column in rows]
    names = NAMES[:classes]
    answers: list[Answer] = []
    for row, column in zip(scores, truth, strict=True):
        said, true = names[int(np.argmax(row))], names[column]
        positive = "1" if classes == 2 else ""
        found = scores_of(row.tolist(), names, said, true)
        answers.append(ClassAnswer(said, true, positive, found))
    return scores, truth, answers


@given(scored())
def test_measures_of_classes_equal_their_definitions(
    drawn: tuple[np.ndarray, list[int], list[Answer]],
) -> None:
    scores, column, answers = drawn
    tally, columns = tally_of(answers), np.array(column)
    said = [NAMES[i] for i in scores.argmax(axis=1)]
    truth = [NAMES[i] for i in column]
    expected = {
        "accuracy": plain.accuracy(said, truth),
        "log_loss": plain.log_loss(scores, columns),
        "brier": plain.brier(scores, columns),
        "ece": plain.calibration_error(scores, columns),
    }
    if scores.shape[1] == 2:
        expected |= {name: getattr(plain, name)(said, truth, "1") for name in PAIR}
        auc = MEASURES["roc_auc"].estimate(tally)
        exact = plain.roc_auc(scores[:, 1], columns == 1)
        assert auc is not None
        if np.isnan(exact):
            assert np.isnan(auc.value)
        else:
            assert abs(auc.value - exact) <= auc.binning + 1e-12
    elif {*said, *truth} - {"0", "1"}:
        expected |= {f"macro_{name}": plain.macro(name, said, truth) for name in PAIR}
    for name, wanted in expected.items():
        assert value(tally, name) == pytest.approx(wanted, abs=1e-9, nan_ok=True), name


@given(scored(), st.sets(st.integers(0, 39), max_size=3))
def test_each_class_against_the_rest_equals_counting_pairs_to_within_its_bins(
    drawn: tuple[np.ndarray, list[int], list[Answer]], strange: set[int]
) -> None:
    """strange: rows of a class that has no column."""
    scores, column, answers = drawn
    if scores.shape[1] == 2:
        assert value(tally_of(answers), "macro_roc_auc") is None
        return
    columns = np.array([-1 if i in strange else k for i, k in enumerate(column)])
    names = NAMES[: scores.shape[1]]
    rows: list[Answer] = []
    for row, k in zip(scores, columns, strict=True):
        said, true = names[int(np.argmax(row))], names[k] if k >= 0 else "strange"
        rows.append(ClassAnswer(said, true, "", scores_of(row.tolist(), names, said, true)))
    tally = tally_of(rows)
    exact = plain.ranked_classes(scores, columns)
    for name, wanted in zip(("macro_roc_auc", "weighted_roc_auc"), exact, strict=True):
        found = MEASURES[name].estimate(tally)
        assert found is not None
        assert np.isnan(found.value) == np.isnan(wanted) == bool(found.undefined), name
        if not np.isnan(wanted):
            assert abs(found.value - wanted) <= found.binning + 1e-12, name
            assert 0.0 <= found.low <= found.value <= found.high <= 1.0, name


@given(st.lists(st.tuples(SIZES, SIZES.filter(np.isfinite)), min_size=1, max_size=40))
def test_measures_of_numbers_equal_their_definitions(rows: list[tuple[float, float]]) -> None:
    tally = tally_of([NumberAnswer(said, truth) for said, truth in rows])
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.array([said - truth for said, truth in rows])
    finite = [row for row, e in zip(rows, error, strict=True) if np.isfinite(e)]
    assert tally.numbers.rows + tally.numbers.nonfinite == len(rows)
    assert tally.numbers.rows == len(finite)
    found = [MEASURES[name].estimate(tally) for name in ("mae", "rmse", "r2")]
    assert all(item is not None for item in found) == bool(finite)
    if not finite or max(abs(x) for row in finite for x in row) > 1e9:
        return  # where plain floats overflow there is nothing to compare with
    said, truth = (np.array(side) for side in zip(*finite, strict=True))
    for name, wanted in plain.numbers(said, truth).items():
        if name == "r2" and truth.std() < max(1e-3 * np.abs(truth).max(), 1e-100):
            continue  # where plain floats cancel, or are too small to square
        assert value(tally, name) == pytest.approx(wanted, rel=1e-6, abs=1e-12, nan_ok=True), name
    middle = plain.median_error(said, truth)
    assert value(tally, "median_absolute_error") == pytest.approx(middle, rel=1 / 30, abs=1e-18)


def test_exact_sums_keep_what_floats_lose() -> None:
    """A spread of 1 about 10^9: raw moments of floats would have no digit of it left."""
    random = np.random.default_rng(20261128)
    truth = 1e9 + random.normal(size=500)
    said = truth + 0.5 * random.normal(size=500)
    tally = tally_of(
        [NumberAnswer(*row) for row in zip(said.tolist(), truth.tolist(), strict=True)]
    )
    found = MEASURES["r2"].estimate(tally)
    assert found is not None
    assert found.value == pytest.approx(plain.numbers(said, truth)["r2"], rel=1e-9)
    assert found.low < found.value < found.high


NUMBER = st.builds(NumberAnswer, SIZES, SIZES.filter(np.isfinite))


@given(
    st.lists(NUMBER, max_size=30) | scored().map(lambda drawn: drawn[2]),
    st.data(),
)
def test_any_split_in_any_order_merges_to_the_same_bytes(
    answers: list[Answer], data: st.DataObject
) -> None:
    whole = tally_of(answers)
    rows = [LabelledRow(0, i * 10**8, answer) for i, answer in enumerate(answers)]
    parts = [Tally() for _ in range(3)]
    for row in data.draw(st.permutations(rows)):
        parts[data.draw(st.integers(0, 2))].add(row)
    merged = Tally()
    for part in data.draw(st.permutations(parts)):
        merged.merge(Tally.from_tree(unpack(pack(part.to_tree()))))
    assert pack(merged.to_tree()) == pack(whole.to_tree())


def test_more_classes_than_are_told_apart_merge_the_same_in_any_order() -> None:
    seed = 20261128
    print("seed", seed)
    random = np.random.default_rng(seed)
    pairs = random.integers(0, 3 * CLASSES_MAX, size=(3000, 2))
    answers = [ClassAnswer(f"c{a}", f"c{min(a, b)}") for a, b in pairs]
    whole, merged = tally_of(answers), Tally()
    for part in np.array_split(random.permutation(len(answers)), 7):
        merged.merge(tally_of([answers[i] for i in part]))
    merged.delay = whole.delay  # which counts from the place in the list
    assert pack(merged.to_tree()) == pack(whole.to_tree())
    classes = merged.classes
    assert len(classes.of_class) == CLASSES_MAX
    counted = [*classes.of_class.values(), classes.others]
    assert sum(item.truth for item in counted) == len(answers)
    assert sum(item.said for item in counted) == len(answers)
    assert value(merged, "accuracy") == pytest.approx(np.mean(pairs[:, 0] <= pairs[:, 1]))
    assert np.isnan(value(merged, "macro_f1") or 0.0)
