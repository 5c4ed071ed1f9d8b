"""Realised performance: what is read of a row, its intervals, its spans, and the page on it."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from monitor.core.block import STABLE, Arm, ArmRows, Outcome
from monitor.core.performance import MEASURES, Estimate, measures_with
from monitor.core.performance.answers import (
    COLUMNS_MAX,
    ClassAnswer,
    NumberAnswer,
    answer_of,
    class_order,
    scores_of,
)
from monitor.core.performance.book import VERSIONS_MAX, PerformanceBook
from monitor.core.performance.class_ranking_measures import NO_SCORES
from monitor.core.performance.class_rankings import RANKED_MAX
from monitor.core.performance.log_histogram import RELATIVE_ERROR, LogHistogram
from monitor.core.performance.score_histogram import HALF, bin_of
from monitor.core.performance.score_measures import NO_NAMES
from monitor.core.performance.spans import Span
from monitor.core.performance.tally import LabelledRow, Tally
from monitor.core.predictions import find_output, infer_spec
from monitor.core.profile import PredictionKind, PredictionSpec, ReferenceProfile
from monitor.core.tree import pack, unpack
from monitor.profile import FeatureSpec, build_profile
from tests.conftest import ROOT

SEED = 20261128
HEAD = [
    "| name | measure | of | better | definition | interval | source |",
    "|---|---|---|---|---|---|---|",
]


def tally_of(*answers: ClassAnswer | NumberAnswer) -> Tally:
    tally = Tally()
    for answer in answers:
        tally.add(LabelledRow(0, 10**9, answer))
    return tally


def estimate(tally: Tally, name: str) -> Estimate:
    found = MEASURES[name].estimate(tally)
    assert found is not None
    return found


def applying(tally: Tally) -> set[str]:
    return {name for name, measure in MEASURES.items() if measure.estimate(tally) is not None}


def read(
    outputs: dict[str, np.ndarray],
    label: float | str,
    profile: ReferenceProfile | None = None,
    row: int = 0,
) -> ClassAnswer | NumberAnswer:
    spec = (profile.prediction if profile else None) or infer_spec(outputs)
    assert spec is not None
    output = find_output(outputs, spec)
    assert output is not None
    return answer_of(output, outputs, spec, profile, row, label)


def reference(classes: list[str] | list[int]) -> ReferenceProfile:
    return build_profile(np.zeros((len(classes), 1)), [FeatureSpec("x")], np.array(classes), None)


# -- what is read of a row ---------------------------------------------------------


def test_scores_beside_a_class_are_found_and_other_outputs_are_not_taken_for_them() -> None:
    outputs = {
        "embedding": np.array([[3.0, -1.0]]),
        "label": np.array([1]),
        "probabilities": np.array([[0.25, 0.75]], dtype=np.float32),
    }
    found = read(outputs, 0.0)
    assert found == ClassAnswer("1", "0", "1", scores_of([0.25, 0.75], ("0", "1"), "1", "0"))
    assert found.scores is not None
    assert (found.scores.of_truth, found.scores.top, found.scores.positive) == (0.25, 0.75, 0.75)
    assert found.scores.squares == pytest.approx(0.75**2)


def test_columns_are_named_after_the_classes_of_the_reference_in_their_order() -> None:
    """As libraries order them: 2 before 10, words by their letters."""
    scores = np.array([[0.1, 0.7, 0.2]])
    numbered = read({"label": np.array([2]), "p": scores}, 10.0, reference([10, 2, 1, 2, 2]))
    assert isinstance(numbered, ClassAnswer)
    assert numbered.scores is not None
    assert numbered.scores.of_truth == 0.2
    assert numbered.scores.agrees
    words = np.array([b"dog"], dtype=object)
    named = read({"label": words, "p": scores}, "eel", reference(["eel", "dog", "cat"]))
    assert isinstance(named, ClassAnswer)
    assert named.scores is not None
    assert (named.scores.of_truth, named.scores.agrees) == (0.2, True)
    assert sorted(["b", "10", "-1", "2", "a"], key=class_order) == ["-1", "2", "10", "a", "b"]


@pytest.mark.parametrize(
    "row", [[np.nan, 1.0], [np.inf, 0.0], [2.0, -1.0], [0.3, 0.3], [-2.0, 3.0]]
)
def test_what_is_no_probability_leaves_a_row_unscored_and_labelled(row: list[float]) -> None:
    found = read({"scores": np.array([row])}, 1.0)
    assert isinstance(found, ClassAnswer)
    assert found.scores is None
    good = ClassAnswer("1", "1", "1", scores_of([0.2, 0.8], ("0", "1"), "1", "1"))
    tally = tally_of(found, good)
    assert estimate(tally, "accuracy").rows == 2
    assert estimate(tally, "brier").rows == 1


def test_an_output_too_wide_for_classes_is_not_read() -> None:
    wide = np.zeros((1, COLUMNS_MAX + 1))
    wide[0, 0] = 1.0
    found = read({"label": np.array([0]), "map": wide}, 0.0)
    assert found == ClassAnswer("0", "0")


def test_scores_whose_columns_are_of_unknown_classes_are_not_trusted() -> None:
    """Classes 1 to 3 and no reference: the columns would be taken for 0 to 2."""
    rows = np.eye(3) * 0.7 + 0.1
    answers = [read({"label": np.array([i + 1]), "p": rows[i : i + 1]}, i + 1.0) for i in range(3)]
    tally = tally_of(*answers)
    assert estimate(tally, "accuracy").value == 1.0
    assert all(isnan(estimate(tally, name).value) for name in ("log_loss", "brier", "ece"))


def test_a_number_that_is_a_probability_is_measured_as_one_too() -> None:
    pairs = [(0.9, 1.0), (0.2, 0.0), (0.6, 0.0), (0.3, 1.0)]
    tally = tally_of(*(NumberAnswer(said, truth) for said, truth in pairs))
    assert estimate(tally, "mae").value == pytest.approx(0.4)
    assert estimate(tally, "accuracy").value == 0.5
    assert estimate(tally, "roc_auc").value == 0.75
    assert estimate(tally, "brier").value == pytest.approx(np.mean([0.01, 0.04, 0.36, 0.49]))
    tally.add(LabelledRow(0, 0, NumberAnswer(0.5, 2.0)))  # so it was none
    assert applying(tally) == {"mae", "rmse", "median_absolute_error", "r2"}


def test_named_scores_are_read_by_their_names() -> None:
    spec = PredictionSpec(PredictionKind.SCORES, "p", ("no", "yes"))
    scores = np.array([[0.1, 0.9]])
    found = answer_of(scores, {"p": scores}, spec, None, 0, "yes")
    expected = scores_of([0.1, 0.9], ("no", "yes"), "yes", "yes")
    assert found == ClassAnswer("yes", "yes", "yes", expected)


# -- what is not defined -----------------------------------------------------------


def test_without_labels_there_is_no_measure() -> None:
    assert applying(Tally()) == set()
    assert isnan(Tally().coverage)
    assert isnan(Tally().delay.quantile(0.5))


def test_one_class_alone_leaves_undefined_what_needs_two() -> None:
    zero = ClassAnswer("0", "0", "1", scores_of([0.9, 0.1], ("0", "1"), "0", "0"))
    tally = tally_of(zero, zero, zero)
    assert estimate(tally, "accuracy").value == 1.0
    for name in ("precision", "recall", "f1", "roc_auc"):
        found = estimate(tally, name)
        assert isnan(found.value), name
        assert isnan(found.low), name
    low = estimate(tally, "accuracy").low
    assert 0.3 < low < 0.5  # three rows prove little


def test_two_classes_without_scores_or_reference_are_0_and_1_or_have_no_positive_one() -> None:
    ones = tally_of(ClassAnswer("1", "1"), ClassAnswer("0", "1"))
    assert (estimate(ones, "precision").value, estimate(ones, "recall").value) == (1.0, 0.5)
    words = tally_of(ClassAnswer("yes", "yes"), ClassAnswer("no", "yes"))
    assert "precision" not in applying(words)
    assert "macro_recall" in applying(words)


def test_constant_and_infinite_numbers() -> None:
    constant = tally_of(*(NumberAnswer(2.0, 2.0) for _ in range(5)))
    assert estimate(constant, "mae").value == 0.0
    assert estimate(constant, "rmse").value == 0.0
    assert isnan(estimate(constant, "r2").value)
    wild = tally_of(NumberAnswer(np.inf, 1.0), NumberAnswer(np.nan, 1.0), NumberAnswer(3.0, 1.0))
    assert wild.numbers.nonfinite == 2
    assert estimate(wild, "mae").value == 2.0
    assert isnan(estimate(wild, "mae").low)  # of one row


def test_a_perfect_ranking_still_has_an_interval() -> None:
    rows = [ClassAnswer(c, c, "1", scores_of([1 - p, p], ("0", "1"), c, c)) for c, p in PERFECT]
    found = estimate(tally_of(*rows), "roc_auc")
    assert found.value == 1.0
    assert 0.6 < found.low < 0.9
    assert found.high == pytest.approx(1.0)
    assert found.binning == 0.0


def test_rows_of_equal_scores_count_one_half() -> None:
    pair = [0.75, 0.25]
    rows = [ClassAnswer("0", c, "1", scores_of(pair, ("0", "1"), "0", c)) for c in "001"]
    assert estimate(tally_of(*rows), "roc_auc").value == 0.5


PERFECT = [("0", 0.1 + i / 100) for i in range(10)] + [("1", 0.8 + i / 100) for i in range(10)]


# -- the ranking of more than two classes ------------------------------------------

ABC = ("a", "b", "c")
ONE_CLASS = "the labelled rows with scores are all of one class"
MANY = tuple(map(str, range(RANKED_MAX + 1)))


def of_three(said: str, truth: str, *scores: float, names: tuple[str, ...] = ABC) -> ClassAnswer:
    return ClassAnswer(said, truth, "", scores_of([*scores], names, said, truth))


A, B = of_three("a", "a", 0.6, 0.3, 0.1), of_three("b", "b", 0.2, 0.5, 0.3)
C = of_three("c", "c", 0.1, 0.2, 0.7)
D = of_three("a", "d", 0.6, 0.3, 0.1)  # of a class without a column
X = of_three("x", "x", 0.6, 0.3, 0.1, names=("x", "b", "c"))
WIDE = ClassAnswer("0", "0", "", scores_of([1.0] + [0.0] * RANKED_MAX, MANY, "0", "0"))


@pytest.mark.parametrize(
    ("answers", "macro", "weighted"),
    [
        ([A, B, C], "", ""),
        ([A, B, D], "no labelled row with scores is of class 'c'", ""),
        ([A, A], ONE_CLASS, ONE_CLASS),
        ([D, D], ONE_CLASS, ONE_CLASS),
        ([A, B, X], *["the rows do not all have scores of the same classes"] * 2),
        ([WIDE], *["more than 32 classes are not ranked"] * 2),
        ([of_three("b", "a", 0.6, 0.3, 0.1)], NO_NAMES, NO_NAMES),
        ([ClassAnswer("a", "a"), ClassAnswer("b", "c")], *[NO_SCORES] * 2),
    ],
)
def test_why_a_ranking_of_many_classes_is_not_defined_is_said(
    answers: list[ClassAnswer], macro: str, weighted: str
) -> None:
    tally = tally_of(*answers)
    for name, reason in (("macro_roc_auc", macro), ("weighted_roc_auc", weighted)):
        found = estimate(tally, name)
        assert found.undefined == reason, name
        assert isnan(found.value) == bool(reason), name


def test_two_classes_have_no_ranking_of_many() -> None:
    pair = ClassAnswer("1", "1", "1", scores_of([0.2, 0.8], ("0", "1"), "1", "1"))
    for answers in ([pair], [ClassAnswer("1", "0")], [NumberAnswer(1.0, 3.0)]):
        assert not applying(tally_of(*answers)) & {"macro_roc_auc", "weighted_roc_auc"}


def test_a_perfect_ranking_of_many_classes_still_has_an_interval() -> None:
    for name in ("macro_roc_auc", "weighted_roc_auc"):
        found = estimate(tally_of(*[A, B, C] * 5), name)
        assert (found.value, found.rows, found.binning) == (1.0, 15, 0.0)
        assert 0.5 < found.low < 0.95
        assert found.high == 1.0


def three_classes(random: np.random.Generator, rows: int) -> Tally:
    """Of unequal shares; the score of each is raised where it is true."""
    truth = random.choice(3, rows, p=SHARES)
    weights = np.exp(random.normal(size=(rows, 3)) + RAISED * np.eye(3)[truth])
    scores = weights / weights.sum(axis=1, keepdims=True)
    said = scores.argmax(axis=1)
    found = zip(scores.tolist(), said.tolist(), truth.tolist(), strict=True)
    return tally_of(*(of_three(ABC[s], ABC[t], *row) for row, s, t in found))


SHARES = [0.6, 0.3, 0.1]
RAISED = np.array([1.0, 1.5, 2.0])


@pytest.mark.ci
@pytest.mark.parametrize("name", ["macro_roc_auc", "weighted_roc_auc"])
def test_intervals_of_rankings_of_many_classes_err_on_the_wide_side(name: str) -> None:
    """The truth is taken to be what 100,000 rows say."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    truth = estimate(three_classes(random, 100_000), name)
    held = 0
    for _ in range(DRAWS):
        found = estimate(three_classes(random, 150), name)
        held += found.low <= truth.value <= found.high
    assert held > 270, held


