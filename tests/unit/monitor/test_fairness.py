"""Fairness: confidence sequences that hold at all times, and what is said by them."""

from math import isnan, nan

import numpy as np
import pytest

from monitor.core.performance.answers import ClassAnswer, NumberAnswer
from monitor.core.performance.confidence_sequence import share_within
from monitor.core.performance.fairness import (
    ALPHA,
    Advantages,
    Comparison,
    Criterion,
    Standing,
    compare,
)
from monitor.core.slice import Slice

SEED = 20261129
GENDER = Slice("gender", "gender", values=("f", "m"), protected=True)
STREAMS = 400
HORIZON = 20_000


def parity(**parts: tuple[int, int]) -> dict[str, Comparison]:
    """hits and rows of each part."""
    counts = {name: Advantages(rows, hits) for name, (hits, rows) in parts.items()}
    return dict(compare(GENDER, counts, Criterion.PARITY))


def test_the_interval_holds_what_was_seen_and_shrinks_with_rows() -> None:
    widths = []
    for rows in (1, 10, 100, 10_000, 10**8):
        low, high = share_within(rows * 3 // 10, rows, 0.05)
        assert 0.0 <= low <= rows * 3 // 10 / rows <= high <= 1.0
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.0005
    assert share_within(0, 0, 0.05) == (0.0, 1.0)
    assert share_within(0, 50, 0.05)[0] == 0.0
    assert share_within(50, 50, 0.05)[1] == 1.0
    assert share_within(30, 100, 0.01)[0] < share_within(30, 100, 0.05)[0]


def test_its_edges_are_where_the_bet_against_a_share_has_won_one_over_alpha() -> None:
    """The wealth, added up row by row: each is bet on with the chance (hits + 1/2)/(rows + 1)."""
    hits, rows, alpha = 7, 20, 0.05
    seen = [1] * hits + [0] * (rows - hits)
    for edge in share_within(hits, rows, alpha):
        wealth, so_far = 1.0, 0
        for place, hit in enumerate(seen):
            chance = (so_far + 0.5) / (place + 1.0)
            wealth *= chance / edge if hit else (1.0 - chance) / (1.0 - edge)
            so_far += hit
        assert wealth == pytest.approx(1.0 / alpha, rel=1e-9)


@pytest.mark.ci
@pytest.mark.parametrize("share", [0.02, 0.3, 0.97])
def test_over_all_time_it_leaves_the_truth_out_no_more_often_than_it_says(share: float) -> None:
    """Of 400 streams looked at from row to row; 35 at 5 % come once in ten thousand times."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    looks = np.unique(np.geomspace(1, HORIZON, 150).astype(int))
    missed = 0
    for _ in range(STREAMS):
        hits = np.cumsum(random.random(HORIZON) < share)[looks - 1]
        missed += any(
            not low <= share <= high
            for low, high in map(share_within, hits.tolist(), looks.tolist(), [ALPHA] * looks.size)
        )
    assert missed <= 35, missed


def test_an_interval_of_one_look_fails_where_the_sequence_holds() -> None:
    """The simulation can tell: Wilson's at every look leaves the truth out far more often."""
    from monitor.core.performance.intervals import wilson

    print("seed", SEED)
    random = np.random.default_rng(SEED)
    looks = np.unique(np.geomspace(10, 2000, 60).astype(int))
    missed = {"one look": 0, "all": 0}
    for _ in range(100):
        hits = np.cumsum(random.random(2000) < 0.3)[looks - 1].tolist()
        pairs = list(zip(hits, looks.tolist(), strict=True))
        of_one = (wilson(h / n, n) for h, n in pairs)
        of_all = (share_within(h, n, ALPHA) for h, n in pairs)
        missed["one look"] += any(not low <= 0.3 <= high for low, high in of_one)
        missed["all"] += any(not low <= 0.3 <= high for low, high in of_all)
    assert missed["all"] <= 15 < missed["one look"], missed


def test_the_groups_of_a_slice_share_its_level_whether_they_have_rows_or_not() -> None:
    for parts in ({"f": (4, 20), "m": (10, 20)}, {"f": (4, 20), "m": (0, 0)}):
        share = parity(**parts)["f"].share
        assert (share.low, share.high) == share_within(4, 20, ALPHA / 2)


def test_a_gap_beyond_the_limit_is_unfair_once_rows_show_it_and_not_before() -> None:
    early = parity(f=(4, 20), m=(10, 20))
    assert early["f"].standing is Standing.OPEN
    late = parity(f=(400, 2000), m=(1000, 2000))
    assert late["f"].standing is Standing.UNFAIR
    assert late["m"].standing is Standing.FAIR  # nobody has more
    assert late["f"].ratio.value == pytest.approx(0.4)
    assert late["f"].difference.value == pytest.approx(0.3)
    assert late["f"].difference.low > GENDER.difference_max
    assert late["f"].ratio.high < GENDER.ratio_min


def test_parts_that_are_alike_are_fair_only_after_enough_rows() -> None:
    assert parity(f=(10, 20), m=(10, 20))["f"].standing is Standing.OPEN
    found = parity(f=(5000, 10_000), m=(5010, 10_000))
    assert {item.standing for item in found.values()} == {Standing.FAIR}


def test_the_ratio_counts_where_shares_are_small() -> None:
    """1 % against 2 % is a small difference and half the chance."""
    found = parity(f=(1000, 100_000), m=(2000, 100_000))["f"]
    assert found.difference.high < GENDER.difference_max
    assert found.standing is Standing.UNFAIR


def test_a_part_without_rows_or_without_company_is_not_judged() -> None:
    assert parity(f=(0, 0), m=(0, 0)) == {}
    (alone,) = parity(f=(0, 0), m=(5, 10)).values()
    assert alone.standing is Standing.OPEN
    assert isnan(alone.ratio.value)
    nobody = parity(f=(0, 500), m=(0, 500))["f"]
    assert (nobody.difference.value, nobody.ratio.value) == (0.0, 1.0)
    assert nobody.standing is Standing.OPEN  # of so few that none got it, ratios say nothing


def test_true_rows_alone_count_for_equal_opportunity() -> None:
    counts = Advantages()
    for said, truth in (("1", "1"), ("0", "1"), ("1", "0"), ("0", "0")):
        counts.add_labelled(ClassAnswer(said, truth), GENDER)
    for number, label in ((0.9, 1.0), (0.2, 1.0), (nan, 1.0), (0.9, 0.0)):
        counts.add_labelled(NumberAnswer(number, label), GENDER)
    assert counts.counts(Criterion.OPPORTUNITY) == (2, 5)
    assert counts.counts(Criterion.PARITY) == (0, 0)
    assert Advantages.from_tree(counts.to_tree()) == counts
