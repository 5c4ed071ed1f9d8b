"""What the statistics say where others go wrong, and where there is nothing to say."""

import numpy as np
import pytest
import scipy.stats

from monitor.core.bins import (
    BINS,
    MISSING,
    SLOTS,
    UNSEEN,
    count_slots,
    ordered_counts,
)
from monitor.core.profile import FeatureKind, FeatureProfile, FeatureSpec, encode_text, fit_feature
from monitor.core.statistics import HEADLINE, STATISTICS, Binned
from monitor.core.statistics.assessment import Assessment, assess
from monitor.core.statistics.contingency import likelihood_ratio

CONTINUOUS = FeatureSpec("f", kind=FeatureKind.CONTINUOUS)
SEED = 20261128


def counted(feature: FeatureProfile, values: np.ndarray) -> np.ndarray:
    if feature.is_text:
        values = encode_text(values, feature.codes())
    return count_slots(values, feature.starts, feature.high, feature.exact)


def effect(name: str, feature: FeatureProfile, live: np.ndarray) -> float:
    return float(STATISTICS[name].effect(Binned.of_features([feature], live[None]))[0])


def effects_of(feature: FeatureProfile, live: np.ndarray) -> dict[str, float]:
    return {
        name: effect(name, feature, live)
        for name, item in STATISTICS.items()
        if feature.kind in item.kinds
    }


def assessed(feature: FeatureProfile, live: np.ndarray) -> dict[str, Assessment]:
    return {item.statistic.name: item for item in assess(feature, live, STATISTICS)}


@pytest.fixture(scope="module")
def normal() -> FeatureProfile:
    return fit_feature(CONTINUOUS, np.random.default_rng(SEED).normal(size=5000))


# -- against raw values --------------------------------------------------------------------


def test_ks_lies_within_one_bin_of_ks_on_raw_values() -> None:
    random = np.random.default_rng(1)
    reference, live = random.lognormal(size=4000), random.lognormal(0.2, size=3000)
    feature = fit_feature(CONTINUOUS, reference)
    raw = scipy.stats.ks_2samp(reference, live).statistic
    assert raw - 1.01 / BINS <= effect("ks", feature, counted(feature, live)) <= raw + 1e-7


def test_cramer_von_mises_and_anderson_darling_equal_scipys_tests_where_nothing_ties() -> None:
    random = np.random.default_rng(2)
    reference = np.arange(40.0)
    live = np.sort(random.choice(np.arange(-5.0, 45.0), 15, replace=False)) + 0.5
    values = np.sort(np.concatenate([reference, live]))  # one bin for each value of both
    feature = fit_feature(CONTINUOUS, values)
    binned = Binned.of_features([feature], counted(feature, live)[None])
    ours = Binned.of(binned.layout, counted(feature, reference)[None], counted(feature, live)[None])
    noise = 1 / 40 + 1 / 15
    mises = STATISTICS["cramer_von_mises"].effect(ours)[0] / noise
    assert mises == pytest.approx(scipy.stats.cramervonmises_2samp(reference, live).statistic)
    darling = STATISTICS["anderson_darling"].effect(ours)[0] / noise
    standardised = (darling - 1) / anderson_deviation(40, 15)
    if "variant" in scipy.stats.anderson_ksamp.__doc__:
        found = scipy.stats.anderson_ksamp(
            [reference, live],
            variant="right",
            method=scipy.stats.PermutationMethod(n_resamples=9, rng=random),
        )
        assert standardised == pytest.approx(found.statistic)


def anderson_deviation(n: int, m: int) -> float:
    """Of A² for two samples; Scholz and Stephens 1987, equation 4."""
    total = n + m
    inverse = 1 / n + 1 / m
    h = sum(1 / i for i in range(1, total))
    g = sum(1 / ((total - i) * j) for i in range(1, total - 1) for j in range(i + 1, total))
    k = 2
    a = (4 * g - 6) * (k - 1) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * k**2 + 8 * h * k + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * k**2 + (4 * h - 4 * g + 6) * k + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * k**2 - 4 * h * k
    variance = (a * total**3 + b * total**2 + c * total + d) / (
        (total - 1) * (total - 2) * (total - 3)
    )
    return float(np.sqrt(variance))


