"""The kernel counts as the slow reference does, whatever the values."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.bins import SLOTS, count_slots
from monitor.core.counter import Counter
from monitor.core.profile import fit_feature
from monitor.profile import FeatureSpec, ReferenceProfile

VALUES = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.integers(-5, 20).map(float),
    st.sampled_from([0.0, -0.0, 1e-38, -1e-38, 3.4e38, -3.4e38, 1000.0]),
)
COLUMN = st.lists(VALUES, min_size=1, max_size=400)
KINDS = st.sampled_from([None, "continuous", "discrete"])


def profile(columns: list[list[float]], kinds: list[str | None], datatype: str) -> ReferenceProfile:
    features = tuple(
        fit_feature(FeatureSpec(f"f{i}", index=i, kind=kind, datatype=datatype), np.array(column))
        for i, (column, kind) in enumerate(zip(columns, kinds, strict=True))
    )
    return ReferenceProfile(len(columns[0]), features)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 20), st.sampled_from(["FP32", "FP64"]))
def test_the_kernel_equals_binary_search(data: st.DataObject, width: int, datatype: str) -> None:
    dtype = np.float32 if datatype == "FP32" else np.float64
    references = [data.draw(COLUMN) for _ in range(min(width, 3))]
    columns = [references[i % len(references)] for i in range(width)]
    kinds = [data.draw(KINDS) for _ in range(width)]
    fitted = profile(columns, kinds, datatype)
    rows = data.draw(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=30))
    seen = [references[0][i % len(references[0])] for i in range(40)]
    live = [[row[i % 3] for i in range(width)] for row in rows] + [[x] * width for x in seen]
    block = np.array(live, dtype=dtype)
    counter = Counter(fitted)
    counts = counter.empty()
    assert counter.count({"x": block}, {}, counts)
    for i, feature in enumerate(fitted.features):
        expected = count_slots(
            block[:, i].astype(np.float64), feature.starts, feature.high, feature.exact
        )
        np.testing.assert_array_equal(counts[i], expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 100), max_size=5))
def test_counts_of_pieces_add_up_to_the_counts_of_the_whole(seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    fitted = profile([list(random.normal(size=200)) for _ in range(3)], [None] * 3, "FP32")
    block = random.normal(size=(100, 3)).astype(np.float32)
    counter = Counter(fitted)
    whole, pieces = counter.empty(), counter.empty()
    counter.count({"x": block}, {}, whole)
    parts = np.split(np.arange(100), sorted(cuts))
    for place in random.permutation(len(parts)):
        counter.count({"x": block[parts[place]]}, {}, pieces)
    np.testing.assert_array_equal(whole, pieces)
    assert whole.shape == (3, SLOTS)
    assert int(whole.sum()) == 300
