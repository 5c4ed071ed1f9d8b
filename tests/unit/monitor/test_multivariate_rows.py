"""Which rows are kept, of the reference and of live traffic, and which are not."""

from dataclasses import replace

import numpy as np
import pytest

from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.multivariate.live_rows import LIVE_VALUES_MAX, LiveRows
from monitor.core.multivariate.reference_rows import REFERENCE_VALUES_MAX
from monitor.core.multivariate.row_sample import RowSample, row_keys
from monitor.core.multivariate.spaces import SPACES_MAX, WIDE_MIN, WIDTH_MAX, spaces_of
from monitor.core.multivariate.standing import comparable, standings
from monitor.core.profile import FeatureProfile, FeatureSpec, ProfileError, fit_feature
from monitor.core.tree import pack, unpack
from monitor.profile import REFERENCE_ROWS, ReferenceProfile, build_profile

SEED = 20261129
MOST = 50


def sampled(keys: np.ndarray, pieces: int = 1, most: int = MOST) -> RowSample:
    """Of rows whose only value is their place."""
    sample = RowSample.empty(1)
    for places in np.array_split(np.arange(len(keys)), pieces):
        chosen = places[sample.candidates(keys[places], most)]
        values = chosen[:, None].astype(np.float32)
        sample = sample.with_rows(keys[chosen], values, most)
    return sample


def test_a_sample_is_of_the_set_of_rows_however_they_come() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    keys = row_keys("0a0b0c", np.arange(1000))
    whole = sampled(keys)
    assert len(whole) == MOST
    assert set(whole.keys.tolist()) == set(np.sort(keys)[:MOST].tolist())
    order = random.permutation(1000)
    mixed = sampled(keys[order], pieces=37)
    np.testing.assert_array_equal(mixed.keys, whole.keys)
    np.testing.assert_array_equal(order[mixed.values[:, 0].astype(int)], whole.values[:, 0])
    one, two = sampled(keys[:300]), sampled(keys[300:])
    np.testing.assert_array_equal(one.with_rows(two.keys, two.values, MOST).keys, whole.keys)


