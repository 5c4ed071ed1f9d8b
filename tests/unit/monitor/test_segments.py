"""Segments that moved most: what is counted, what is named, and that chance names little."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from monitor.core.bins import ABOVE, BELOW, MISSING, NONFINITE, UNSEEN
from monitor.core.block import STABLE, Arm, ModelBlock, Part
from monitor.core.counter import Counter
from monitor.core.model_state import ModelState
from monitor.core.profile import FeatureSpec, ProfileError, ReferenceProfile, fit_feature
from monitor.core.segment_ranking import ALPHA, Ranking, discoveries, rank_segments
from monitor.core.segment_reference import CELLS, FEATURES_MAX, GROUPS, VALUE_GROUPS
from monitor.core.segment_words import ANY, NO_PLACE, OTHER, name_of
from monitor.core.segments import ROWS_PER_BLOCK, Segmenter, groups_of
from monitor.core.tree import pack, unpack
from monitor.profile import build_profile
from tests.monitor_world import MODEL, SETTINGS

SEED = 20261129
ROWS = 6000
REGIONS = np.array(["eu", "us", "apac"])


def world(random: np.random.Generator, rows: int, moved: bool) -> tuple[np.ndarray, np.ndarray]:
    """Columns region, age, noise, and answers; moved: the old in the US get 1 far less often."""
    region, age = random.integers(0, 3, rows), random.uniform(20, 80, rows)
    chance = np.where(region == 0, 0.3, 0.6)
    if moved:
        chance = np.where((region == 1) & (age >= 68), 0.1, chance)
    columns = np.stack([REGIONS[region], age, random.normal(size=rows)], axis=1).astype(object)
    columns[:, 1:] = columns[:, 1:].astype(float)
    return columns, (random.random(rows) < chance).astype(np.int64)


def reference(seed: int = 1) -> ReferenceProfile:
    columns, said = world(np.random.default_rng(seed), ROWS, moved=False)
    names = [("region", "BYTES"), ("age", "FP32"), ("noise", "FP32")]
    specs = [FeatureSpec(n, n, 0, datatype=t) for n, t in names]
    return ReferenceProfile.from_bytes(build_profile(columns, specs, said).to_bytes())


def part_of(columns: np.ndarray, said: np.ndarray, first: int = 0) -> Part:
    texts = np.array([text.encode() for text in columns[:, 0]], dtype=object)
    inputs = {
        "region": texts,
        "age": columns[:, 1].astype(np.float32),
        "noise": columns[:, 2].astype(np.float32),
    }
    return Part(inputs, {"label": said}, {}, "00000a", first + np.arange(len(said)))


def live(profile: ReferenceProfile, seed: int, moved: bool, blocks: int = 16) -> np.ndarray:
    random = np.random.default_rng(seed)
    assert profile.segments is not None
    segmenter, counter = Segmenter(profile, profile.segments), Counter(profile)
    counts = segmenter.empty()
    for block in range(blocks):
        rows = part_of(*world(random, ROWS_PER_BLOCK, moved), first=block * ROWS_PER_BLOCK)
        counts += segmenter.count([rows], counter)
    return counts


def ranked(profile: ReferenceProfile, counts: np.ndarray, shown: int = 1000) -> Ranking:
    assert profile.segments is not None
    return rank_segments(profile, profile.segments, counts, shown)


def names(ranking: Ranking) -> list[dict[str, str]]:
    """Of the named segments, what they are of."""
    return [
        {member.feature: member.group for member in segment.members}
        for segment in ranking.segments
        if segment.named
    ]


# -- groups ------------------------------------------------------------------------


def test_numbers_are_in_ranges_of_equal_mass_and_what_lies_beyond_in_the_outermost() -> None:
    values = np.random.default_rng(SEED).lognormal(sigma=2, size=5000)
    feature = fit_feature(FeatureSpec("x"), values)
    groups = groups_of(feature, VALUE_GROUPS)
    mass = np.bincount(groups, weights=feature.counts, minlength=GROUPS)
    assert np.all(np.abs(mass[:VALUE_GROUPS] - 1000) < 50)
    assert (groups[BELOW], groups[ABOVE]) == (0, VALUE_GROUPS - 1)
    assert [groups[slot] for slot in (MISSING, NONFINITE)] == [VALUE_GROUPS] * 2
    words = [name_of(feature, group, VALUE_GROUPS) for group in range(GROUPS)]
    assert words[0].startswith("below ")
    assert words[-2].endswith(" and more")
    assert words[-1] == NO_PLACE
    assert words[1].split(" to ")[0] == words[0].removeprefix("below ")


def test_the_commonest_categories_are_by_themselves_and_all_others_together() -> None:
    texts = np.array(
        [c for c, n in zip("abcdefg", (9, 1, 8, 7, 2, 6, 3), strict=True) for _ in range(n)]
    )
    feature = fit_feature(FeatureSpec("c"), texts.astype(object))
    groups = groups_of(feature, VALUE_GROUPS)
    words = [name_of(feature, group, VALUE_GROUPS) for group in range(VALUE_GROUPS)]
    assert words == ["a", "c", "d", "f", OTHER]
    assert groups[UNSEEN] == VALUE_GROUPS - 1
    numbers = fit_feature(FeatureSpec("n"), np.array([1.0, 1.0, 2.5]))
    assert [name_of(numbers, g, VALUE_GROUPS) for g in range(3)] == ["1", "2.5", OTHER]


def test_a_constant_and_an_empty_feature_have_groups_too() -> None:
    constant = fit_feature(FeatureSpec("x", kind="continuous"), np.full(10, 3.0))
    assert {ANY, OTHER} >= {name_of(constant, g, VALUE_GROUPS) for g in range(VALUE_GROUPS)}
    empty = fit_feature(FeatureSpec("x", kind="continuous"), np.full(10, np.nan))
    assert name_of(empty, 0, VALUE_GROUPS) == OTHER


# -- counts ------------------------------------------------------------------------


def test_segments_of_the_reference_hold_each_row_once_per_feature_and_pair() -> None:
    profile = reference()
    found = profile.segments
    assert found is not None
    assert (len(found.features), len(found.pairs)) == (3, 3)
    table = found.counts.reshape(-1)
    ones = table[: 3 * GROUPS * CELLS].reshape(3, -1)
    twos = table[3 * GROUPS * CELLS :].reshape(3, -1)
    assert ones.sum(axis=1).tolist() == twos.sum(axis=1).tolist() == [ROWS] * 3
    columns, said = world(np.random.default_rng(1), ROWS, moved=False)
    us = columns[:, 0] == "us"
    region = found.segments(found.counts)[:GROUPS]
    at = [name_of(profile.features[0], g, VALUE_GROUPS) for g in range(GROUPS)].index("us")
    assert sorted(region[at][region[at] > 0]) == sorted([said[us].sum(), (1 - said[us]).sum()])


def test_what_is_counted_depends_neither_on_order_nor_on_how_rows_are_split() -> None:
    profile = reference()
    assert profile.segments is not None
    segmenter, counter = Segmenter(profile, profile.segments), Counter(profile)
    columns, said = world(np.random.default_rng(SEED), 4 * ROWS_PER_BLOCK, moved=True)
    whole = part_of(columns, said)
    halves = [
        part_of(columns[rows], said[rows])._replace(sequences=whole.sequences[rows])
        for rows in (slice(701, None), slice(0, 701))
    ]
    assert np.array_equal(segmenter.count([whole], counter), segmenter.count(halves, counter))


def test_of_many_rows_a_bounded_fair_share_is_counted() -> None:
    profile = reference()
    assert profile.segments is not None
    segmenter, counter = Segmenter(profile, profile.segments), Counter(profile)
    columns, said = world(np.random.default_rng(SEED), 100 * ROWS_PER_BLOCK, moved=False)
    counts = segmenter.count([part_of(columns, said)], counter)
    rows = int(counts.reshape(-1, CELLS)[:GROUPS].sum())
    assert 0.7 * ROWS_PER_BLOCK < rows < 1.3 * ROWS_PER_BLOCK
    assert segmenter.count([Part(part_of(columns, said).inputs, {})], counter).sum() == 0


def test_a_withheld_feature_is_in_no_segment_and_the_others_are() -> None:
    profile = reference()
    assert profile.segments is not None
    segmenter, counter = Segmenter(profile, profile.segments), Counter(profile)
    rows = part_of(*world(np.random.default_rng(SEED), 100, moved=False))
    hidden = rows._replace(withheld={"input:age": None})
    counts = profile.segments.segments(segmenter.count([hidden], counter))
    totals = [int(counts[i * GROUPS : (i + 1) * GROUPS].sum()) for i in range(3)]
    assert totals == [100, 0, 100]
    pairs = counts[3 * GROUPS :].reshape(3, -1).sum(axis=1)
    assert sorted(pairs.tolist()) == [0, 0, 100]


def test_of_many_features_those_that_tell_most_of_the_answers_are_looked_at() -> None:
    random = np.random.default_rng(SEED)
    said = random.integers(0, 2, 500)
    inputs = random.normal(size=(500, FEATURES_MAX + 10))
    inputs[:, -1] += 3 * said
    profile = build_profile(inputs, [FeatureSpec(f"f{i}") for i in range(inputs.shape[1])], said)
    assert profile.segments is not None
    assert len(profile.segments.features) == FEATURES_MAX
    assert profile.segments.features[-1] == FEATURES_MAX + 9
    assert len(profile.segments.pairs) == 15
    assert any(FEATURES_MAX - 1 in pair for pair in profile.segments.pairs)


def test_a_profile_keeps_its_segments_and_a_damaged_one_is_refused() -> None:
    profile = reference()
    again = ReferenceProfile.from_bytes(profile.to_bytes())
    assert again.segments is not None
    assert profile.segments is not None
    assert np.array_equal(again.segments.counts, profile.segments.counts)
    assert again.to_bytes() == profile.to_bytes()
    for bad in (
        replace(profile.segments, features=(0, 1, 9)),
        replace(profile.segments, pairs=((0, 7),)),
    ):
        with pytest.raises(ProfileError, match="segments"):
            ReferenceProfile.from_bytes(replace(profile, segments=bad).to_bytes())


# -- ranking -----------------------------------------------------------------------


def test_the_segment_that_moved_is_named_first_and_none_that_has_nothing_to_do_with_it() -> None:
    profile = reference()
    ranking = ranked(profile, live(profile, SEED, moved=True))
    first = ranking.segments[0]
    assert {m.feature for m in first.members} == {"region", "age"}
    assert {m.feature: m.group for m in first.members}["region"] == "us"
    assert next(m.group for m in first.members if m.feature == "age").endswith(" and more")
    assert abs(first.most.reference - first.most.live) == pytest.approx(0.5, abs=0.15)
    assert all("us" in found.values() or "age" in found for found in names(ranking))
    assert not any(set(found) == {"noise"} for found in names(ranking))


def test_effect_and_p_value_are_those_of_the_segments_own_table() -> None:
    profile = reference()
    assert profile.segments is not None
    counts = live(profile, SEED, moved=True)
    before, after = (
        profile.segments.segments(profile.segments.counts),
        profile.segments.segments(counts),
    )
    segment = next(s for s in ranked(profile, counts).segments if len(s.members) == 1)
    place = next(
        i
        for i in range(3 * GROUPS)
        if after[i].sum() == segment.live_rows and before[i].sum() == segment.reference_rows
    )
    table = np.stack([before[place], after[place]])
    table = table[:, table.sum(axis=0) > 0]
    p, q = table / table.sum(axis=1, keepdims=True)
    assert segment.effect == pytest.approx(np.abs(p - q).sum() / 2)
    assert segment.p_value == pytest.approx(chi2_contingency(table, correction=False).pvalue)


@pytest.mark.ci
def test_without_any_change_segments_are_named_no_more_often_than_the_rule_allows() -> None:
    """Of 60 at 5 %, with more than 10 named once in ten thousand times; and effects are chance."""
    print("seed", SEED)
    any_named, effects, chances = 0, [], []
    for draw in range(60):
        profile = reference(seed=1000 + draw)
        ranking = ranked(profile, live(profile, SEED + draw, moved=False, blocks=8))
        any_named += bool(names(ranking))
        effects += [segment.effect for segment in ranking.segments]
        chances += [segment.by_chance for segment in ranking.segments]
    assert any_named <= 10, any_named
    assert np.mean(effects) == pytest.approx(np.mean(chances), rel=0.1)


def test_the_rule_is_benjamini_yekutielis() -> None:
    total = 4
    harmonic = sum(1 / k for k in range(1, total + 1))
    limits = [ALPHA * k / total / harmonic for k in range(1, total + 1)]
    p = np.array([limits[2] * 0.99, 0.9, limits[2] * 0.5, limits[2] * 0.8])
    assert discoveries(p).tolist() == [True, False, True, True]
    assert discoveries(np.array([limits[0] * 1.01, 0.9, 0.9, 0.9])).tolist() == [False] * 4
    assert discoveries(np.zeros(0)).tolist() == []


def test_segments_with_few_rows_are_not_looked_at() -> None:
    profile = reference()
    assert profile.segments is not None
    assert ranked(profile, np.zeros(profile.segments.size, dtype=np.int64)) == Ranking(0, [])


# -- in the state of a model -------------------------------------------------------


def test_stored_and_read_back_the_window_goes_on_to_the_bit() -> None:
    profile = reference()
    states = [ModelState(MODEL, SETTINGS), ModelState(MODEL, SETTINGS)]
    random = np.random.default_rng(SEED)
    for index in range(3):
        rows = part_of(*world(random, 200, moved=True), first=index * 200)
        for place, state in enumerate(states):
            block = ModelBlock(index)
            arm = block.arm(Arm("d", "1", STABLE, ""))
            arm.add(0, 0, 200, 0)
            arm.parts.append(rows)
            state.close(block, lambda *_: profile)
            if place:
                tree = unpack(pack(state.to_tree()))
                states[1] = ModelState.from_tree(MODEL, tree, SETTINGS, lambda *_: profile)
    assert pack(states[0].to_tree()) == pack(states[1].to_tree())
    stable = states[0].stable
    assert stable is not None
    assert stable.segments.live.reshape(-1, CELLS)[:GROUPS].sum() == 600