# -- intervals ---------------------------------------------------------------------


def pair_rows(random: np.random.Generator, rows: int) -> Tally:
    """Two classes with well-calibrated scores: AUC 5/6 of uniform scores."""
    scores = random.random(rows)
    truth = random.random(rows) < scores
    return tally_of(
        *(
            ClassAnswer(str(int(p >= 0.5)), str(int(y)), "1", scores_of([1 - p, p], ("0", "1"),
                        str(int(p >= 0.5)), str(int(y))))
            for p, y in zip(scores.tolist(), truth.tolist(), strict=True)
        )
    )  # fmt: skip


def number_rows(random: np.random.Generator, rows: int) -> Tally:
    truth = random.normal(size=rows)
    said = truth + 0.5 * random.normal(size=rows)
    return tally_of(
        *(NumberAnswer(*row) for row in zip(said.tolist(), truth.tolist(), strict=True))
    )


# Of uniform scores that are right: accuracy E max(p, 1 - p) = 3/4, as are precision and
# recall; AUC 5/6; Brier E p (1 - p) = 1/6; log loss 1/2. Of normal errors of deviation 1/2:
# MAE 1/2 root(2 / pi), their median 0.6745 / 2, R2 1 - 1/4.
TRUE = {
    "accuracy": 0.75,
    "precision": 0.75,
    "recall": 0.75,
    "f1": 0.75,
    "roc_auc": 5 / 6,
    "brier": 1 / 6,
    "log_loss": 0.5,
    "mae": 0.5 * np.sqrt(2 / np.pi),
    "rmse": 0.5,
    "median_absolute_error": 0.33724,
    "r2": 0.75,
}
DRAWS = 300


