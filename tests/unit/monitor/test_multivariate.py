"""The multivariate statistics beside plain reckonings, and what each of them finds."""

from collections.abc import Callable
from math import nan

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom, mannwhitneyu

from monitor.core.multivariate.compare import LIVE_MIN, REFERENCE_MIN, compare, sides_of
from monitor.core.multivariate.domain_classifier import PENALTY, area, fit
from monitor.core.multivariate.entry import Draws, Sides
from monitor.core.multivariate.permutations import DRAWS, sides
from monitor.core.multivariate.reconstruction import KEPT, principal_components
from monitor.core.multivariate.scale import Scale
from monitor.core.multivariate.statistics import MULTIVARIATE

SEED = 20261129
Rows = np.ndarray


def rows(random: np.random.Generator, count: int, width: int = 4, shift: float = 0.0) -> Rows:
    return (random.normal(size=(count, width)) + shift).astype(np.float32)


def correlated(random: np.random.Generator, count: int, correlation: float, width: int = 2) -> Rows:
    """Standard normal features, each pair of them with this correlation."""
    common = random.normal(size=(count, 1))
    own = random.normal(size=(count, width))
    mixed = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    return mixed.astype(np.float32)


def found(reference: Rows, live: Rows) -> dict[str, tuple[float, float, float]]:
    return {
        item.statistic.name: (item.effect, item.null_mean, item.p_value)
        for item in compare(reference, live)
    }


def given(width: int = 3) -> Sides:
    random = np.random.default_rng(SEED)
    return sides_of(rows(random, 60, width), rows(random, 25, width, 0.4) * 1.5)


def plain_distance(first: Rows, second: Rows, kernel: Callable[[Rows, Rows], float]) -> float:
    """The unbiased estimate as it is written, pair by pair."""

    def within(side: Rows) -> float:
        pairs = [kernel(x, y) for i, x in enumerate(side) for j, y in enumerate(side) if i != j]
        return float(np.mean(pairs))

    between = np.mean([kernel(x, y) for x in first for y in second])
    return float(within(first) + within(second) - 2 * between)


def drawn(name: str, sample: Sides) -> Draws:
    draws = MULTIVARIATE[name].draws(sample)
    assert draws is not None
    assert draws.evidence.shape == draws.effects.shape == (1 + DRAWS,)
    return draws


def test_the_mean_shift_is_the_unbiased_squared_distance_of_the_means() -> None:
    sample = given()
    expected = plain_distance(sample.reference, sample.live, lambda x, y: float(x @ y))
    draws = drawn("mean_shift", sample)
    assert draws.evidence[0] == pytest.approx(expected, abs=1e-9)
    assert draws.effects[0] == pytest.approx(np.sqrt(expected))


def test_mmd_is_that_of_gretton_with_the_reference_s_median_distance() -> None:
    sample = given()
    apart = [
        float(np.linalg.norm(x - y)) for i, x in enumerate(sample.fitted) for y in sample.fitted[:i]
    ]
    width = float(np.median(np.square(apart)))
    expected = plain_distance(
        sample.reference, sample.live, lambda x, y: float(np.exp(-((x - y) @ (x - y)) / 2 / width))
    )
    assert drawn("mmd", sample).evidence[0] == pytest.approx(expected, abs=1e-9)


def test_the_covariance_shift_is_of_differences_of_pairs() -> None:
    sample = given()

    def differences(side: Rows) -> Rows:
        return np.array([side[i] - side[i + 1] for i in range(0, len(side) - 1, 2)]) / np.sqrt(2)

    first, second = differences(sample.reference), differences(sample.live)
    expected = plain_distance(first, second, lambda x, y: float(x @ y) ** 2)
    draws = drawn("covariance_shift", sample)
    assert draws.evidence[0] == pytest.approx(expected, abs=1e-9)
    size = np.sqrt(np.sum(np.cov(sample.fitted.T) ** 2))
    assert draws.effects[0] == pytest.approx(np.sqrt(max(expected, 0)) / size)