def test_a_sample_is_fair_and_producers_do_not_share_keys() -> None:
    drawn = np.zeros(20)
    for producer in range(200):
        keys = row_keys(f"{producer:06x}", np.arange(1000))
        assert len(np.unique(keys)) == 1000
        drawn += np.bincount(sampled(keys).values[:, 0].astype(int) // 50, minlength=20)
    # 10,000 draws over 20 equal parts: 500 each, give or take 5 deviations.
    assert np.abs(drawn - 500).max() < 5 * np.sqrt(500)


def features(tensor: str, width: int, first: int = 0) -> list[FeatureProfile]:
    values = np.arange(2.0)
    return [
        fit_feature(FeatureSpec(f"{tensor}[{i}]", tensor, i), values)
        for i in range(first, first + width)
    ]


def text(tensor: str) -> FeatureProfile:
    return fit_feature(FeatureSpec(tensor, tensor, 0), np.array(["a", "b"], dtype=object))


def test_wide_tensors_are_spaces_of_their_own_and_text_is_in_none() -> None:
    found = spaces_of([text("city"), *features("x", 3), *features("image", WIDE_MIN), text("t")])
    assert [(space.name, len(space.members)) for space in found] == [
        ("features", 3),
        ("input:image", WIDE_MIN),
    ]
    assert found[0].members == (1, 2, 3)
    assert [space.name for space in spaces_of(features("", 500))] == ["input"]
    assert spaces_of([text("city"), *features("x", 1)]) == ()


def test_spaces_are_bounded_in_number_and_in_width() -> None:
    many = [f for i in range(SPACES_MAX + 2) for f in features(f"t{i}", WIDE_MIN)]
    assert [space.too_wide for space in spaces_of(many)] == [False] * SPACES_MAX + [True] * 2
    wide = [*features("a", WIDTH_MAX - 10), *features("b", WIDE_MIN)]
    assert [space.too_wide for space in spaces_of(wide)] == [False, True]


def profile(width: int = 4, rows: int = 600, **more: int) -> ReferenceProfile:
    random = np.random.default_rng(SEED)
    specs = [FeatureSpec(f"f{i}", "x", kind="continuous") for i in range(width)]
    return build_profile(random.normal(size=(rows, width)), specs, **more)


def test_a_profile_keeps_rows_of_the_reference_by_a_hash_of_their_place() -> None:
    numbered = np.arange(5000.0)
    inputs = np.stack([numbered, -numbered], axis=1)
    fitted = build_profile(inputs, [FeatureSpec("a", "x"), FeatureSpec("b", "x")])
    (sample,) = fitted.samples
    assert sample.values.shape == (REFERENCE_ROWS, 2)
    assert (sample.values[:, 0] == -sample.values[:, 1]).all()
    assert len(np.unique(sample.values[:, 0])) == REFERENCE_ROWS
    half = sample.values[: REFERENCE_ROWS // 2, 0]
    assert half.mean() == pytest.approx(2499.5, abs=5 * 5000 / np.sqrt(12 * REFERENCE_ROWS / 2))
    data = fitted.to_bytes()
    read = ReferenceProfile.from_bytes(data)
    assert read.to_bytes() == data
    np.testing.assert_array_equal(read.samples[0].values, sample.values)


def test_kept_rows_are_bounded_by_their_values_and_there_may_be_none() -> None:
    (sample,) = profile(width=400, rows=1500).samples
    assert sample.values.shape == (REFERENCE_VALUES_MAX // 400, 400)
    assert profile(sample_rows=0).samples == ()
    assert b"samples" not in profile(sample_rows=0).to_bytes()


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"rows":600,"space"', b'"rows":601,"space"'), (b'"rows":600,"space"', b'"rows":-1,"space"'),
     (b'"values":"', b'"values":"*')],
)  # fmt: skip
def test_damaged_rows_are_refused(old: bytes, new: bytes) -> None:
    data = profile().to_bytes()
    assert old in data
    with pytest.raises(ProfileError):
        ReferenceProfile.from_bytes(data.replace(old, new))


def part(first: int, rows: int = 40, width: int = 4, **more: object) -> Part:
    """Rows whose values are their numbers."""
    numbers = np.arange(first, first + rows)
    values = np.repeat(numbers[:, None], width, axis=1).astype(np.float32)
    return Part({"x": values}, {}, producer="0a0b0c", sequences=numbers)._replace(**more)


def kept(rows: int = MOST, reference: ReferenceProfile | None = None) -> tuple[LiveRows, Counter]:
    reference = reference or profile()
    return LiveRows.start(comparable(reference), rows), Counter(reference)


def live_numbers(live: LiveRows) -> np.ndarray:
    return live.live(live.spaces[0]).values[:, 0].astype(int)


def test_the_live_sample_is_of_the_last_full_window_and_the_one_under_way() -> None:
    live, counter = kept()
    for block in range(12):
        live.move_to(block // 4)
        live.add([part(100 * block)], counter)
    numbers = live_numbers(live)
    assert len(numbers) == MOST
    assert numbers.min() >= 400
    assert (numbers < 800).any()
    live.move_to(9)  # after a pause
    assert len(live_numbers(live)) == 0


def test_rows_without_a_number_or_of_another_shape_are_not_kept() -> None:
    live, counter = kept()
    live.add([Part({"x": np.zeros((9, 4))}, {}), part(0, width=3)], counter)
    live.add([part(0)._replace(inputs={"y": np.zeros((40, 4))})], counter)
    assert len(live_numbers(live)) == 0


@pytest.mark.parametrize("policy", [{"input:x": (2,)}, {"input:x": None}])
def test_what_the_policy_withholds_is_not_kept_and_what_was_is_forgotten(policy: dict) -> None:
    live, counter = kept()
    live.add([part(0)], counter)
    live.add([part(100), part(200, withheld=policy)], counter)
    assert len(live_numbers(live)) == 0
    (standing,) = standings(counter.profile, live, learned=False)
    assert standing.off == "the log's policy withholds a part of it"
    live.add([part(300, rows=60)], counter)
    assert live_numbers(live).min() >= 300
    assert standings(counter.profile, live, learned=False)[0].off == ""


def test_answers_that_are_withheld_are_no_reason() -> None:
    live, counter = kept()
    live.add([part(0, withheld={"output:label": None})], counter)
    assert len(live_numbers(live)) == 40


def test_memory_is_bounded_by_values() -> None:
    reference = profile(width=1000, rows=300)
    live, counter = kept(500, reference)
    for first in range(0, 2000, 200):
        live.add([part(first, 200, 1000)], counter)
    assert live.spaces[0].current.values.size <= LIVE_VALUES_MAX
    assert len(live_numbers(live)) == LIVE_VALUES_MAX // 1000


def test_samples_are_stored_and_come_back_to_the_bit() -> None:
    live, counter = kept()
    live.add([part(0)], counter)
    live.move_to(1)
    live.add([part(50)], counter)
    data = pack(live.to_tree())
    again = LiveRows.from_tree(unpack(data), comparable(counter.profile), MOST)
    assert pack(again.to_tree()) == data
    np.testing.assert_array_equal(live_numbers(again), live_numbers(live))


def test_why_nothing_is_compared_is_said() -> None:
    def off(reference: ReferenceProfile, *, rows: int = MOST, learned: bool = False) -> str:
        live, counter = kept(rows, reference)
        live.add([part(0)], counter)
        (standing,) = standings(reference, live, learned=learned)
        return standing.off

    assert off(profile()) == "40 live rows so far, 50 are needed"
    assert off(profile(), rows=0) == "monitor.multivariate_rows is 0"
    assert "pushed with 0 rows" in off(profile(sample_rows=0))
    assert "pushed with 60 rows" in off(profile(rows=60))
    assert "own traffic" in off(replace(profile(), samples=()), learned=True)
    assert "too wide" in off(profile(width=WIDTH_MAX + 1, rows=2))