@pytest.fixture(scope="module")
def draws() -> list[tuple[Tally, Tally]]:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    return [(pair_rows(random, 150), number_rows(random, 150)) for _ in range(DRAWS)]


@pytest.mark.ci
@pytest.mark.parametrize("name", sorted(TRUE))
def test_intervals_hold_the_truth_as_often_as_they_say(
    name: str, draws: list[tuple[Tally, Tally]]
) -> None:
    """Of 300 at 95 %, 270 and fewer or all of them come once in thousands of times."""
    held = 0
    for pair in draws:
        tally = next(t for t in pair if name in applying(t))
        found = estimate(tally, name)
        held += found.low - found.binning <= TRUE[name] <= found.high + found.binning
    assert 270 < held < DRAWS, held


@pytest.mark.ci
def test_the_calibration_error_of_a_calibrated_version_is_what_chance_makes_of_it(
    draws: list[tuple[Tally, Tally]],
) -> None:
    found = [estimate(pair, "ece") for pair, _ in draws]
    chance = np.mean([item.by_chance or 0.0 for item in found])
    assert np.mean([item.value for item in found]) == pytest.approx(chance, rel=0.05)


@pytest.mark.ci
@pytest.mark.parametrize("kind", ["precision", "recall", "f1"])
def test_intervals_of_means_over_classes_err_on_the_wide_side(kind: str) -> None:
    """Three classes, right in 0.8, else any of the two others: each measure is 0.8."""
    random, held = np.random.default_rng(SEED), 0
    print("seed", SEED)
    for _ in range(DRAWS):
        truth = random.integers(0, 3, 150)
        said = np.where(random.random(150) < 0.8, truth, (truth + random.integers(1, 3, 150)) % 3)
        rows = zip(said.tolist(), truth.tolist(), strict=True)
        found = estimate(tally_of(*(ClassAnswer(str(s), str(t)) for s, t in rows)), f"macro_{kind}")
        held += found.low <= 0.8 <= found.high
    assert held > 270, held


