"""The split of traffic between versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.core.errors import UnknownModel
from serving.core.routing import POINTS, Arm, Route, RoutingTable, key_point, make_route


def route(weight: int) -> Route[str]:
    arms = [Arm("old", "1", "stable", "", 100 - weight), Arm("new", "2", "candidate", "r", weight)]
    return make_route("m", "salt", arms, {"1": Arm("old", "1", "pinned", "", 0)})


@given(st.text(min_size=1), st.integers(0, 100), st.integers(0, 100))
def test_raising_a_weight_only_moves_keys_to_the_candidate(key, low, high):
    low, high = sorted((low, high))
    point = key_point(b"salt", key)
    if route(low).pick(point).target == "new":
        assert route(high).pick(point).target == "new"


@given(st.integers(0, POINTS - 1))
def test_weights_of_0_and_100_leave_nothing_to_the_other_arm(point):
    assert route(0).pick(point).target == "old"
    assert route(100).pick(point).target == "new"


def test_the_split_of_many_keys_is_as_the_weight_says():
    keys = [f"user-{i}" for i in range(20_000)]
    for weight in (1, 5, 25, 50, 90):
        chosen = sum(route(weight).pick(key_point(b"salt", key)).target == "new" for key in keys)
        expected = len(keys) * weight / 100
        tolerance = 5 * (expected * (1 - weight / 100)) ** 0.5  # five standard deviations
        assert abs(chosen - expected) < tolerance


def test_points_of_keys_are_uniform():
    counts = [0] * 16
    for i in range(16_000):
        counts[key_point(b"s", f"key-{i}") * 16 // POINTS] += 1
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 45  # chi2, 15 df, p = 1e-4


def test_the_same_key_has_other_points_under_another_salt():
    same = sum(
        (key_point(b"a", str(i)) < POINTS // 2) == (key_point(b"b", str(i)) < POINTS // 2)
        for i in range(4000)
    )
    assert 1800 < same < 2200


def test_a_key_keeps_its_point_for_ever():
    # A change of this number moves every user of every running rollout.
    assert key_point(b"salt", "user-1") == key_point(b"salt", "user-1")
    assert f"{key_point(b'salt', 'user-1'):016x}" == EXPECTED


EXPECTED = "4c2136c9348b0684"


@given(st.text())
def test_any_text_is_a_key(key):
    assert 0 <= key_point(b"", key) < POINTS


def test_unknown_models_and_versions_are_named():
    table = RoutingTable(1, {"m": route(5)})
    assert table.find("m").pick_version("1").role == "pinned"
    with pytest.raises(UnknownModel, match="Request for unknown model: 'x' is not found"):
        table.find("x")
    with pytest.raises(UnknownModel, match="version '7' is not found"):
        table.find("m").pick_version("7")


def test_a_route_needs_weights_of_at_most_100():
    with pytest.raises(ValueError, match="weights"):
        make_route("m", "s", [Arm("old", "1", "stable", "", 0)], {})
    with pytest.raises(ValueError, match="weights"):
        make_route("m", "s", [Arm("a", "1", "stable", "", 60), Arm("b", "2", "x", "", 60)], {})
