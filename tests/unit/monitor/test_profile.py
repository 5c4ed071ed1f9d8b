"""Reference profiles: what is fitted, and what comes back from bytes."""

import numpy as np
import pytest

from monitor.core.bins import BELOW, BINS, MISSING, NONFINITE, UNSEEN, count_slots
from monitor.core.predictions import (
    LOSS_UNITS,
    class_of,
    class_texts,
    infer_spec,
    loss_units,
)
from monitor.core.profile import fit_feature
from monitor.profile import (
    FeatureKind,
    FeatureSpec,
    PredictionKind,
    PredictionSpec,
    ProfileError,
    ReferenceProfile,
    build_profile,
)

SPEC = FeatureSpec("x")


def test_bins_of_a_continuous_feature_hold_near_equal_mass() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    feature = fit_feature(SPEC, values)
    assert feature.kind is FeatureKind.CONTINUOUS
    assert feature.starts.size == BINS
    assert feature.counts[:BINS].sum() == 10_000
    assert feature.counts[:BINS].max() <= 2 * 10_000 / BINS


def test_few_distinct_numbers_are_categories_unless_declared_continuous() -> None:
    values = np.tile(np.arange(17.0), 50)
    assert fit_feature(SPEC, values).kind is FeatureKind.DISCRETE
    declared = fit_feature(FeatureSpec("x", kind="continuous"), values)
    assert declared.kind is FeatureKind.CONTINUOUS
    # An exact 3.5 is unseen for categories and ordinary for a range.
    for feature, slot in ((fit_feature(SPEC, values), UNSEEN), (declared, 3)):
        counts = count_slots(np.array([3.5]), feature.starts, feature.high, feature.exact)
        assert counts[slot] == 1


def test_special_values_have_slots_of_their_own() -> None:
    feature = fit_feature(FeatureSpec("x", kind="continuous"), np.arange(1000.0))
    values = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, 999.0, 1000.0])
    counts = count_slots(values, feature.starts, feature.high, exact=False)
    assert counts[MISSING] == 1
    assert counts[NONFINITE] == 2
    assert counts[BELOW] == 1
    assert counts[:BINS].sum() == 2


@pytest.mark.parametrize("values", [np.full(9, np.nan), np.zeros(1), np.full(50, 7.0)])
def test_columns_without_information_can_be_fitted(values: np.ndarray) -> None:
    feature = fit_feature(FeatureSpec("x", kind="continuous"), values)
    assert int(feature.counts.sum()) == values.size


def test_text_keeps_the_commonest_categories_and_remembers_the_rare() -> None:
    values = np.array([f"c{i}" for i in range(400) for _ in range(400 - i)], dtype=object)
    feature = fit_feature(SPEC, values)
    codes = feature.codes()
    assert feature.starts.size == BINS
    assert feature.categories[0] == "c0"
    assert codes["c399"] == codes["c300"] == BINS - 1
    assert "never" not in codes


def test_a_profile_survives_its_bytes() -> None:
    random = np.random.default_rng(1)
    inputs = random.normal(size=(500, 3)).astype(np.float32)
    scores = random.dirichlet(np.ones(4), size=500).astype(np.float32)
    profile = build_profile(
        inputs, [FeatureSpec(n) for n in "abc"], scores, (random.random(500) < 0.1).astype(float)
    )
    again = ReferenceProfile.from_bytes(profile.to_bytes())
    assert again.to_bytes() == profile.to_bytes()
    assert again.loss == profile.loss
    assert [f.name for f in again.predictions] == ["prediction", "top score"]
    for one, two in zip(profile.features, again.features, strict=True):
        np.testing.assert_array_equal(one.starts, two.starts)
        np.testing.assert_array_equal(one.counts, two.counts)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"format":"other"}', b"\xff\x00", b"null"])
def test_bytes_that_are_no_profile_are_refused(data: bytes) -> None:
    with pytest.raises(ProfileError):
        ReferenceProfile.from_bytes(data)


@pytest.mark.parametrize(
    ("inputs", "specs"),
    [(np.zeros((0, 1)), [SPEC]), (np.zeros((3, 2)), [SPEC]), (np.zeros(3), [SPEC])],
)
def test_a_reference_that_does_not_fit_is_refused(inputs: np.ndarray, specs: list) -> None:
    with pytest.raises(ProfileError):
        build_profile(inputs, specs)


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ProfileError, match="continous"):
        build_profile(np.zeros((3, 1)), [FeatureSpec("x", kind="continous")])


def test_a_number_s_loss_is_clipped_by_the_reference_range() -> None:
    spec = PredictionSpec(PredictionKind.NUMBER, "y")
    output = np.array([[2.0], [np.nan]])
    assert loss_units(output, spec, 0, 1.0, 4.0) == LOSS_UNITS // 4
    assert loss_units(output, spec, 0, 100.0, 4.0) == LOSS_UNITS
    assert loss_units(output, spec, 1, 0.0, 4.0) == LOSS_UNITS
    assert loss_units(output, spec, 0, "a word", 4.0) is None


def test_labels_of_a_class_compare_as_text() -> None:
    spec = PredictionSpec(PredictionKind.CLASS, "y")
    for output, label in ((np.array([3]), 3.0), (np.array([b"cat"], dtype=object), "cat")):
        assert loss_units(output, spec, 0, label, 1.0) == 0
        assert loss_units(output, spec, 0, "dog", 1.0) == LOSS_UNITS


def test_the_answer_is_found_by_its_shape() -> None:
    outputs = {"label": np.array([1, 2]), "probabilities": np.ones((2, 3), dtype=np.float32)}
    assert infer_spec(outputs) == PredictionSpec(PredictionKind.CLASS, "label")
    del outputs["label"]
    assert infer_spec(outputs) == PredictionSpec(PredictionKind.SCORES, "probabilities")
    assert infer_spec({"y": np.ones((2, 1))}) == PredictionSpec(PredictionKind.NUMBER, "y")
    assert infer_spec({}) is None


def test_one_row_is_classified_as_in_its_batch() -> None:
    random = np.random.default_rng(2)
    scores = random.random((50, 5)).astype(np.float32)
    scores[3] = np.nan
    spec = PredictionSpec(PredictionKind.SCORES, "", ("a", "b", "c"))
    batch = class_texts(scores, spec)
    assert [class_of(row, spec) for row in scores] == list(batch)
