"""What broke is named: unit, stuck value, range, missing values, schema; and drift is not."""

import numpy as np
import pytest

from monitor.core.bins import count_slots
from monitor.core.data_quality import broken_features, in_words
from monitor.core.profile import FeatureProfile, FeatureSpec, ReferenceProfile, fit_feature
from monitor.core.schema import Fit, misfits
from monitor.core.unit_change import UnitChange, unit_change

SEED = 20261128
ROWS = 1500
MANY_ROWS = 20_000  # of few rows 2.54 is not told from 1.7


def numbers(shape: str, rows: int, random: np.random.Generator) -> np.ndarray:
    """Of shapes that features have: centred, skewed, far from 0, mostly 0 and whole."""
    if shape == "amounts":
        return random.lognormal(3, 1, size=rows)
    if shape == "weights":
        return random.normal(70, 20, size=rows)
    if shape == "pixels":
        return random.integers(1, 17, rows) * (random.random(rows) < 0.5)
    return random.normal(size=rows)


def feature_of(values: np.ndarray) -> FeatureProfile:
    return fit_feature(FeatureSpec("x", kind="continuous"), values.astype(np.float32))


def said(feature: FeatureProfile, live: np.ndarray) -> str:
    values = live.astype(np.float32).astype(np.float64)
    counts = count_slots(values, feature.starts, feature.high, feature.exact)
    profile = ReferenceProfile(rows=ROWS, features=(feature,))
    return "; ".join(broken_features(profile, counts[None], 0.02))


def change_of(shape: str, factor: float) -> UnitChange | None:
    random = np.random.default_rng(SEED)
    feature = feature_of(numbers(shape, 4000, random))
    live = (numbers(shape, MANY_ROWS, random) * factor).astype(np.float32).astype(np.float64)
    counts = count_slots(live, feature.starts, feature.high, exact=False)
    return unit_change(feature, counts, 0.07)


@pytest.mark.parametrize("shape", ["amounts", "centred", "pixels"])
@pytest.mark.parametrize("factor", [1 / 16, 1 / 2.54, 2.54, 10.0])
def test_a_factor_is_found_and_lies_in_what_is_said(shape: str, factor: float) -> None:
    found = change_of(shape, factor)
    assert found is not None
    assert found.low / 1.2 <= factor <= found.high * 1.2


def test_far_factors_are_bounded_as_far_as_the_bins_tell() -> None:
    tiny, huge = change_of("centred", 1e-4), change_of("centred", 1e4)
    assert tiny is not None
    assert huge is not None
    assert tiny.high < 0.1
    assert str(tiny).endswith("or less")
    assert huge.low > 10
    assert str(huge).endswith("or more")
    near = change_of("amounts", 4.0)
    assert str(near) == "multiplied by about 4"


@pytest.mark.parametrize("shape", ["amounts", "weights", "centred", "pixels"])
@pytest.mark.parametrize("drift", ["none", "shift", "spread", "noise", "mixture"])
def test_drift_is_no_unit_change_and_breaks_nothing(shape: str, drift: str) -> None:
    random = np.random.default_rng(SEED)
    reference = numbers(shape, 4000, random)
    live, scale = numbers(shape, ROWS, random), reference.std()
    live = {
        "none": live,
        "shift": live + scale,
        "spread": reference.mean() + 1.4 * (live - reference.mean()),
        "noise": live + random.normal(0, scale / 2, ROWS),
        "mixture": np.where(random.random(ROWS) < 0.5, live, live + 2 * scale),
    }[drift]
    assert said(feature_of(reference), live) == ""


