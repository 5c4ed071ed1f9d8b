"""Scores of single rows: against plain formulas, and what must not change them."""

from dataclasses import replace
from math import log
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.outliers.live import ROWS_PER_BLOCK, STRONGEST_MAX, LiveOutliers
from monitor.core.outliers.reference import FEATURES_MAX
from monitor.core.outliers.scorer import Scorer
from monitor.core.profile import ProfileError, ReferenceProfile, held_out
from monitor.core.tree import pack, unpack
from monitor.profile import FeatureSpec, build_profile
from tests.property.monitor.test_evidence_property import most_alarms

SEED = 20261129
WORDS = ["a", "b", "c", "d"]
SPECS = [
    FeatureSpec("left", "x", 0, "continuous", "FP64"),
    FeatureSpec("right", "x", 1, "continuous", "FP64"),
    FeatureSpec("heavy", "x", 2, "continuous", "FP64"),
    FeatureSpec("few", "x", 3, None, "FP64"),
    FeatureSpec("word", "word", 0),
]


def table(random: np.random.Generator, rows: int) -> np.ndarray:
    """Two that go together, a heavy tail, whole numbers, words; some are missing."""
    left, noise = random.normal(size=(2, rows))
    found = np.empty((rows, 5), dtype=object)
    found[:, 0], found[:, 1] = left, 0.95 * left + np.sqrt(1 - 0.95**2) * noise
    found[:, 2], found[:, 3] = random.standard_cauchy(rows), random.poisson(2.0, rows)
    found[:, 4] = random.choice(WORDS, rows, p=[0.6, 0.3, 0.09, 0.01])
    found[random.random(rows) < 0.05, 1] = np.nan
    found[random.random(rows) < 0.02, 4] = None
    return found


def profile_of(rows: np.ndarray, specs: list[FeatureSpec] | None = None) -> ReferenceProfile:
    return build_profile(rows, specs or SPECS, sample_rows=0)


REFERENCE = table(np.random.default_rng(SEED), 3000)
PROFILE = profile_of(REFERENCE)
assert PROFILE.outliers is not None
SCORER = Scorer(PROFILE, PROFILE.outliers)


def part_of(rows: np.ndarray, first: int = 0, producer: str = "00000a") -> Part:
    x = rows[:, :4].astype(np.float64)
    sequences = np.arange(first, first + len(rows))
    word = np.array(rows[:, 4:], dtype=object)
    return Part({"x": x, "word": word}, {}, {}, producer, sequences, sequences * 10**6, sequences)


def scores_of(rows: np.ndarray, profile: ReferenceProfile = PROFILE) -> np.ndarray:
    assert profile.outliers is not None
    scorer = Scorer(profile, profile.outliers)
    values = scorer.read(part_of(rows), Counter(profile), np.arange(len(rows)))
    assert values is not None
    return scorer.scores(values)


def slow_score(row: np.ndarray) -> float:
    """From the fitted half itself: shares by counting, the distance by a matrix inverse."""
    own = REFERENCE[held_out(len(REFERENCE))]
    score, places = 0.0, []
    assert PROFILE.outliers is not None
    for at in range(4):
        value, column = float(row[at]), own[:, at].astype(float)
        marginal = PROFILE.outliers.marginals[at]
        present, missing = np.isfinite(column).sum() + 0.5, np.isnan(column).sum() + 0.5
        shares = {"there": present, "missing": missing, "infinite": 0.5}
        kind = "missing" if np.isnan(value) else "infinite" if np.isinf(value) else "there"
        score += 2 * log(max(shares.values()) / shares[kind])
        if kind != "there":
            places.append(None)
            continue
        knots, heights = marginal.knots.tolist(), marginal.places.tolist()
        after = next((i for i, knot in enumerate(knots) if knot >= value), len(knots))
        if after == 0 or after == len(knots):
            end = 0 if after == 0 else -1
            middle = float(np.interp(0.0, heights, knots))
            unit = (knots[end] - middle) / heights[end]
            far = abs(value - knots[end]) / unit
            place = np.sign(heights[end]) * 4 * log(1 + far / 4) if far else 0.0
            places.append(float(np.clip(heights[end] + place, -100, 100)))
        else:
            width = knots[after] - knots[after - 1]
            share = (value - knots[after - 1]) / width
            places.append(heights[after - 1] + share * (heights[after] - heights[after - 1]))
    covariance = np.linalg.inv(PROFILE.outliers.precision)
    there = [at for at, place in enumerate(places) if place is not None]
    x = np.array([places[at] for at in there])
    score += float(x @ np.linalg.inv(covariance[np.ix_(there, there)]) @ x) if there else 0.0
    words = own[:, 4].tolist()
    rows = {word: words.count(word) + 0.5 for word in {*words, None}}
    return score + 2 * log(max(rows.values()) / rows.get(row[4], 0.5))