# -- what the peers get wrong --------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.0])
def test_one_far_value_neither_hides_nor_fakes_a_shift(
    normal: FeatureProfile, shift: float
) -> None:
    live = np.random.default_rng(3).normal(shift, 1.0, size=5000)
    without = effects_of(normal, counted(normal, live))
    far = effects_of(normal, counted(normal, np.append(live, 1e6)))
    for name in ("psi", "ks", "wasserstein_scaled"):
        assert far[name] == pytest.approx(without[name], rel=0.1, abs=0.005), name
        assert (far[name] > 0.2) == (shift != 0.0), name
    for name in STATISTICS.keys() & without.keys():
        assert far[name] == pytest.approx(without[name], rel=0.1, abs=0.03), name


def test_one_far_value_in_the_reference_does_not_set_the_scale() -> None:
    random = np.random.default_rng(4)
    reference = random.normal(size=5000)
    plain, odd = (
        fit_feature(CONTINUOUS, reference),
        fit_feature(CONTINUOUS, np.append(reference, 1e6)),
    )
    live = random.normal(1.0, size=5000)
    for name in ("psi", "ks", "wasserstein_scaled", "energy", "mean_shift"):
        expected = effect(name, plain, counted(plain, live))
        assert effect(name, odd, counted(odd, live)) == pytest.approx(expected, rel=0.1), name


def test_a_fall_is_found_as_a_rise_is(normal: FeatureProfile) -> None:
    values = np.random.default_rng(5).normal(size=3000)
    rise = assessed(normal, counted(normal, values + 1.0))
    fall = assessed(normal, counted(normal, values - 1.0))
    assert rise["mann_whitney"].effect > 0.7
    assert fall["mann_whitney"].effect < 0.3
    for name in rise:
        if name in ("deviation_ratio", "skewness_shift"):
            continue  # neither moved
        assert max(rise[name].p_value, fall[name].p_value) <= 0.002, name
        if not rise[name].statistic.signed:
            assert fall[name].effect == pytest.approx(rise[name].effect, rel=0.15), name


def test_unseen_categories_do_not_explode() -> None:
    names = np.array(["a"] * 6000 + ["b"] * 3000 + ["c"] * 1000, dtype=object)
    feature = fit_feature(FeatureSpec("f"), names)
    live = counted(feature, np.append(names, "new"))
    assert live[UNSEEN] == 1
    found = assessed(feature, live)
    for name, item in found.items():
        assert item.effect < 0.01, name
        assert item.p_value > 0.05, name


def test_an_empty_bin_does_not_explode() -> None:
    feature = fit_feature(FeatureSpec("f"), np.array([0.0] * 4999 + [1.0]))
    live = counted(feature, np.zeros(5000))
    for name in ("psi", "kl", "js", "chi_square", "g"):
        assert effect(name, feature, live) < 0.02, name


def test_sizes_that_differ_are_no_error_for_g_and_chi_square() -> None:
    random = np.random.default_rng(6)
    feature = fit_feature(FeatureSpec("f"), random.choice(4, 9000).astype(float))
    live = counted(feature, random.choice(4, 70).astype(float))
    table = np.array([feature.counts[:4], live[:4]])
    for name, power in (("g", "log-likelihood"), ("chi_square", "pearson")):
        expected = scipy.stats.chi2_contingency(table, correction=False, lambda_=power)
        found = assessed(feature, live)[name]
        assert found.effect / (1 / 9000 + 1 / 70) == pytest.approx(expected.statistic, rel=1e-9)
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


# -- where there is little to say ----------------------------------------------------------


def test_missing_values_count_as_a_cell_of_their_own(normal: FeatureProfile) -> None:
    live = normal.counts.copy()
    live[MISSING] = 5000
    assert effect("ks", normal, live) == 0.0
    assert effect("wasserstein", normal, live) == 0.0
    assert effect("psi", normal, live) > 1.0
    assert effect("total_variation", normal, live) == pytest.approx(0.5)


