"""Bounds on many shares at once, beside scipy's and beside the truth."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import rel_entr
from scipy.stats import binom

from monitor.core.reference_error import share_bounds, share_error, share_errors

SEED = 20261130


def slow_upper(yes: int, rows: int, statements: int, alpha: float) -> float:
    share, limit = yes / rows, np.log(2 * statements / alpha) / rows

    def apart(q: float) -> float:
        return float(rel_entr(share, q) + rel_entr(1 - share, 1 - q)) - limit

    largest = np.nextafter(1.0, 0.0)
    return 1.0 if apart(largest) < 0 else brentq(apart, share, largest, xtol=1e-14)


def test_they_are_chernoffs_by_another_way() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    rows = random.integers(1, 3000, 300)
    yes = random.integers(0, rows + 1)
    yes[:20], yes[20:40] = 0, rows[20:40]
    lower, upper = share_bounds(yes.astype(float), rows.astype(float), 70, 0.01)
    for i in range(rows.size):
        expected = slow_upper(int(yes[i]), int(rows[i]), 70, 0.01)
        assert upper[i] == pytest.approx(expected, abs=1e-9)
        other = slow_upper(int(rows[i] - yes[i]), int(rows[i]), 70, 0.01)
        assert lower[i] == pytest.approx(1.0 - other, abs=1e-9)


@pytest.mark.parametrize("truth", [0.0, 0.003, 0.1, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("rows", [1, 12, 400])
def test_the_truth_is_outside_as_seldom_as_is_said(truth: float, rows: int) -> None:
    """Exactly, over everything that a sample can be."""
    alpha = 0.05
    yes = np.arange(rows + 1, dtype=float)
    lower, upper = share_bounds(yes, np.full_like(yes, rows), 1, alpha)
    chance = binom.pmf(np.arange(rows + 1), rows, truth)
    assert chance[truth > upper].sum() <= alpha / 2
    assert chance[truth < lower].sum() <= alpha / 2
    assert np.all(upper <= yes / rows + share_error(rows, 1, alpha) + 1e-9)
    assert np.all(lower >= yes / rows - share_error(rows, 1, alpha) - 1e-9)


def test_no_rows_say_nothing() -> None:
    lower, upper = share_bounds(np.zeros(2), np.array([0.0, 5.0]), 1)
    assert (lower[0], upper[0]) == (0.0, 1.0)
    assert upper[1] < 1.0


def test_many_errors_are_each_the_one() -> None:
    rows = np.array([0, 1, 7, 100, 10**7])
    one_by_one = [share_error(int(n), 90) for n in rows]
    np.testing.assert_allclose(share_errors(rows.astype(float), 90), one_by_one, rtol=1e-12)
