"""Reference profiles: what is fitted, and what comes back from bytes."""

import json

import numpy as np
import pytest

from monitor.core.bins import BELOW, BINS, MISSING, NONFINITE, UNSEEN, count_slots
from monitor.core.predictions import (
    LOSS_UNITS,
    class_of,
    class_texts,
    error_of,
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
    errors = [error_of(output, spec, row, label) for row, label in ((0, 1.0), (0, 100.0), (1, 0.0))]
    assert errors == [1.0, 98.0, np.inf]
    assert [loss_units(e, 4.0) for e in errors if e is not None] == [
        LOSS_UNITS // 4, LOSS_UNITS, LOSS_UNITS
    ]  # fmt: skip
    assert error_of(output, spec, 0, "a word") is None


def test_labels_of_a_class_compare_as_text() -> None:
    spec = PredictionSpec(PredictionKind.CLASS, "y")
    cases = (
        (np.array([3]), 3.0),
        (np.array([b"cat"], dtype=object), "cat"),
        (np.array([True]), 1.0),  # what the gateway makes of a label `true`
    )
    for output, label in cases:
        assert error_of(output, spec, 0, label) == 0.0
        assert error_of(output, spec, 0, "dog") == 1.0


def test_answers_and_losses_that_are_not_finite_cost_all_and_have_no_range() -> None:
    predictions = np.array([np.nan, -np.inf, 1.0, 5.0])
    profile = build_profile(
        np.zeros((4, 1)), [SPEC], predictions, np.array([np.nan, np.inf, 0.0, 1.0])
    )
    assert profile.loss is not None
    assert (profile.loss.scale, profile.loss.mean) == (4.0, (1.0 + 1.0 + 0.0 + 0.25) / 4)
    assert ReferenceProfile.from_bytes(profile.to_bytes()).loss == profile.loss


FEATURE = {
    "name": "x", "kind": "continuous", "tensor": "", "index": 0, "datatype": "FP32",
    "starts": [1.0, 2.0], "high": 3.0, "counts": {"0": 4, "1": 5}, "categories": [], "rare": [],
    "held": 4, "novel": 0,
}  # fmt: skip
LOSS = {"mean": 0.1, "standard_error": 0.01, "rows": 9, "scale": 1.0}


def stored(feature: dict, loss: dict | None = None, **more: object) -> bytes:
    tree = {
        "format": "driftgate.reference.v1", "rows": 9, "features": [FEATURE | feature],
        "predictions": [], "prediction": None, "loss": loss and LOSS | loss,
    }  # fmt: skip
    return json.dumps(tree | more).encode()


def test_the_profile_that_hostile_ones_are_made_from_is_sound() -> None:
    assert ReferenceProfile.from_bytes(stored({}, {"mean": 0.2})).features[0].high == 3.0


@pytest.mark.parametrize(
    "data",
    [
        stored({"index": -5}),  # a column that the kernel would read outside of the row
        stored({"index": 2**40}),
        stored({"counts": [1, 2]}),
        stored({"counts": {"3": 10**30}}),
        stored({"counts": {"-1": 1}}),
        stored({"starts": [[1.0], [2.0]]}),
        stored({"starts": [2.0, 2.0]}),
        stored({"starts": [1.0, float("inf")]}),
        stored({"starts": 7}),
        stored({"high": 1.5}),
        stored({"high": float("nan")}),
        stored({"categories": [["a"]]}),
        stored({"rare": "abc"}),
        stored({"kind": "unheard of"}),
        stored({"held": 3, "novel": 4}),
        stored({}, {"mean": float("nan")}),
        stored({}, {"scale": 0.0}),
        stored({}, {"scale": float("inf")}),
        stored({}, {"rows": 0}),
        stored({}, rows=float("inf")),
        stored({}, rows=-1),
        stored({}, prediction={"kind": "class", "output": "y", "classes": [1]}),
        stored({}, features=None),
        b"[" * 100_000,
    ],
)
def test_a_hostile_profile_is_refused(data: bytes) -> None:
    with pytest.raises(ProfileError):
        ReferenceProfile.from_bytes(data)


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