def test_what_broke_is_named() -> None:
    random = np.random.default_rng(SEED)
    feature = feature_of(numbers("weights", 4000, random))
    live = numbers("weights", ROWS, random)
    assert "above the reference's range in 100%" in said(feature, live * 1000)
    assert "below the reference's range in 100%" in said(feature, live - 1000)
    outside = np.where(random.random(ROWS) < 0.5, 1e6, -1e6)
    assert "outside the reference's range in 100%" in said(feature, outside)
    assert said(feature, np.full(ROWS, 71.5)) == "x is stuck at one value"
    burst = np.where(random.random(ROWS) < 0.3, np.nan, live)
    assert "missing in" in said(feature, burst)
    assert "not finite in" in said(feature, np.where(random.random(ROWS) < 0.3, np.inf, live))
    centred = feature_of(numbers("centred", 4000, random))
    assert "stuck near 0, or multiplied" in said(centred, np.zeros(ROWS))
    # A few rows say nothing about where values are.
    assert said(feature, np.full(50, 71.5)) == ""


def test_a_constant_feature_and_one_without_values_are_left_alone() -> None:
    constant = feature_of(np.full(4000, 3.0))
    assert said(constant, np.full(ROWS, 3.0)) == ""
    assert said(constant, np.where(np.arange(ROWS) % 2 == 0, 3.0, 4.0)) == ""
    assert unit_change(constant, np.zeros(261, dtype=np.int64), 0.1) is None
    assert "above" in said(constant, np.full(ROWS, 3000.0))


def test_a_sentence_names_a_few_and_counts_the_rest() -> None:
    assert in_words(["a", "b"]) == "a; b"
    assert in_words(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"
    assert in_words([]) == ""


def of_tensor(name: str, index: int, values: list) -> FeatureProfile:
    return fit_feature(FeatureSpec(f"f{index}", name, index), np.array(values, dtype=object))


def test_a_schema_that_changed_is_said() -> None:
    numeric = fit_feature(FeatureSpec("f0", "x", 0), np.arange(100.0))
    last = fit_feature(FeatureSpec("f3", "x", 3), np.arange(100.0))
    profile = ReferenceProfile(rows=100, features=(numeric, last, of_tensor("t", 0, ["a", "b"])))
    text = np.array([["a"], ["b"]], dtype=object)
    assert misfits(profile, {"x": np.zeros((2, 4)), "t": text, "more": text}) == ()
    assert misfits(profile, {"x": np.zeros((2, 3)), "t": text}) == (
        "input x has 3 values a row, the reference 4",
    )
    assert misfits(profile, {"t": text}) == ("input x is gone (there are: t)",)
    wide = np.array([["a"] * 4] * 2, dtype=object)
    assert misfits(profile, {"x": wide, "t": text}) == (
        "input x is text, in the reference it is numbers",
    )
    nameless = ReferenceProfile(rows=100, features=(fit_feature(FeatureSpec("f"), np.arange(9.0)),))
    assert misfits(nameless, {"any": np.zeros((2, 1))}) == ()
    assert misfits(nameless, {"a": text, "b": text})[0].startswith("input of the reference is gone")


def test_a_misfit_counts_from_a_share_of_enough_rows_and_is_forgotten_with_its_window() -> None:
    fit = Fit()
    fit.add(0, 1000, 40, {"b", "a"})
    assert fit.broken(0.05, 100) == ()
    fit.add(0, 50, 50, {"a"})
    assert fit.broken(0.05, 100) == ("a",)
    assert fit.broken(0.05, 5000) == ()
    assert Fit.from_tree(fit.to_tree()).broken(0.05, 100) == ("a",)
    fit.add(2, 1000, 0, set())
    assert fit.broken(0.05, 100) == ()


@pytest.mark.parametrize("factor", [1.2, 1.65, 1 / 1.65])
def test_values_that_grow_by_less_than_a_unit_would_are_never_taken_for_one(factor: float) -> None:
    """Few rows fit a larger factor too; that is chance, block after block."""
    random = np.random.default_rng(SEED)
    feature = feature_of(random.lognormal(3.5, 1.1, 50_000))
    found = [
        said(feature, factor * random.lognormal(3.5, 1.1, random.integers(150, 2000)))
        for _ in range(300)
    ]
    assert found == [""] * 300