def test_the_quantile_loss_is_that_of_its_definition_and_shown_where_a_level_is_set() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    said, truth = random.normal(size=(2, 200))
    tally = tally_of(*map(NumberAnswer, said.tolist(), truth.tolist()))
    for level in (0.1, 0.5, 0.9, 1.0):
        measures = measures_with(level)
        assert [*measures] == [*MEASURES, "quantile_loss"]
        found = measures["quantile_loss"].estimate(tally)
        assert found is not None
        losses = np.maximum(level * (truth - said), (level - 1) * (truth - said))
        assert found.value == pytest.approx(losses.mean(), rel=1e-12)
        half = 1.959963984540054 * losses.std() / np.sqrt(200)
        assert (found.low, found.high) == pytest.approx(
            (losses.mean() - half, losses.mean() + half)
        )
    assert measures_with(0.0) is MEASURES
    classes = tally_of(ClassAnswer("1", "1"))
    assert measures_with(0.9)["quantile_loss"].estimate(classes) is None


# -- histograms --------------------------------------------------------------------


def test_quantiles_of_sizes_are_as_near_as_they_say() -> None:
    random = np.random.default_rng(SEED)
    values = np.sort(np.exp(random.normal(scale=8, size=999)))
    histogram = LogHistogram()
    for size in values:
        histogram.add(float(size))
    for share in (0.01, 0.5, 0.95, 1.0):
        exact = values[int(np.ceil(share * values.size)) - 1]
        assert histogram.quantile(share) == pytest.approx(exact, rel=RELATIVE_ERROR)
    for odd in (0.0, -1.0, 5e-324, 1e300):
        histogram.add(odd)
    assert histogram.quantile(0.0) == 0.0
    assert histogram.rows == 1003