NUMBERS = st.one_of(
    st.floats(-5, 5), st.sampled_from([np.nan, np.inf, -np.inf, 1e6, -1e300, 1e300, 0.0])
)
ROWS = st.lists(
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.sampled_from([*WORDS, "new", None])),
    min_size=1,
    max_size=6,
)


def as_table(rows: list[tuple[object, ...]]) -> np.ndarray:
    found = np.empty((len(rows), 5), dtype=object)
    for place, row in enumerate(rows):
        found[place] = row
    return found


@given(ROWS)
def test_a_score_is_that_of_the_plain_formula(rows: list[tuple[object, ...]]) -> None:
    values = as_table(rows)
    assert scores_of(values) == pytest.approx([slow_score(row) for row in values], rel=1e-6)


@given(ROWS, st.integers(0, 6))
def test_a_score_is_the_same_bit_for_bit_whatever_rows_stand_beside_it(
    rows: list[tuple[object, ...]], cut: int
) -> None:
    values = as_table(rows)
    whole = scores_of(values)
    parts = [scores_of(part) for part in (values[:cut], values[cut:]) if len(part)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_places_of_the_reference_are_those_of_a_normal_distribution() -> None:
    assert PROFILE.outliers is not None
    own = REFERENCE[held_out(len(REFERENCE)), 0].astype(float)
    marginal = PROFILE.outliers.marginals[0]
    normal = NormalDist()
    for knot, place in zip(marginal.knots[1:-1], marginal.places[1:-1], strict=True):
        assert abs(np.mean(own <= knot) - normal.cdf(place)) < 2 / len(own)


def test_the_order_of_features_changes_no_score() -> None:
    order = [3, 1, 0, 2, 4]
    swapped = [replace(SPECS[old], index=SPECS[old].index) for old in order]
    other = profile_of(REFERENCE[:, order], swapped)
    rows = table(np.random.default_rng(SEED + 1), 300)
    assert scores_of(rows, other) == pytest.approx(scores_of(rows), rel=1e-8)
    assert other.outliers is not None
    assert PROFILE.outliers is not None
    assert other.outliers.threshold == pytest.approx(PROFILE.outliers.threshold, rel=1e-8)


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_units_change_no_score(scale: float, shift: float) -> None:
    def moved(rows: np.ndarray) -> np.ndarray:
        found = rows.copy()
        found[:, 0] = rows[:, 0].astype(float) * scale + shift * scale
        return found

    rows = table(np.random.default_rng(SEED + 2), 100)
    rows[0, 0], rows[1, 0] = 40.0, -40.0  # beyond what the reference holds too
    other = profile_of(moved(REFERENCE))
    assert scores_of(moved(rows), other) == pytest.approx(scores_of(rows), rel=1e-6, abs=1e-6)


def test_what_breaks_a_correlation_is_found_and_named_though_each_value_is_usual() -> None:
    assert PROFILE.outliers is not None
    rows = as_table([(1.5, -1.5, 0.0, 2.0, "a"), (1.5, 1.5, 0.0, 2.0, "a")])
    scores = scores_of(rows)
    assert scores[0] > PROFILE.outliers.threshold > scores[1]
    values = SCORER.read(part_of(rows), Counter(PROFILE), np.arange(1))
    assert values is not None
    shares = SCORER.explain(values[0])
    assert {PROFILE.features[share.feature].name for share in shares[:2]} == {"left", "right"}
    assert shares[0].drop == pytest.approx(scores[0] - without(rows[0], shares[0].feature))
    right = next(share for share in shares if share.feature == 1)
    assert right.expected == pytest.approx(0.95 * 1.5, abs=0.2)


def without(row: np.ndarray, feature: int) -> float:
    """The score of a row that lacks a number, but for the surprise that it is missing."""
    rows = as_table([tuple(row)])
    rows[0, feature] = np.nan
    own = REFERENCE[held_out(len(REFERENCE)), feature].astype(float)
    there, missing = np.isfinite(own).sum() + 0.5, np.isnan(own).sum() + 0.5
    return float(scores_of(rows)[0]) - 2 * log(there / missing)


def test_a_heavy_tail_drowns_nothing_and_a_value_far_out_is_found() -> None:
    assert PROFILE.outliers is not None
    usual = table(np.random.default_rng(SEED + 3), 4000)
    is_far = np.abs(usual[:, 2].astype(float)) > 50  # one in eighty
    assert is_far.sum() > 20
    assert np.mean(scores_of(usual)[is_far] > PROFILE.outliers.threshold) < 0.2
    far = as_table([(1e6, 1.0, 0.0, 2.0, "a"), (0.5, 0.5, 0.0, 400.0, "a")])
    assert (scores_of(far) > PROFILE.outliers.threshold).all()


def test_the_share_of_outliers_is_within_its_bound_for_nearly_every_reference() -> None:
    print("seed", SEED)
    random, beyond = np.random.default_rng(SEED), 0
    references = 40
    for _ in range(references):
        profile = profile_of(table(random, 800))
        assert profile.outliers is not None
        share = np.mean(scores_of(table(random, 4000), profile) > profile.outliers.threshold)
        assert profile.outliers.beyond == 10
        assert profile.outliers.share < profile.outliers.share_max < 1
        beyond += share > profile.outliers.share_max
    assert beyond <= most_alarms(references, 0.001)


def test_a_profile_keeps_it_and_refuses_what_is_damaged() -> None:
    data = PROFILE.to_bytes()
    assert ReferenceProfile.from_bytes(data).to_bytes() == data
    rows = table(np.random.default_rng(SEED + 4), 50)
    again = scores_of(rows, ReferenceProfile.from_bytes(data))
    assert again.tobytes() == scores_of(rows).tobytes()
    for good, bad in ((b'"beyond":10', b'"beyond":0'), (b'"precision":"', b'"precision":"AAAA')):
        assert good in data
        with pytest.raises(ProfileError):
            ReferenceProfile.from_bytes(data.replace(good, bad))


def test_few_rows_and_many_features_have_none() -> None:
    assert profile_of(REFERENCE[:300]).outliers is None
    wide = np.random.default_rng(SEED).normal(size=(500, FEATURES_MAX + 1))
    assert build_profile(wide, [FeatureSpec(f"f{i}") for i in range(129)]).outliers is None


def test_a_reference_without_values_or_of_constants_scores_what_differs() -> None:
    rows = np.zeros((600, 3))
    rows[:, 1], rows[:, 2] = np.nan, np.random.default_rng(SEED).normal(size=600)
    specs = [FeatureSpec(f"f{i}", index=i, kind="continuous", datatype="FP64") for i in range(3)]
    profile = build_profile(rows, specs)
    assert profile.outliers is not None
    scorer = Scorer(profile, profile.outliers)
    scores = scorer.scores(np.array([[0.0, np.nan, 0.1], [1e9, np.nan, 0.1], [0.0, 1.0, 0.1]]))
    assert np.isfinite(scores).all()
    assert scores[0] < profile.outliers.threshold < min(scores[1:])


def looked(parts: list[Part], live: LiveOutliers | None = None) -> LiveOutliers:
    live = live or LiveOutliers()
    live.move_to(0, 0)
    live.add(parts, Counter(PROFILE), SCORER)
    return live


def test_the_strongest_are_the_same_in_any_order_and_after_storing() -> None:
    rows = table(np.random.default_rng(SEED + 5), 4000)
    rows[::50, 1] = 9.0 + np.arange(80)
    parts = [part_of(rows[:1500]), part_of(rows[1500:], producer="00000b")]
    one, other = looked(parts), looked(parts[::-1])
    assert pack(one.to_tree()) == pack(other.to_tree())
    assert pack(LiveOutliers.from_tree(unpack(pack(one.to_tree()))).to_tree()) == pack(
        one.to_tree()
    )
    of_rows, looked_at, outliers = one.live.tolist()
    assert of_rows == 4000
    assert 0 < outliers < looked_at < 1.3 * ROWS_PER_BLOCK
    shown = one.shown
    assert 0 < len(shown) <= STRONGEST_MAX
    assert [item.score for item in shown] == sorted((i.score for i in shown), reverse=True)


def test_rows_that_are_alike_are_shown_once_by_the_first_of_their_names() -> None:
    rows = as_table([(9.0, -9.0, 0.0, 2.0, "a")] * 30 + [(8.0, -8.0, 0.0, 2.0, "new")])
    live = looked([part_of(rows, first=100)])
    live = looked([part_of(rows, first=200)], live)
    assert [item.times for item in live.shown] == [60, 2]
    first, second = live.shown
    assert (first.sequence + first.row, first.row) == (100, 100)
    values = {PROFILE.features[s.feature].name: (s.value, s.expected) for s in second.features}
    assert values["word"] == ("new", "a")
    assert values["left"][0] == 8.0


def test_what_is_withheld_is_not_looked_at_and_what_was_kept_is_forgotten() -> None:
    rows = as_table([(9.0, -9.0, 0.0, 2.0, "secret")] * 3)
    live = looked([part_of(rows)])
    assert "secret" in str(live.to_tree())
    for withheld in ({"input:word": None}, {"input:x": (2,)}):
        again = LiveOutliers.from_tree(unpack(pack(live.to_tree())))
        counted = again.add(
            [part_of(rows, 10)._replace(withheld=withheld)], Counter(PROFILE), SCORER
        )
        assert not counted.any()
        assert again.withheld
        assert again.shown == ()
        assert "secret" not in str(again.to_tree())


def test_windows_and_hours_end_and_rows_of_no_log_are_left_out() -> None:
    live = looked([part_of(as_table([(9.0, -9.0, 0.0, 2.0, "a")]))])
    hour = 3600 * 10**9
    live.move_to(1, hour)
    assert (live.live.tolist(), len(live.shown)) == ([1, 1, 1], 1)
    live.move_to(2, hour)
    assert (live.live.tolist(), len(live.shown)) == ([0, 0, 0], 1)
    live.move_to(900, 2 * hour)
    assert live.shown == ()
    nowhere = part_of(as_table([(9.0, -9.0, 0.0, 2.0, "a")]))._replace(sequences=np.zeros(0, int))
    assert not live.add([nowhere], Counter(PROFILE), SCORER).any()
    narrow = part_of(as_table([(9.0, -9.0, 0.0, 2.0, "a")]))
    narrow = narrow._replace(inputs={"x": narrow.inputs["x"]})
    assert live.add([narrow], Counter(PROFILE), SCORER).tolist() == [1, 0, 0]