def test_an_all_missing_column_has_no_order_and_all_its_rows_in_one_cell(
    normal: FeatureProfile,
) -> None:
    live = counted(normal, np.full(100, np.nan))
    found = assessed(normal, live)
    assert found["total_variation"].effect == pytest.approx(1.0)
    assert found["js"].effect == pytest.approx(1.0)
    for name, item in found.items():
        assert np.isnan(item.effect) == item.statistic.places, name
        assert item.statistic.places or item.p_value <= 0.002, name


def test_a_column_that_was_always_missing_has_not_moved() -> None:
    feature = fit_feature(CONTINUOUS, np.full(50, np.nan))
    found = assessed(feature, counted(feature, np.full(20, np.nan)))
    for name in ("psi", "js", "kl", "hellinger", "total_variation", "chi_square", "g"):
        assert found[name].effect == 0.0, name


def test_a_constant_column_has_no_spread_to_measure_by() -> None:
    feature = fit_feature(CONTINUOUS, np.full(500, 7.0))
    same = assessed(feature, counted(feature, np.full(90, 7.0)))
    moved = assessed(feature, counted(feature, np.full(90, 8.0)))
    for name in ("wasserstein_scaled", "energy", "mean_shift", "deviation_ratio", "median_shift"):
        assert np.isnan(same[name].effect), name
        assert np.isnan(moved[name].effect), name
    for name in ("ks", "psi", "js", "total_variation", "chi_square"):
        assert same[name].effect == pytest.approx(0.0, abs=1e-12), name
        assert moved[name].effect > 0.5, name
    assert moved["ks"].p_value <= 0.002
    assert (same["mann_whitney"].effect, same["mann_whitney"].p_value) == (0.5, 1.0)
    assert moved["mann_whitney"].effect == 1.0


CELLS = ("psi", "js", "kl", "hellinger", "total_variation", "chi_square", "g")


def test_rows_beyond_the_range_count_in_the_outermost_cells(normal: FeatureProfile) -> None:
    """A twentieth of the rows moved far out: the outermost tenth still holds them."""
    values = np.random.default_rng(14).normal(size=4000)
    far = np.where(values < np.quantile(values, 0.05), values - 1e6, values)
    high = np.where(values > np.quantile(values, 0.95), values + 1e6, values)
    plain = effects_of(normal, counted(normal, values))
    for live in (far, high):
        found = effects_of(normal, counted(normal, live))
        for name in CELLS:
            assert found[name] == plain[name], name
        assert found["wasserstein"] > 4 * plain["wasserstein"]


def test_beyond_an_end_that_is_a_lump_is_a_cell_of_its_own() -> None:
    """Six in ten amounts are 0 and none is below it: so negative amounts are news."""
    random = np.random.default_rng(15)
    amounts = np.where(random.random(5000) < 0.6, 0.0, random.lognormal(size=5000))
    for sign in (1.0, -1.0):
        feature = fit_feature(CONTINUOUS, sign * amounts)
        live = np.where(random.random(3000) < 0.6, 0.0, random.lognormal(size=3000))
        same = assessed(feature, counted(feature, sign * live))
        turned = assessed(feature, counted(feature, sign * np.where(live == 0, -1.0, live)))
        for name in CELLS:
            assert same[name].p_value > 0.001, name
            assert turned[name].effect > 0.3, name
            assert turned[name].p_value <= 0.002, name


