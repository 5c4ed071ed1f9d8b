"""p-values and intervals keep their word: how often, over seeded runs, against binomial bounds."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from monitor.core.bins import count_slots
from monitor.core.profile import FeatureKind, FeatureProfile, FeatureSpec, fit_feature
from monitor.core.statistics import STATISTICS, Binned
from monitor.core.statistics.assessment import LEVEL, assess
from monitor.core.statistics.binned import Layout

SEED = 20261128
BOUND = 1e-5  # chance that a bound fails though the rate is right; some hundred are tried
Draw = Callable[[np.random.Generator, int], np.ndarray]


def five(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.choice(5, rows, p=[0.4, 0.3, 0.15, 0.1, 0.05]).astype(float)


def normal(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.normal(size=rows)


def moved(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.normal(0.3, 1.3, size=rows)


def other_five(random: np.random.Generator, rows: int) -> np.ndarray:
    return random.choice(5, rows, p=[0.3, 0.3, 0.2, 0.1, 0.1]).astype(float)


def run(
    reference: Draw, live: Draw, rows: tuple[int, int], runs: int, kind: FeatureKind
) -> tuple[list[FeatureProfile], np.ndarray]:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    spec = FeatureSpec("f", kind=kind)
    features = [fit_feature(spec, reference(random, rows[0])) for _ in range(runs)]
    counts = [
        count_slots(live(random, rows[1]), item.starts, item.high, item.exact) for item in features
    ]
    return features, np.stack(counts)


def check_rate(name: str, p_values: np.ndarray, alpha: float, *, cautious: bool = False) -> None:
    """At most as many small p-values as chance allows, and not many fewer than promised.

    cautious: there may be fewer. Ties make Kolmogorov's law so, and few rows some others.
    """
    found, runs = int((p_values <= alpha).sum()), p_values.size
    law = scipy.stats.binom(runs, alpha)
    assert found <= law.isf(BOUND), (name, found, runs)
    assert cautious or name == "ks" or found >= law.ppf(BOUND), (name, found, runs)


@pytest.mark.parametrize("rows", [(500, 500), (9000, 700)])
def test_laws_give_as_many_small_p_values_as_promised(rows: tuple[int, int]) -> None:
    """Five values; χ² of the peers, with the reference taken for exact, gives 30 % at 5 %."""
    features, live = run(five, five, rows, 1500, FeatureKind.DISCRETE)
    binned = Binned.of_features(features, live)
    tried = 0
    for name, item in STATISTICS.items():
        if item.p_value is None or FeatureKind.DISCRETE not in item.kinds:
            continue
        p_values = item.p_value(binned, item.effect(binned))
        assert not np.isnan(p_values).any(), name
        for alpha in (0.1, 0.05, 0.01):
            check_rate(name, p_values, alpha)
        tried += 1
    assert tried >= 12


def test_the_null_mean_is_the_mean_when_nothing_moved() -> None:
    features, live = run(five, five, (3000, 600), 1500, FeatureKind.DISCRETE)
    binned = Binned.of_features(features, live)
    for name, item in STATISTICS.items():
        if item.null_mean is None or FeatureKind.DISCRETE not in item.kinds:
            continue
        effects, expected = item.effect(binned), float(item.null_mean(binned).mean())
        error = float(effects.std() / np.sqrt(effects.size))
        assert abs(float(effects.mean()) - expected) <= 5 * error + 0.03 * expected, name


CASES = [
    pytest.param(FeatureKind.DISCRETE, five, other_five, (3000, 600), id="values"),
    pytest.param(FeatureKind.CONTINUOUS, normal, moved, (5000, 800), id="continuous"),
]


def check_assessments(
    kind: FeatureKind, reference: Draw, live: Draw, rows: tuple[int, int], runs: int, same: bool
) -> None:
    """Intervals hold the truth; with nothing moved p-values are small as often as promised."""
    features, counts = run(reference, live, rows, runs, kind)
    random = np.random.default_rng([SEED, 1])
    # The truth in a feature's own bins: as many rows as make its error small beside the
    # interval's, in the same proportion, since pooled shares depend on it.
    many = [reference(random, rows[0] * 100), live(random, rows[1] * 100)]
    small: dict[str, list[float]] = {}
    held: dict[str, list[bool]] = {}
    for feature, own in zip(features, counts, strict=True):
        sides = [count_slots(v, feature.starts, feature.high, feature.exact) for v in many]
        truth = Binned.of(Layout.of([feature]), sides[0][None], sides[1][None])
        for item in assess(feature, own, STATISTICS):
            name = item.statistic.name
            expected = item.statistic.neutral if same else float(item.statistic.effect(truth)[0])
            small.setdefault(name, []).append(item.p_value)
            held.setdefault(name, []).append(item.low - 1e-9 <= expected <= item.high + 1e-9)
    for name, p_values in small.items():
        if same:
            found = int((np.array(p_values) <= 0.05).sum())
            assert found <= scipy.stats.binom.isf(BOUND, runs, 0.05), (name, found, runs)
        covered = sum(held[name])
        # A bootstrap interval of such few cells holds 90 % of what it says or more.
        assert covered >= scipy.stats.binom.ppf(BOUND, runs, LEVEL - 0.05), (name, covered, runs)


@pytest.mark.parametrize("same", [True, False])
def test_assessments_keep_their_word(same: bool) -> None:
    live = five if same else other_five
    check_assessments(FeatureKind.DISCRETE, five, live, (3000, 600), 20, same)


@pytest.mark.ci
@pytest.mark.parametrize(("kind", "reference", "live", "rows"), CASES)
@pytest.mark.parametrize("same", [True, False])
def test_assessments_keep_their_word_in_many_runs(
    kind: FeatureKind, reference: Draw, live: Draw, rows: tuple[int, int], same: bool
) -> None:
    check_assessments(kind, reference, reference if same else live, rows, 120, same)


@pytest.mark.ci
@pytest.mark.parametrize("rows", [(20_000, 300), (20_000, 3000), (1000, 1000), (300, 3000)])
def test_p_values_of_a_long_tail_are_honest_or_none(rows: tuple[int, int]) -> None:
    """Of those that are given at most as many are small as promised."""

    def tail(random: np.random.Generator, size: int) -> np.ndarray:
        shares = 1 / np.arange(1, 61) ** 1.5
        return random.choice(60, size, p=shares / shares.sum()).astype(float)

    features, counts = run(tail, tail, rows, 120, FeatureKind.DISCRETE)
    given: dict[str, list[float]] = {}
    for feature, live in zip(features, counts, strict=True):
        for item in assess(feature, live, STATISTICS):
            given.setdefault(item.statistic.name, []).append(item.p_value)
    for name, p_values in given.items():
        known = np.array([p for p in p_values if not np.isnan(p)])
        small = int((known <= 0.05).sum())
        print(name, small, known.size)
        # A small reference that happens to hold nothing once is no fair choice of them.
        assert small <= scipy.stats.binom.isf(BOUND, known.size, 0.05) or known.size < 30, name


def amounts(random: np.random.Generator, rows: int) -> np.ndarray:
    """Six in ten are 0, so the range ends in a lump and some tenths have no rows."""
    return np.where(random.random(rows) < 0.6, 0.0, random.lognormal(size=rows))


def rounded(random: np.random.Generator, rows: int) -> np.ndarray:
    return np.round(8 * random.normal(size=rows)) / 8  # exact in float32 too


@pytest.mark.parametrize("draw", [normal, amounts, rounded])
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param((100, 1000), marks=pytest.mark.ci),
        (500, 500),
        pytest.param((20_000, 2000), marks=pytest.mark.ci),
    ],
)
def test_cells_of_continuous_values_give_as_many_small_p_values_as_promised(
    draw: Draw, rows: tuple[int, int]
) -> None:
    """What lies beyond the reference's own range counts in its outermost cells."""
    features, live = run(draw, draw, rows, 600, FeatureKind.CONTINUOUS)
    binned = Binned.of_features(features, live)
    for name, item in STATISTICS.items():
        if item.p_value is None or item.places or FeatureKind.CONTINUOUS not in item.kinds:
            continue
        p_values = item.p_value(binned, item.effect(binned))
        known = p_values[~np.isnan(p_values)]  # the others come from draws
        assert known.size > 300, (name, known.size)
        for alpha in (0.1, 0.05, 0.01):
            check_rate(name, known, alpha, cautious=rows[0] < 500)


@pytest.mark.ci
@pytest.mark.parametrize("rows", [(500, 500), (20_000, 2000)])
def test_laws_of_continuous_values_give_as_many_small_p_values_as_promised(
    rows: tuple[int, int],
) -> None:
    features, live = run(normal, normal, rows, 200, FeatureKind.CONTINUOUS)
    binned = Binned.of_features(features, live)
    for name, item in STATISTICS.items():
        if item.p_value is None or not item.places:
            continue
        for alpha in (0.1, 0.05, 0.01):
            check_rate(name, item.p_value(binned, item.effect(binned)), alpha)
