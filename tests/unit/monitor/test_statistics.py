"""The statistics against scipy on the same bins, and where bins are empty."""

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats

from monitor.core.bins import BINS, MISSING, SLOTS, count_slots, ordered_counts, quantile_starts
from monitor.core.statistics import STATISTICS
from monitor.core.statistics.groups import merged_counts


def histogram(values: np.ndarray, starts: np.ndarray, high: float) -> np.ndarray:
    return count_slots(values, starts, high, exact=False)


@pytest.fixture(scope="module")
def counts() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    reference, live = random.normal(size=5000), random.normal(0.3, 1.2, size=700)
    starts = quantile_starts(reference)
    high = float(reference.max())
    return histogram(reference, starts, high), histogram(live, starts, high)


def as_sample(counts: np.ndarray) -> np.ndarray:
    ordered = ordered_counts(counts)
    return np.repeat(np.arange(ordered.size), ordered)


def test_ks_equals_scipy_on_the_bin_numbers(counts: tuple[np.ndarray, np.ndarray]) -> None:
    expected = scipy.stats.ks_2samp(as_sample(counts[0]), as_sample(counts[1])).statistic
    assert float(STATISTICS["ks"](*counts)) == pytest.approx(expected, abs=1e-12)


def test_ks_lies_within_one_bin_of_ks_on_raw_values() -> None:
    random = np.random.default_rng(1)
    reference, live = random.lognormal(size=4000), random.lognormal(0.2, size=3000)
    starts = quantile_starts(reference)
    high = float(reference.max())
    binned = STATISTICS["ks"](histogram(reference, starts, high), histogram(live, starts, high))
    raw = scipy.stats.ks_2samp(reference, live).statistic
    assert raw - 1.01 / BINS <= float(binned) <= raw + 1e-12


def test_js_equals_scipy_on_the_merged_bins(counts: tuple[np.ndarray, np.ndarray]) -> None:
    p, q = merged_counts(*counts)
    expected = scipy.spatial.distance.jensenshannon(p, q, base=2)
    assert float(STATISTICS["js"](*counts)) == pytest.approx(expected, abs=1e-12)


def test_psi_is_the_symmetric_divergence_of_the_smoothed_shares(
    counts: tuple[np.ndarray, np.ndarray],
) -> None:
    p, q = (side.astype(float) for side in merged_counts(*counts))
    used = (p + q) > 0
    p, q = p[used] + 0.5, q[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    expected = scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)
    assert float(STATISTICS["psi"](*counts)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_side_without_rows_gives_nan_and_no_warning(name: str) -> None:
    some, none = np.zeros(SLOTS, dtype=np.int64), np.zeros(SLOTS, dtype=np.int64)
    some[3] = 10
    assert np.isnan(STATISTICS[name](some, none))
    assert np.isnan(STATISTICS[name](none, some))


@pytest.mark.parametrize("name", STATISTICS)
def test_equal_counts_have_no_distance(name: str) -> None:
    counts = np.zeros(SLOTS, dtype=np.int64)
    counts[:5] = (1, 0, 7, 7, 0)
    assert float(STATISTICS[name](counts, counts)) == pytest.approx(0.0, abs=1e-12)


def test_one_far_value_neither_hides_nor_fakes_a_shift() -> None:
    random = np.random.default_rng(2)
    reference = random.normal(size=5000)
    starts, high = quantile_starts(reference), float(reference.max())
    base = histogram(reference, starts, high)
    for shift in (0.0, 1.0, -1.0):
        live = random.normal(shift, 1.0, size=5000)
        far = np.append(live, 1e6)
        for name, statistic in STATISTICS.items():
            without = float(statistic(base, histogram(live, starts, high)))
            found = float(statistic(base, histogram(far, starts, high)))
            assert found == pytest.approx(without, rel=0.1, abs=0.02), (name, shift)
            assert (found > 0.2) == (shift != 0.0), (name, shift)


def test_an_empty_bin_does_not_explode_psi() -> None:
    reference, live = np.zeros(SLOTS, dtype=np.int64), np.zeros(SLOTS, dtype=np.int64)
    reference[:2], live[:2] = (4999, 1), (5000, 0)
    assert float(STATISTICS["psi"](reference, live)) < 0.001


def test_missing_values_count_as_a_bin_of_their_own() -> None:
    reference, live = np.zeros(SLOTS, dtype=np.int64), np.zeros(SLOTS, dtype=np.int64)
    reference[:4], live[:4] = 100, 100
    live[MISSING] = 400
    assert float(STATISTICS["ks"](reference, live)) == 0.0
    assert float(STATISTICS["psi"](reference, live)) > 1.0


def test_statistics_take_all_features_at_once(counts: tuple[np.ndarray, np.ndarray]) -> None:
    stacked = [np.stack([side, side[::-1].copy()]) for side in counts]
    for statistic in STATISTICS.values():
        both = statistic(*stacked)
        assert both.shape == (2,)
        assert float(both[0]) == pytest.approx(float(statistic(*counts)), abs=1e-12)