@pytest.mark.parametrize("rows", [1, 5, 19, 20, 99])
def test_a_very_short_reference_has_few_cells_and_no_p_value_of_them(rows: int) -> None:
    random = np.random.default_rng(16)
    feature = fit_feature(CONTINUOUS, random.normal(size=rows))
    binned = Binned.of_features([feature], counted(feature, random.normal(size=500))[None])
    assert binned.used.sum() == max(rows // 10, 1)
    for name, item in assessed(feature, counted(feature, random.normal(size=500))).items():
        assert np.isfinite(item.effect) or name == "wasserstein_scaled" or rows == 1, name
        assert item.statistic.places or np.isnan(item.p_value), name


def test_a_live_side_that_became_constant_has_no_deviation(normal: FeatureProfile) -> None:
    found = assessed(normal, counted(normal, np.zeros(300)))
    assert found["deviation_ratio"].effect == 0.0
    assert np.isnan(found["skewness_shift"].effect)
    assert found["ks"].p_value < 1e-6


@pytest.mark.parametrize("name", STATISTICS)
def test_equal_counts_are_at_the_neutral_value(name: str) -> None:
    feature = fit_feature(FeatureSpec("f"), np.repeat([1.0, 4.0, 9.0], [5, 1, 4]))
    found = effect(name, feature, feature.counts)
    assert found == pytest.approx(STATISTICS[name].neutral, abs=1e-9)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_side_without_rows_gives_nan_and_no_warning(name: str) -> None:
    some, none = np.zeros(SLOTS, dtype=np.int64), np.zeros(SLOTS, dtype=np.int64)
    some[3] = 10
    feature = fit_feature(CONTINUOUS, np.arange(10.0))
    layout = Binned.of_features([feature], some[None]).layout
    for sides in ((some, none), (none, some)):
        binned = Binned.of(layout, sides[0][None], sides[1][None])
        assert np.isnan(STATISTICS[name].effect(binned)).all()


def test_numbers_at_the_edge_of_a_float_raise_no_warning() -> None:
    feature = fit_feature(
        FeatureSpec("f", kind=FeatureKind.CONTINUOUS, datatype="FP64"),
        np.linspace(-1.0, 1.0, 300) * 1.7e308,
    )
    live = counted(feature, np.linspace(-1.0, 1.0, 100) * 1.7e308)
    assert effect("ks", feature, live) < 0.05


def test_more_rows_than_a_float_tells_apart_are_taken(normal: FeatureProfile) -> None:
    live = normal.counts * 10**12
    for name, found in assessed(normal, live).items():
        assert np.isfinite(found.effect), name


# -- assessments ---------------------------------------------------------------------------


def test_an_assessment_is_a_function_of_the_counts(normal: FeatureProfile) -> None:
    live = counted(normal, np.random.default_rng(7).normal(0.1, 1.0, size=400))
    assert repr(assess(normal, live, STATISTICS)) == repr(assess(normal, live.copy(), STATISTICS))


def test_every_assessment_is_whole(normal: FeatureProfile) -> None:
    live = counted(normal, np.random.default_rng(8).normal(0.1, 1.2, size=400))
    for name, item in assessed(normal, live).items():
        statistic = item.statistic
        assert 0 < item.p_value <= 1, name
        assert np.isfinite(item.null_mean), name
        assert statistic.least <= item.low <= item.high <= statistic.most, name
        assert item.raw_error is None or item.raw_error >= 0, name


def test_only_statistics_that_fit_the_kind_are_assessed() -> None:
    feature = fit_feature(FeatureSpec("f"), np.array(["a", "b"] * 50, dtype=object))
    names = assessed(feature, feature.counts).keys()
    assert "cramers_v" in names
    assert not names & {"wasserstein", "mann_whitney", "mean_shift"}


def test_the_headline_is_short_and_in_the_table() -> None:
    assert set(HEADLINE) <= set(STATISTICS)
    assert len(HEADLINE) <= 4


def test_total_likelihood_ratio_never_falls_below_zero() -> None:
    counts = np.zeros((1, SLOTS), dtype=np.int64)
    counts[0, :3] = (1, 3, 7)
    feature = fit_feature(FeatureSpec("f"), np.array([1.0, 2.0, 3.0]))
    layout = Binned.of_features([feature], counts).layout
    assert float(likelihood_ratio(Binned.of(layout, counts, counts * 3))[0]) >= 0.0


def test_discrete_numbers_are_categories_that_have_an_order() -> None:
    """Two values trade places: no decile would see it, and the cells do."""
    random = np.random.default_rng(9)
    shares = np.full(40, 1 / 40)
    moved = shares.copy()
    moved[[10, 11]] = (2 / 40, 0.0)
    feature = fit_feature(FeatureSpec("f"), random.choice(40, 20_000, p=shares).astype(float))
    live = counted(feature, random.choice(40, 20_000, p=moved).astype(float))
    found = assessed(feature, live)
    assert found["l_infinity"].effect == pytest.approx(1 / 40, abs=0.01)
    assert max(found["psi"].p_value, found["l_infinity"].p_value) <= 0.002
    assert found["mann_whitney"].p_value > 0.05
    assert int(ordered_counts(live).sum()) == 20_000


def test_an_order_that_lacks_live_values_gives_no_p_value() -> None:
    random = np.random.default_rng(10)
    feature = fit_feature(FeatureSpec("f"), random.integers(0, 30, 4000).astype(float))
    values = random.integers(0, 30, 1000).astype(float)
    few = assessed(feature, counted(feature, np.append(values, 99.0)))
    many = assessed(feature, counted(feature, np.append(values, np.full(20, 99.0))))
    for name, item in many.items():
        assert np.isfinite(few[name].p_value), name
        assert np.isnan(item.p_value) == item.statistic.places, name


def rare_words(random: np.random.Generator, rows: int) -> np.ndarray:
    shares = 1 / np.arange(1, 61) ** 1.5
    words = np.array([f"w{i}" for i in range(60)], dtype=object)
    return random.choice(words, rows, p=shares / shares.sum())


CELL_LAWS = ("psi", "kl", "js", "hellinger", "chi_square", "g")


def test_a_law_that_needs_more_rows_is_replaced_by_draws() -> None:
    """Sixty categories, most of them rare in few live rows, and in many."""
    random = np.random.default_rng(11)
    feature = fit_feature(FeatureSpec("f"), rare_words(random, 60_000))
    few = assessed(feature, counted(feature, rare_words(random, 300)))
    many = assessed(feature, counted(feature, rare_words(random, 30_000)))
    for name in CELL_LAWS:
        assert few[name].drawn, name
        assert few[name].p_value > 0.01, name
        assert not many[name].drawn, name


def test_a_reference_that_lacks_a_long_tail_gives_no_p_value_of_cells() -> None:
    """Half of such windows would be below 0.05 with nothing moved."""
    random = np.random.default_rng(12)
    feature = fit_feature(FeatureSpec("f"), rare_words(random, 500))
    found = assessed(feature, counted(feature, rare_words(random, 500)))
    for name in (*CELL_LAWS, "total_variation", "l_infinity", "cramers_v"):
        assert np.isfinite(found[name].effect), name
        assert np.isnan(found[name].p_value), name


def test_ids_give_no_p_value_of_cells() -> None:
    """More categories than have bins: the rare ones are one cell, and more of them come."""
    often = [f"word{i}" for i in range(255)] * 9
    once = [f"id{i}" for i in range(600)]
    feature = fit_feature(FeatureSpec("f"), np.array(often + once, dtype=object))
    assert not (feature.counts == 1).any()
    found = assessed(feature, counted(feature, np.array([*often, "x", *once[:99]], dtype=object)))
    assert all(np.isnan(found[name].p_value) for name in CELL_LAWS)


def test_the_law_of_cramer_von_mises_is_that_of_scipys_test() -> None:
    """256 bins are nearly continuous, and their eigenvalues nearly Anderson's."""
    random = np.random.default_rng(13)
    reference = random.normal(size=20_000)
    feature = fit_feature(CONTINUOUS, reference)
    for shift in (0.02, 0.04, 0.06, 0.08):
        live = random.normal(shift, 1.0, size=3000)
        expected = scipy.stats.cramervonmises_2samp(reference, live, method="asymptotic")
        found = assessed(feature, counted(feature, live))["cramer_von_mises"]
        assert found.p_value == pytest.approx(expected.pvalue, rel=0.15)
