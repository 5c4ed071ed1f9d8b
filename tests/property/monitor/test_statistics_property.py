"""Every statistic equals scipy on the binned data, and keeps its bound on the raw data."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monitor.core.bins import SLOTS, count_slots
from monitor.core.profile import FeatureKind, FeatureProfile, FeatureSpec, encode_text, fit_feature
from monitor.core.statistics import HEADLINE, STATISTICS, Binned
from tests.property.monitor.plain_statistics import PLAIN, Plain, plain, squared_differences

# Tenths: many ties, and values that a float holds to the last digit or nearly.
NUMBERS = st.integers(-60, 60).map(lambda i: i / 10)
ODD = st.sampled_from([float("nan"), float("inf"), -1e6, 1e6])
WORDS = st.sampled_from([*"abcdefgh", None, "new"])


def counted(feature: FeatureProfile, values: np.ndarray) -> np.ndarray:
    return count_slots(values, feature.starts, feature.high, feature.exact)


@st.composite
def numeric(draw: st.DrawFn) -> tuple[FeatureProfile, np.ndarray]:
    kind = draw(st.sampled_from([FeatureKind.CONTINUOUS, FeatureKind.DISCRETE]))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    drawn = draw(st.lists(NUMBERS, min_size=1, max_size=30))
    many = random.normal(scale=3, size=draw(st.sampled_from([0, 0, 300])))
    reference = np.array([*drawn, *(many if kind is FeatureKind.CONTINUOUS else ())])
    odd = draw(st.lists(ODD, max_size=4))
    live = np.array([*draw(st.lists(NUMBERS, min_size=1, max_size=30)), *odd])
    feature = fit_feature(FeatureSpec("f", kind=kind, datatype="FP64"), reference)
    return feature, counted(feature, live)


@st.composite
def text(draw: st.DrawFn) -> tuple[FeatureProfile, np.ndarray]:
    words = st.lists(WORDS, min_size=1, max_size=40)
    reference = np.array([word if word != "new" else "a" for word in draw(words)], dtype=object)
    feature = fit_feature(FeatureSpec("f"), reference)
    live = encode_text(np.array(draw(words), dtype=object), feature.codes())
    return feature, counted(feature, live)


def judge(name: str, feature: FeatureProfile, live: np.ndarray) -> tuple[float, Plain]:
    binned = Binned.of_features([feature], live[None])
    data = plain(
        feature.starts.tolist() or [0.0],
        feature.high,
        feature.exact,
        feature.counts.tolist(),
        live.tolist(),
    )
    return float(STATISTICS[name].effect(binned)[0]), data


def test_every_statistic_has_an_independent_reference() -> None:
    assert set(PLAIN) == set(STATISTICS)
    assert set(HEADLINE) <= set(STATISTICS)


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=50)
@given(case=numeric())
def test_a_statistic_of_numbers_equals_its_reference(
    name: str, case: tuple[FeatureProfile, np.ndarray]
) -> None:
    feature, live = case
    found, data = judge(name, feature, live)
    if feature.kind not in STATISTICS[name].kinds:
        return
    if STATISTICS[name].places and not all(data.samples):
        assert np.isnan(found)
        return
    needs_spread = "shift" in name or "scaled" in name or name in ("energy", "deviation_ratio")
    # A deviation that is all rounding is left to chance on both sides.
    if needs_spread:
        assume(data.spread > 1e-6)
    if name == "skewness_shift":
        assume(all(np.std(side) > 1e-6 for side in data.at(data.inner)))
    assert_same(name, found, PLAIN[name](data))


def assert_same(name: str, found: float, expected: float) -> None:
    # The root of a difference that is 0 but for rounding: its square is what is exact.
    power = 2 if name == "cramers_v" else 1
    assert found**power == pytest.approx(expected**power, rel=1e-9, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("name", STATISTICS)
@settings(max_examples=50)
@given(case=text())
def test_a_statistic_of_categories_equals_its_reference(
    name: str, case: tuple[FeatureProfile, np.ndarray]
) -> None:
    feature, live = case
    if FeatureKind.CATEGORICAL not in STATISTICS[name].kinds:
        return
    found, data = judge(name, feature, live)
    if STATISTICS[name].places and not all(data.samples):
        assert np.isnan(found)
        return
    assert_same(name, found, PLAIN[name](data))


@settings(max_examples=50)
@given(case=numeric(), other=numeric())
def test_features_side_by_side_do_not_touch_each_other(
    case: tuple[FeatureProfile, np.ndarray], other: tuple[FeatureProfile, np.ndarray]
) -> None:
    features, live = [case[0], other[0]], np.stack([case[1], other[1]])
    together = Binned.of_features(features, live)
    for name, statistic in STATISTICS.items():
        for i in range(2):
            alone = float(statistic.effect(Binned.of_features([features[i]], live[i : i + 1]))[0])
            found = float(statistic.effect(together)[i])
            assert_same(name, found, alone)


# -- against raw values -------------------------------------------------------------------

Raw = Callable[[np.ndarray, np.ndarray, float], float]


def quantile_shift(q: float) -> Raw:
    def shift(reference: np.ndarray, live: np.ndarray, spread: float) -> float:
        ends = (np.quantile(side, q, method="inverted_cdf") for side in (live, reference))
        return float(next(ends) - next(ends)) / spread

    return shift


RAW: dict[str, Raw] = {
    "ks": lambda r, v, _: scipy.stats.ks_2samp(r, v, method="asymp").statistic,
    "wasserstein": lambda r, v, _: scipy.stats.wasserstein_distance(r, v),
    "wasserstein_winsorised": lambda r, v, _: scipy.stats.wasserstein_distance(r, v),
    "wasserstein_scaled": lambda r, v, s: scipy.stats.wasserstein_distance(r, v) / s,
    "cramer_von_mises": lambda r, v, _: squared_differences(r.tolist(), v.tolist(), tails=False),
    "energy": lambda r, v, s: scipy.stats.energy_distance(r / s, v / s),
    "mann_whitney": lambda r, v, _: (
        scipy.stats.mannwhitneyu(v, r, method="asymptotic").statistic / r.size / v.size
    ),
    "mean_shift": lambda r, v, s: float(v.mean() - r.mean()) / s,
    "p05_shift": quantile_shift(0.05),
    "median_shift": quantile_shift(0.5),
    "p95_shift": quantile_shift(0.95),
}
WINSORISED = {"wasserstein_winsorised", "wasserstein_scaled", "energy", "mean_shift"}


def test_each_stated_bound_is_tested() -> None:
    assert {name for name, item in STATISTICS.items() if item.raw_error} == set(RAW)


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("shape", ["normal", "lognormal", "ties"])
def test_a_statistic_keeps_its_bound_on_raw_values(name: str, shape: str) -> None:
    draw = {
        "normal": lambda g, n: g.normal(size=n),
        "lognormal": lambda g, n: g.lognormal(sigma=2, size=n),
        "ties": lambda g, n: np.maximum(np.round(g.normal(size=n), 2), 0.0),
    }[shape]
    for seed in range(20):
        random = np.random.default_rng(seed)
        size, live_size = int(random.integers(30, 3000)), int(random.integers(5, 500))
        reference = draw(random, size)
        live = draw(random, live_size) * random.uniform(0.7, 1.4)
        spec = FeatureSpec("f", kind=FeatureKind.CONTINUOUS, datatype="FP64")
        feature = fit_feature(spec, reference)
        binned = Binned.of_features([feature], counted(feature, live)[None])
        spread = float(binned.layout.spread[0])
        ends = binned.layout.inner if name in WINSORISED else binned.layout.places
        if name in WINSORISED:
            cut = float(ends.min()), float(ends.max())
        else:
            cut = float(feature.starts[0]), feature.high
        sides = [np.clip(side, *cut) for side in (reference, live)]
        raw = RAW[name](*sides, spread)
        bound = STATISTICS[name].raw_error
        assert bound is not None
        found = float(STATISTICS[name].effect(binned)[0])
        assert abs(found - raw) <= float(bound(binned)[0]) + 1e-9, (seed, found, raw)


def test_no_counts_at_all_are_nan_and_no_warning() -> None:
    some = fit_feature(FeatureSpec("f", kind=FeatureKind.CONTINUOUS), np.arange(9.0))
    binned = Binned.of_features([some], np.zeros((1, SLOTS), dtype=np.int64))
    for name, statistic in STATISTICS.items():
        assert np.isnan(statistic.effect(binned)).all(), name
