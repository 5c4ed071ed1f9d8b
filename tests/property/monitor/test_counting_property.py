"""The kernel counts as numpy's binary search does, whatever the edges and the values."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.bench_cases import DISTRIBUTIONS
from monitor.core.bins import ABOVE, BELOW, MISSING, NONFINITE, SLOTS, UNSEEN
from monitor.core.counter import Counter
from monitor.core.lookup import make_tables
from monitor.core.profile import FeatureKind, FeatureProfile, fit_feature
from monitor.profile import FeatureSpec, ReferenceProfile

SEED = 20261128
PRECISIONS = [np.float32, np.float64]
VALUES = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.integers(-5, 20).map(float),
    st.sampled_from([0.0, -0.0, 1e-38, -1e-38, 3.4e38, -3.4e38, 1000.0]),
)
COLUMN = st.lists(VALUES, min_size=1, max_size=400)
KINDS = st.sampled_from([None, "continuous", "discrete"])


def expected_counts(column: np.ndarray, feature: FeatureProfile) -> np.ndarray:
    """What the histogram must be, in the column's own precision: int64[SLOTS]."""
    with np.errstate(over="ignore"):
        starts, high = feature.starts.astype(column.dtype), column.dtype.type(feature.high)
    slots = np.searchsorted(starts, column, side="right") - 1
    if feature.exact or not starts.size:
        known = np.isin(column, starts)
        slots[~known] = UNSEEN
    else:
        slots[column < starts[0]] = BELOW
        slots[column > high] = ABOVE
    slots[np.isinf(column)] = NONFINITE
    slots[np.isnan(column)] = MISSING
    return np.bincount(slots, minlength=SLOTS)


def unkind_values(feature: FeatureProfile, dtype: type) -> np.ndarray:
    """Every edge, its neighbours on both sides, and what is special about floats."""
    info, up, down = np.finfo(dtype), dtype(np.inf), dtype(-np.inf)
    with np.errstate(all="ignore"):
        edges = np.append(feature.starts, feature.high).astype(dtype)
        around = [edges, np.nextafter(edges, up), np.nextafter(edges, down), edges / 2, -edges]
    special = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, info.max, info.min, info.tiny]
    special += [-info.tiny, info.smallest_subnormal, -info.smallest_subnormal]
    return np.concatenate([*around, np.array(special, dtype=dtype)]).astype(dtype)


def check(features: list[FeatureProfile], block: np.ndarray) -> None:
    """Every feature on every column, all in one block."""
    counter = Counter(ReferenceProfile(1, tuple(features)))
    counts = counter.empty()
    assert counter.count({"x": block}, {}, counts)
    for feature, found in zip(features, counts, strict=True):
        np.testing.assert_array_equal(found, expected_counts(block[:, feature.index], feature))


def made(starts: np.ndarray, high: float, kind: str = "continuous") -> FeatureProfile:
    """A feature of any edges, fitted on nothing."""
    counts = np.zeros(SLOTS, dtype=np.int64)
    starts = np.asarray(starts, dtype=np.float64)
    return FeatureProfile("f", FeatureKind(kind), "", 0, "FP64", starts, float(high), counts)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 20), st.sampled_from(PRECISIONS))
def test_the_kernel_equals_binary_search(data: st.DataObject, width: int, dtype: type) -> None:
    datatype = "FP32" if dtype is np.float32 else "FP64"
    references = [data.draw(COLUMN) for _ in range(min(width, 3))]
    features = [
        fit_feature(
            FeatureSpec(f"f{i}", index=i, kind=data.draw(KINDS), datatype=datatype),
            np.array(references[i % len(references)]),
        )
        for i in range(width)
    ]
    rows = data.draw(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=30))
    seen = [references[0][i % len(references[0])] for i in range(40)]
    live = [[row[i % 3] for i in range(width)] for row in rows] + [[x] * width for x in seen]
    check(features, np.array(live, dtype=dtype))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40, unique=True
    ),
    st.sampled_from([np.float64, np.float32]),
    st.sampled_from(["continuous", "discrete"]),
    st.floats(min_value=0.0, max_value=1e300),
)
def test_any_edges_of_a_profile_are_kept_to(
    edges: list[float], dtype: type, kind: str, beyond: float
) -> None:
    """Also edges that rows of this precision cannot tell apart, or never reach."""
    starts = np.unique(np.array(edges))
    with np.errstate(over="ignore"):
        high = min(starts[-1] + beyond, np.finfo(np.float64).max)
    feature = made(starts, high, kind)
    check([feature], unkind_values(feature, dtype)[:, None])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 256), st.sampled_from(PRECISIONS))