def test_bins_of_scores_are_in_their_order() -> None:
    edges = [0.0, 1e-12, 1e-6, 0.1, 0.499999, 0.5, 0.500001, 0.9, 1 - 1e-6, 1.0]
    places = [bin_of(score) for score in edges]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == 2 * HALF - 1
    even = [bin_of(score) for score in np.linspace(0, 1, 10_001)]
    assert even == sorted(even)


# -- spans -------------------------------------------------------------------------

BLOCK = 10**9
WINDOW = 10


def fold(book: PerformanceBook, index: int, digest: str, rows: int, *predicted: int) -> None:
    """Rows of a version in block `index`, and labels of rows that were predicted in others."""
    arms = {Arm(digest, f"v{digest}", STABLE, ""): ArmRows(rows=rows)} if rows else {}
    at = index * BLOCK
    outcomes = [
        Outcome(digest, block * BLOCK, 0.0, False, f"v{digest}", at, ClassAnswer("1", "1"))
        for block in predicted
    ]
    book.fold(index, BLOCK, WINDOW, arms, outcomes)


def test_coverage_counts_labels_of_the_rows_of_its_span_alone() -> None:
    book = PerformanceBook()
    fold(book, 5, "a", 10)
    fold(book, 15, "a", 10, 5, 5)
    fold(book, 25, "a", 10, 5, 15, 15, 15, 25)
    spans = book.versions["a"].whole.of(rollout=False)
    assert set(spans) == {Span.WINDOW, Span.SINCE}
    window, since = spans[Span.WINDOW], spans[Span.SINCE]
    assert (window.answered, window.rows, window.covered) == (20, 7, 4)
    assert (since.answered, since.rows, since.covered) == (30, 7, 7)
    assert since.coverage == pytest.approx(7 / 30)
    assert since.delay.quantile(0.5) == pytest.approx(10, rel=RELATIVE_ERROR)
    fold(book, 55, "a", 1)
    assert book.versions["a"].whole.of(rollout=False)[Span.WINDOW].rows == 0


def test_a_rollout_counts_rows_since_it_began_and_the_next_one_anew() -> None:
    book = PerformanceBook()
    fold(book, 0, "a", 10)
    book.follow("r1", 2 * BLOCK)
    fold(book, 3, "a", 10, 0, 2, 3)
    rollout = book.versions["a"].whole.of(rollout=True)[Span.ROLLOUT]
    assert (rollout.answered, rollout.rows, rollout.covered) == (10, 2, 2)
    book.follow("r2", 4 * BLOCK)
    assert book.versions["a"].whole.rollout.rows == 0
    assert book.versions["a"].whole.since.rows == 3


def test_versions_are_bounded_and_those_that_are_silent_longest_go_first() -> None:
    book = PerformanceBook()
    for index in range(VERSIONS_MAX + 3):
        fold(book, index, str(index), 1, *([index] if index else []))
        fold(book, index, "0", 0, 0)  # its labels go on
    assert sorted(book.versions) == ["0", "4", "5", "6"]
    assert book.versions["0"].whole.since.rows == VERSIONS_MAX + 3
    again = PerformanceBook.from_tree(unpack(pack(book.to_tree())))
    assert pack(again.to_tree()) == pack(book.to_tree())
    assert again == replace(book, versions=again.versions)


# -- the page ----------------------------------------------------------------------


def test_the_page_on_monitoring_has_the_table() -> None:
    """What it prints on failure is what belongs on the page."""
    rows = [
        f"| `{m.name}` | {m.title} | {m.task.value} | {m.better.value} | {m.definition} "
        f"| {m.interval} | {m.source} |"
        for m in MEASURES.values()
    ]
    expected = "\n".join([*HEAD, *rows])
    page = (ROOT / "docs" / "model-performance.md").read_text()
    assert expected in page, f"docs/model-performance.md lacks\n{expected}"