def test_the_reconstruction_is_by_the_fewest_components_that_hold_their_share() -> None:
    sample = given(6)
    values, vectors = np.linalg.eigh(np.cov(sample.fitted.T))
    order = np.argsort(-values)
    kept = int(np.argmax(np.cumsum(values[order]) / values.sum() >= KEPT)) + 1
    basis = principal_components(sample.fitted)
    assert basis.shape == (kept, 6)
    axes = vectors[:, order[:kept]]
    np.testing.assert_allclose(basis.T @ basis, axes @ axes.T, atol=1e-9)

    def error(side: Rows) -> float:
        return float(np.mean([np.sum((x - axes @ (axes.T @ x)) ** 2) for x in side]))

    expected = error(sample.live) / error(sample.reference)
    assert drawn("reconstruction_error", sample).effects[0] == pytest.approx(expected)


def test_the_classifier_is_a_ridge_logistic_regression() -> None:
    random = np.random.default_rng(SEED)
    features = np.hstack([np.ones((80, 1)), random.normal(size=(80, 3))])
    labels = (random.random(80) < 1 / (1 + np.exp(-0.5 * features[:, 1]))).astype(float)

    def loss(w: Rows) -> float:
        scores = features @ w
        return float(
            np.sum(np.logaddexp(0, scores) - labels * scores) + PENALTY / 2 * w[1:] @ w[1:]
        )

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(fit(features, labels[:, None])[:, 0], expected, atol=0.01)


def test_the_area_counts_ties_one_half() -> None:
    random = np.random.default_rng(SEED)
    scores = random.integers(0, 6, (40, 3)).astype(float)
    live = sides(25, 15, SEED, 2)
    for column in range(3):
        of_live = scores[live[:, column] == 1, column]
        others = scores[live[:, column] == 0, column]
        expected = mannwhitneyu(of_live, others).statistic / (len(of_live) * len(others))
        assert area(scores, live)[column] == pytest.approx(expected)


def test_the_sides_of_a_draw_are_as_large_as_the_true_ones_and_follow_from_the_seed() -> None:
    live = sides(30, 12, SEED)
    assert (live[:30, 0] == 0).all()
    assert (live.sum(axis=0) == 12).all()
    assert len(np.unique(live.T, axis=0)) == 1 + DRAWS
    np.testing.assert_array_equal(live, sides(30, 12, SEED))


STREAMS = 100


@pytest.mark.parametrize(("width", "reference", "live"), [(5, 120, 60), (150, 128, 64)])
def test_p_values_are_as_often_small_as_they_say(width: int, reference: int, live: int) -> None:
    """Also where rows are wider than there are of them, and have heavy tails."""
    print("seed", SEED)
    random = np.random.default_rng([SEED, width])
    small: dict[str, int] = dict.fromkeys(MULTIVARIATE, 0)
    half: dict[str, int] = dict.fromkeys(MULTIVARIATE, 0)
    for _ in range(STREAMS):
        drawn_rows = random.standard_t(3, size=(reference + live, width)) + random.normal(
            size=(reference + live, 1)
        )
        for name, (_, _, p) in found(drawn_rows[:reference], drawn_rows[reference:]).items():
            small[name] += p <= 0.05
            half[name] += p <= 0.5
    for name in MULTIVARIATE:
        assert small[name] <= binom.ppf(0.9999, STREAMS, 0.05), name
        assert binom.ppf(0.0001, STREAMS, 0.5) <= half[name] <= binom.ppf(0.9999, STREAMS, 0.5), (
            name
        )