def test_edges_of_random_bits_are_kept_to(seed: int, bins: int, dtype: type) -> None:
    """As many subnormals and giants as there are numbers between."""
    random = np.random.default_rng(seed)
    raw = random.bytes(4096 * np.dtype(dtype).itemsize)
    numbers = np.frombuffer(raw, dtype=dtype)
    finite = np.unique(numbers[np.isfinite(numbers)])
    starts = np.unique(random.choice(finite, bins)).astype(np.float64)
    feature = made(starts, starts[-1])
    check([feature], np.concatenate([numbers, unkind_values(feature, dtype)])[:, None])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_benchmarked_distribution_is_counted_exactly(name: str, dtype: type) -> None:
    """More features than a tile has columns, more rows than it has rows."""
    random = np.random.default_rng(SEED)
    draw, datatype = DISTRIBUTIONS[name], "FP32" if dtype is np.float32 else "FP64"
    features = [
        fit_feature(FeatureSpec(f"f{i}", index=i, datatype=datatype), draw(random, size))
        for i, size in enumerate([20_000, 1_000, 300, *[60] * 16])
    ]
    columns = [
        np.concatenate([draw(random, 1200), *[unkind_values(features[0], dtype)] * 2])
        for _ in features
    ]
    with np.errstate(over="ignore"):
        block = np.stack(columns, axis=1).astype(dtype)
    check(features, block)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_other_precision_s_profile_counts_in_the_rows_precision(dtype: type) -> None:
    random = np.random.default_rng(SEED)
    other = "FP64" if dtype is np.float32 else "FP32"
    for scale in (1.0, 1e-42, 1e300):
        values = random.normal(1000.0, 1e-4, 5000) * scale
        with np.errstate(over="ignore"):
            feature = fit_feature(FeatureSpec("f", index=0, datatype=other), values)
            block = np.concatenate([values.astype(dtype), unkind_values(feature, dtype)])
        check([feature], block[:, None])


def test_a_profile_without_any_number_counts_all_as_unseen() -> None:
    for kind in ("continuous", "discrete"):
        feature = made(np.zeros(0), 0.0, kind)
        check([feature], unkind_values(made(np.ones(1), 1.0), np.float32)[:, None])


def test_256_starts_in_one_cell_are_told_apart() -> None:
    """A giant ends the range, so that neither slicing separates what is below it."""
    starts = 1.0 + np.arange(256) * 2.0**-23
    for high in (starts[-1], 3e38):
        feature = made(starts, high)
        check([feature], unkind_values(feature, np.float32)[:, None])
    below = made(np.append(-3e38, starts[:255]), 3e38)
    check([below], unkind_values(below, np.float32)[:, None])


@pytest.mark.parametrize(
    ("name", "halvings", "even"),
    [
        ("normal(0, 1)", 1, True),
        ("normal(1000, 1)", 1, True),
        ("uniform", 1, True),
        ("integers to 1000", 1, True),
        ("40 categories", 1, True),
        ("constant", 1, False),
        ("lognormal, sigma 3", 1, False),
        ("subnormal", 1, False),
        ("Cauchy", 4, False),
        ("normal, near the largest", 4, False),
        ("two tight clusters", 8, True),
    ],
)
def test_the_slicing_is_chosen_by_what_it_costs(name: str, halvings: int, even: bool) -> None:
    values = DISTRIBUTIONS[name](np.random.default_rng(SEED), 20_000)
    tables = make_tables([fit_feature(FeatureSpec("f"), values)], [0], [0], np.float32)
    assert (int(tables.halvings[0]), bool(tables.scale[0] > 0)) == (halvings, even)


def test_tables_are_a_function_of_the_stored_profile() -> None:
    random = np.random.default_rng(SEED)
    features = tuple(
        replace(fit_feature(FeatureSpec(name), draw(random, 3000)), index=i)
        for i, (name, draw) in enumerate(DISTRIBUTIONS.items())
    )
    profile = ReferenceProfile(3000, features)
    stored = profile.to_bytes()
    again = ReferenceProfile.from_bytes(stored)
    places = list(range(len(features)))
    for dtype in PRECISIONS:
        one = make_tables(profile.features, places, places, dtype)
        two = make_tables(again.features, places, places, dtype)
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert profile.to_bytes() == stored


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_, np.float16])
def test_other_datatypes_are_counted_by_their_values(dtype: type) -> None:
    random = np.random.default_rng(SEED)
    block = random.integers(0, 200, (3000, 2)).astype(dtype)
    features = [
        fit_feature(FeatureSpec(f"f{i}", index=i, kind="continuous"), block[:1000, i])
        for i in range(2)
    ]
    counter = Counter(ReferenceProfile(1000, tuple(features)))
    counts = counter.empty()
    assert counter.count({"x": block}, {}, counts)
    for feature, found in zip(features, counts, strict=True):
        column = block[:, feature.index].astype(np.float64)
        np.testing.assert_array_equal(found, expected_counts(column, feature))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 100), max_size=5))
def test_counts_of_pieces_add_up_to_the_counts_of_the_whole(seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    features = tuple(
        fit_feature(FeatureSpec(f"f{i}", index=i), random.normal(size=200)) for i in range(3)
    )
    block = random.normal(size=(100, 3)).astype(np.float32)
    counter = Counter(ReferenceProfile(200, features))
    whole, pieces = counter.empty(), counter.empty()
    counter.count({"x": block}, {}, whole)
    parts = np.split(np.arange(100), sorted(cuts))
    for place in random.permutation(len(parts)):
        counter.count({"x": block[parts[place]]}, {}, pieces)
    np.testing.assert_array_equal(whole, pieces)
    assert whole.shape == (3, SLOTS)
    assert int(whole.sum()) == 300
