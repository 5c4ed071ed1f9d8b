"""The promise: under the null, evidence reaches A by time t in at most t / A of the streams."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.bins import SLOTS
from monitor.core.events import Group, make_events
from monitor.core.evidence import NOTHING, difference_bets, log_sum, mean_bets, share_bets
from monitor.core.profile import fit_feature
from monitor.core.reference_error import mean_error, share_error
from monitor.core.settings import WEIGHTS
from monitor.profile import FeatureSpec, ReferenceProfile

SEED = 20261121
# 99.9 % quantile of a binomial with n streams and p = t / A, normal form.
QUANTILE = 3.09


def most_alarms(streams: int, share: float) -> float:
    return streams * share + QUANTILE * np.sqrt(streams * share * (1 - share))


def test_the_weights_of_all_groups_sum_to_one() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert set(WEIGHTS) == set(Group)


@pytest.mark.parametrize("dependent", [False, True])
def test_false_pages_of_a_mean_keep_the_budget(dependent: bool) -> None:
    """Loss exactly at its bound; rows of a block independent, or all the same."""
    random = np.random.default_rng(SEED)
    print("seed", SEED)
    streams, horizon, budget_s = 400, 300, 1000.0
    bets = mean_bets(np.array([0.3]), 1.0, budget_s)
    alarms = 0
    for _ in range(streams):
        m = bets.start()
        for _ in range(horizon):
            rows = int(random.integers(1, 30))
            count = rows * random.binomial(1, 0.3) if dependent else random.binomial(rows, 0.3)
            m = bets.step(m, np.array([count / rows]), 1.0)
            if bets.evidence(m) >= log(budget_s):
                alarms += 1
                break
    assert alarms <= most_alarms(streams, horizon / budget_s)


def test_false_pages_of_shares_keep_the_budget() -> None:
    """Many features at once, each edge at its null bound, dependent between features."""
    random = np.random.default_rng(SEED + 1)
    print("seed", SEED + 1)
    values = random.normal(size=(2000, 5))
    columns = [fit_feature(FeatureSpec(f"f{i}", index=i), values[:, i]) for i in range(5)]
    profile = ReferenceProfile(2000, tuple(columns))
    events = make_events(profile, 9)
    streams, horizon, budget_s, tolerance = 150, 200, 600.0, 0.02
    bets = share_bets(events, events.group == Group.FEATURES, tolerance, 1.0, budget_s)
    worst = np.clip(events.share + events.error + tolerance, 0.0, 1.0)
    alarms = 0
    for _ in range(streams):
        m = bets.start()
        for _ in range(horizon):
            # One uniform number per row decides every question alike.
            seen = np.mean(random.random(20)[:, None] < worst[None, :], axis=0)
            m = bets.step(m, seen, 1.0)
            if bets.evidence(m) >= log(budget_s):
                alarms += 1
                break
    assert alarms <= most_alarms(streams, horizon / budget_s)


def test_an_equal_candidate_is_called_worse_as_rarely_as_promised() -> None:
    """The e-process of a comparison: ever above 1 / alpha in at most alpha of the rollouts."""
    random = np.random.default_rng(SEED + 2)
    print("seed", SEED + 2)
    rollouts, alpha = 1000, 0.05
    bets = difference_bets(0.02, 2, 1.0, 1e6)
    wrong = 0
    for _ in range(rollouts):
        log_e = np.zeros(bets.size)
        for _ in range(60):
            loss = random.beta(2, 8)  # common to both arms
            candidate, stable = random.binomial(12, loss) / 12, random.binomial(100, loss) / 100
            log_e += bets.gains(np.array([candidate - stable + 0.02, 0.0]))
            if log_sum(log_e + bets.log_weight) >= log(1 / alpha):
                wrong += 1
                break
    assert wrong <= most_alarms(rollouts, alpha)


MEANS = st.one_of(st.floats(0, 1), st.just(float("nan")))


@given(st.lists(MEANS, max_size=30), st.floats(0.001, 0.999))
def test_evidence_stays_a_number_whatever_comes(means: list[float], bound: float) -> None:
    bets = mean_bets(np.array([bound]), 0.5, 1e6)
    m = bets.start()
    for mean in means:
        m = bets.step(m, np.array([mean]), 0.5)
        assert not np.any(np.isnan(m))
        assert bets.evidence(m) <= log(6 * 2e6 / 0.5) + 1e-9
    if not means:
        assert bets.evidence(m) == NOTHING


@given(st.floats(0.0, 1.0), st.floats(0.01, 0.99))
def test_a_gain_is_lawful_at_the_bound(mean: float, bound: float) -> None:
    """L >= 0 for every mean, and E L = 1 for the two-point law with mean at the bound."""
    bets = mean_bets(np.array([bound]), 1.0, 1e6)
    assert np.all(np.isfinite(bets.gains(np.array([mean]))))
    up, down = (np.exp(bets.gains(np.array([x]))) for x in (1.0, 0.0))
    np.testing.assert_allclose(bound * up + (1 - bound) * down, 1.0, rtol=1e-12)


def test_blocks_without_rows_change_nothing_but_the_time() -> None:
    bets = mean_bets(np.array([0.2]), 1.0, 1e9)
    m = bets.step(bets.start(), np.array([np.nan]), 4.0)
    assert bets.evidence(m) == pytest.approx(log(4.0))


def test_a_bound_that_leaves_no_room_has_no_detector() -> None:
    assert mean_bets(np.array([1.0]), 1.0, 1e6).size == 0
    assert mean_bets(np.array([1.2, 0.5]), 1.0, 1e6).event.tolist() == [1] * 6


def test_the_share_bound_covers_every_edge_of_every_reference() -> None:
    """Dvoretzky-Kiefer-Wolfowitz over many references: fails at most in alpha of them."""
    random = np.random.default_rng(SEED + 3)
    print("seed", SEED + 3)
    references, rows, alpha = 400, 300, 0.05
    bound = share_error(rows, 1, alpha)
    failed = 0
    for _ in range(references):
        ordered = np.sort(random.random(rows))
        above = np.arange(1, rows + 1) / rows - ordered
        below = ordered - np.arange(rows) / rows
        failed += max(above.max(), below.max()) > bound
    assert failed <= most_alarms(references, alpha)


def test_the_loss_bound_covers_the_true_mean_also_when_no_loss_was_seen() -> None:
    random = np.random.default_rng(SEED + 4)
    print("seed", SEED + 4)
    for truth in (0.001, 0.03, 0.4):
        failed = 0
        for _ in range(300):
            losses = random.binomial(1, truth, 200)
            error = float(losses.std(ddof=1)) / np.sqrt(200)
            failed += losses.mean() + mean_error(error, 200, 0.05) < truth
        assert failed <= most_alarms(300, 0.05)
    assert mean_error(0.0, 200) > 0.0
    assert mean_error(0.0, 1) == share_error(0, 5) == 1.0


def test_questions_answer_for_missing_and_unseen_alone_when_all_is_missing() -> None:
    feature = fit_feature(FeatureSpec("x", kind="continuous"), np.arange(100.0))
    events = make_events(ReferenceProfile(100, (feature,)), 9)
    counts = np.zeros((1, SLOTS), dtype=np.int64)
    counts[0, 256] = 50
    yes, totals = events.answers(counts)
    quality = events.group == Group.QUALITY
    assert yes[quality].tolist() == [50, 0, 0]
    assert set(totals[~quality]) == {0}


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.floats(0.01, 0.99))
def test_rows_bet_on_by_their_sum_gain_no_more_than_one_by_one(
    rows: list[float], bound: float
) -> None:
    bets = mean_bets(np.array([bound]), 1.0, 1e9)
    ones = bets.start() + 1.0
    together = bets.step_rows(ones, np.array([sum(rows)]), np.array([len(rows)]), 0.5)
    product = 1.5 * np.exp(sum(bets.gains(np.array([row])) for row in rows))
    assert np.all(together <= np.minimum(product, bets.cap_s) * (1 + 1e-9))
    if all(row in (0.0, 1.0) for row in rows):
        np.testing.assert_allclose(together, np.minimum(product, bets.cap_s))


def test_false_pages_of_independent_rows_keep_the_budget() -> None:
    """Losses exactly at their bound, some of them between 0 and 1."""
    random = np.random.default_rng(SEED + 5)
    print("seed", SEED + 5)
    streams, horizon, budget_s = 400, 300, 1000.0
    bets = mean_bets(np.full(streams, 0.3), 1.0, budget_s)
    m, alarms = bets.start(), np.zeros(streams, dtype=np.bool_)
    for _ in range(horizon):
        whole, parts = random.binomial(6, 0.3, streams), random.beta(3.0, 7.0, (4, streams))
        m = bets.step_rows(m, whole + parts.sum(axis=0), np.full(streams, 10), 1.0)
        alarms |= np.bincount(bets.event, m * bets.weight) * streams >= budget_s
    assert alarms.sum() <= most_alarms(streams, horizon / budget_s)
