"""Sketches of distinct values: laws of merging, the error they promise, and what is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.bins import Counts
from monitor.core.block import STABLE, Arm, ArmRows, ModelBlock, Part
from monitor.core.counter import Counter
from monitor.core.distinct_values import (
    NOTHING,
    LiveDistinct,
    live_distinct,
    sketches_from_tree,
    sketches_to_tree,
    with_distinct,
)
from monitor.core.effects import effects
from monitor.core.hyperloglog import (
    REGISTERS,
    RELATIVE_ERROR,
    HyperLogLog,
    number_hashes,
    text_hashes,
)
from monitor.core.model_state import ModelState
from monitor.core.profile import RARE_MAX, FeatureSpec, ReferenceProfile, fit_feature
from monitor.core.tree import pack, unpack
from monitor.documents import effect_document
from tests.monitor_world import SETTINGS

SEED = 20261129
HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=30).map(lambda h: np.array(h, np.uint64))
MANY = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 2**64, 3000, dtype=np.uint64)
)
SKETCHES = (HASHES | MANY).map(HyperLogLog().with_hashes)


# -- the sketch --------------------------------------------------------------------


@given(SKETCHES, SKETCHES, SKETCHES)
def test_merging_is_commutative_associative_and_idempotent(
    a: HyperLogLog, b: HyperLogLog, c: HyperLogLog
) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(a) == a == a.merged(HyperLogLog())


@given(HASHES | MANY, st.integers(0, 3000))
def test_a_split_set_merges_to_the_sketch_of_the_whole_and_each_register_is_its_definition(
    hashes: np.ndarray, cut: int
) -> None:
    whole = HyperLogLog().with_hashes(hashes)
    parts = HyperLogLog().with_hashes(hashes[:cut]), HyperLogLog().with_hashes(hashes[cut:])
    assert parts[1].merged(parts[0]) == whole == whole.with_hashes(hashes[::-1])
    assert len(whole.data) <= REGISTERS
    expected = [0] * REGISTERS
    for number in hashes.tolist():
        bits = f"{number:064b}"
        rest = bits[12:] + "1"
        place = int(bits[:12], 2)
        expected[place] = max(expected[place], rest.index("1") + 1)
    assert whole.registers.tolist() == expected


@pytest.mark.parametrize("values", [0, 1, 10, 300, 4_000, 12_000, 200_000])
@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_the_error_over_many_seeds_is_the_known_one(kind: str, values: int) -> None:
    """Of 40 sketches: their spread within half as much again, no bias beyond 4 of its errors."""
    print("seed", SEED)
    seeds = 40 if values * 40 <= 500_000 or kind == "numbers" else 2
    found = np.empty(seeds)
    for seed in range(seeds):
        names = np.arange(values) + seed * 10_000_000
        hashes = number_hashes(names.astype(float))
        if kind == "text":
            hashes = text_hashes(f"user-{name}" for name in names)
        found[seed] = HyperLogLog().with_hashes(hashes).estimate
    if values <= 10:  # two of ten share a register in one of a hundred sketches
        assert np.all(np.abs(found - values) <= values // 10 + 0.1)
        return
    errors = found / values - 1
    assert np.sqrt(np.mean(errors**2)) < (1.5 if seeds > 2 else 3) * RELATIVE_ERROR
    assert abs(errors.mean()) < 4 * RELATIVE_ERROR / np.sqrt(seeds)


def test_minus_zero_is_zero_and_hashes_stay_what_they_are() -> None:
    """They are stored, and compared over restarts and machines."""
    same = number_hashes(np.array([0.0, -0.0]))
    assert same[0] == same[1] != 0
    assert number_hashes(np.array([1.0, 2.5])).tolist() == NUMBERS
    assert text_hashes(["a", "", "ä"]).tolist() == TEXTS


NUMBERS = [12092743136074924367, 12303009659655139476]
TEXTS = [3405396810240292928, 13020603013274838756, 4152366542966443504]


# -- of a feature ------------------------------------------------------------------


def counter_of(reference: np.ndarray) -> Counter:
    return Counter(ReferenceProfile(len(reference), (fit_feature(FeatureSpec("f"), reference),)))


def seen(counter: Counter, blocks: list[np.ndarray]) -> tuple[Counts, LiveDistinct]:
    total, live = counter.empty(), LiveDistinct(0)
    for block in blocks:
        part, counts = Part({"f": block}, {}), counter.empty()
        assert counter.count(part.inputs, {}, counts)
        live.add([part], counts, counter)
        total += counts
    return total, live


def allowed(sketched: int) -> int:
    """How far off a count may be, of so many values without a bin: two share a register."""
    return 0 if not sketched else 1 + sketched // 10


TEXT = st.none() | st.sampled_from([f"v{i}" for i in range(300)])
NUMBER = st.sampled_from([*map(float, range(60)), np.nan, np.inf, -0.0])


@given(
    st.sampled_from([10, 280]),
    st.lists(st.lists(TEXT, min_size=1, max_size=40), min_size=1, max_size=4),
)
def test_distinct_text_is_counted_as_a_set_does(known: int, blocks: list[list[str | None]]) -> None:
    """280: more than have a bin of their own, so some are rare."""
    reference = np.array([f"v{i}" for i in range(known)], dtype=object)
    counter = counter_of(reference)
    counts, live = seen(counter, [np.array(block, dtype=object) for block in blocks])
    (feature,) = counter.profile.features
    assert feature.distinct_values == known
    expected = {value for block in blocks for value in block if value is not None}
    named = set(feature.categories[: feature.named])
    found = live_distinct(feature, counts[0], live.rest(0))
    assert found is not None
    assert abs(found - len(expected)) <= allowed(len(expected - named))


@given(st.lists(st.lists(NUMBER, min_size=1, max_size=40), min_size=1, max_size=4))
def test_distinct_numbers_are_counted_as_a_set_does(blocks: list[list[float]]) -> None:
    counter = counter_of(np.array([0.0, 1.0, 2.0, 3.0]))
    counts, live = seen(counter, [np.array(block, dtype=np.float32) for block in blocks])
    (feature,) = counter.profile.features
    expected = {value for block in blocks for value in block if np.isfinite(value)}
    named = {0.0, 1.0, 2.0, 3.0}
    found = live_distinct(feature, counts[0], live.rest(0))
    assert found is not None
    assert abs(found - len(expected)) <= allowed(len(expected - named))


def test_windows_slide_and_the_state_reads_back() -> None:
    counter = counter_of(np.array(["a", "b"], dtype=object))
    _, live = seen(counter, [np.array(["a", "x", "y"], dtype=object)])
    live.move_to(1)
    part, counts = Part({"f": np.array(["y", "z"], dtype=object)}, {}), counter.empty()
    counter.count(part.inputs, {}, counts)
    live.add([part], counts, counter)
    assert round(live.rest(0).estimate) == 3
    again = LiveDistinct.from_tree(unpack(pack(live.to_tree())))
    assert again == live
    live.move_to(2)
    assert round(live.rest(0).estimate) == 2
    live.move_to(9)
    assert live.rest(0) == NOTHING
    assert sketches_from_tree(unpack(pack(sketches_to_tree({})))) == {}


def test_what_is_withheld_continuous_or_counted_elsewhere_has_no_distinct_values() -> None:
    counter = counter_of(np.array(["a", "b"], dtype=object))
    hidden = Part({"f": np.array(["x"], dtype=object)}, {}, {"input:f": (0,)})
    counts = counter.empty()
    counter.count({"f": np.array(["x"], dtype=object)}, {}, counts)
    live = LiveDistinct(0)
    live.add([hidden], counts, counter)
    (feature,) = counter.profile.features
    assert live.rest(0) == NOTHING
    assert live_distinct(feature, counts[0], live.rest(0)) is None
    spread = fit_feature(FeatureSpec("x"), np.arange(1000.0))
    assert spread.distinct_values is None
    assert live_distinct(spread, counts[0], NOTHING) is None


def test_a_reference_with_more_values_than_it_names_still_knows_how_many() -> None:
    values = np.array([f"id{i}" for i in range(RARE_MAX + 1000)], dtype=object)
    feature = fit_feature(FeatureSpec("id"), values)
    assert feature.distinct_values == RARE_MAX + 1000
    profile = ReferenceProfile(len(values), (feature,))
    again = ReferenceProfile.from_bytes(profile.to_bytes())
    assert again.to_bytes() == profile.to_bytes()
    assert again.features[0].distinct_values == RARE_MAX + 1000


def test_a_reference_of_own_traffic_counts_what_its_bins_do_not_name() -> None:
    counter = counter_of(np.array(["a", "b"], dtype=object))
    words = np.array([f"w{i}" for i in range(40)] + ["a"], dtype=object)
    _, live = seen(counter, [words])
    (feature,) = counter.profile.features
    found = with_distinct(feature, live.rest(0))
    assert found.distinct_values is not None
    assert abs(found.distinct_values - 42) <= 1
    assert with_distinct(feature, NOTHING) is feature


def test_blocks_of_a_model_show_them_after_a_restart_too() -> None:
    reference = np.array(["a", "b"] * 50, dtype=object)
    profile = ReferenceProfile(100, (fit_feature(FeatureSpec("f"), reference),))
    state = ModelState("m", SETTINGS)
    for index, words in enumerate((["a", "x", "y"], ["y", "z", None])):
        rows = ArmRows(parts=[Part({"f": np.array(words, dtype=object)}, {})])
        rows.add(index, index, len(words), 0)
        state.close(ModelBlock(index, {Arm("d", "1", STABLE, ""): rows}), lambda *_: profile)
    tree = unpack(pack(state.to_tree()))
    for shown in (state, ModelState.from_tree("m", tree, SETTINGS, lambda *_: profile)):
        (effect,) = effects(shown)
        assert effect_document(effect)["distinct"] == {"reference": 2, "live": 4}