def test_a_correlation_that_turns_is_found_though_no_feature_moves() -> None:
    random = np.random.default_rng(SEED)
    reference, live = correlated(random, 1000, 0.0, 5), correlated(random, 400, 0.5, 5)
    answers = found(reference, live)
    effect, by_chance, p = answers["covariance_shift"]
    assert p == 1 / (1 + DRAWS)
    # Twenty entries of 0.5 in a matrix whose own size is the root of 5.
    assert effect == pytest.approx(np.sqrt(20 * 0.25) / np.sqrt(5), rel=0.25)
    assert by_chance < effect / 4
    assert answers["mmd"][2] <= 0.01
    assert answers["mean_shift"][2] > 0.01  # nothing of what it looks for
    lost = found(correlated(random, 1000, 0.6, 5), correlated(random, 400, 0.0, 5))
    assert lost["covariance_shift"][2] == 1 / (1 + DRAWS)
    effect, by_chance, p = lost["reconstruction_error"]
    assert p == 1 / (1 + DRAWS)
    # One component is kept: four parts of variance are left out, of 1 each where it was 0.4.
    assert effect == pytest.approx(1 / 0.4, rel=0.15)
    assert by_chance == pytest.approx(1.0, abs=0.1)


def test_a_shift_spread_over_an_embedding_is_found_though_each_dimension_moves_little() -> None:
    random = np.random.default_rng(SEED)
    answers = found(rows(random, 340, 768), rows(random, 170, 768, 0.1))
    effect, by_chance, p = answers["mean_shift"]
    assert p == 1 / (1 + DRAWS)
    assert effect == pytest.approx(0.1 * np.sqrt(768), rel=0.15)
    assert by_chance < effect / 4
    assert answers["mmd"][2] <= 0.01
    assert answers["domain_classifier"][0] > 0.7
    assert answers["domain_classifier"][2] <= 0.01
    assert answers["covariance_shift"][2] > 0.01  # a shift of the mean does not show in it


@pytest.mark.parametrize("stray", [1e6, -1e30, np.inf])
def test_a_stray_value_neither_hides_a_shift_nor_makes_one(stray: float) -> None:
    random = np.random.default_rng(SEED)
    reference, same = correlated(random, 400, 0.6, 4), correlated(random, 200, 0.6, 4)
    moved = rows(random, 200, shift=1.0)
    for live in (same, moved):
        plain = found(reference, live)
        spoilt = live.copy()
        spoilt[7, 2] = stray
        dirty = reference.copy()
        dirty[[8, 9], 1] = stray
        for answers in (found(reference, spoilt), found(dirty, live)):
            for name, (effect, _, p) in answers.items():
                assert effect == pytest.approx(plain[name][0], rel=0.15, abs=0.05), name
                assert (p <= 0.01) == (plain[name][2] <= 0.01), name


def test_missing_values_and_constant_features_are_at_the_mean() -> None:
    random = np.random.default_rng(SEED)
    reference = rows(random, 300, 5)
    reference[:, 1], reference[:, 2] = 7.0, nan
    reference[::9, 3] = nan
    live = rows(random, 100, 5)
    live[:, 1], live[::7, 3] = 9.0, nan
    scaled = Scale.of(reference).scaled(live)
    assert (scaled[:, 1:3] == 0).all()
    assert (scaled[::7, 3] == 0).all()
    assert all(p > 0.01 for _, _, p in found(reference, live).values())
    nothing = np.zeros((REFERENCE_MIN, 3), dtype=np.float32)
    flat = found(nothing, nothing[:LIVE_MIN])
    assert all(np.isnan(flat[name]).all() for name in ("covariance_shift", "mmd"))
    assert np.isnan(flat["reconstruction_error"]).all()
    assert flat["mean_shift"] == (0.0, 0.0, 1.0)
    assert flat["domain_classifier"] == (0.5, 0.5, 1.0)


def test_the_same_rows_have_the_same_answer_to_the_bit() -> None:
    random = np.random.default_rng(SEED)
    reference, live = rows(random, 200, 20), rows(random, 80, 20)
    assert found(reference, live) == found(reference.copy(), live.copy())
