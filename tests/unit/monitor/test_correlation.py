"""How long traffic is correlated: against slow definitions, and what is made of it."""

import numpy as np
import pytest

from monitor.core.correlation import BLOCKS_MIN, BlockMeans, Span
from monitor.core.stretch import Stretch

SEED = 20261128


def fed(series: np.ndarray) -> BlockMeans:
    means = BlockMeans.empty(series.shape[1])
    for row in series:
        means.add(row)
    return means


def autoregressive(random: np.random.Generator, memory: float, shape: tuple) -> np.ndarray:
    values = np.empty(shape)
    value = random.normal(size=shape[1])
    for i in range(shape[0]):
        values[i] = value
        value = memory * value + np.sqrt(1 - memory**2) * random.normal(size=shape[1])
    return values


def test_differences_are_those_of_neighbouring_spans_without_the_largest() -> None:
    random = np.random.default_rng(SEED)
    series = random.normal(size=(200, 2))
    means = fed(series)
    for length in range(4):
        size = 1 << length
        spans = series[: 200 // size * size].reshape(-1, size, 2).mean(axis=1)
        pairs = spans[: len(spans) // 2 * 2].reshape(-1, 2, 2)
        squares = (pairs[:, 1] - pairs[:, 0]) ** 2 / 4
        np.testing.assert_allclose(means.squares[length], squares.sum(axis=0))
        np.testing.assert_allclose(means.largest[length], squares.max(axis=0))
        assert means.pairs[length].tolist() == [len(pairs)] * 2


def test_blocks_with_nothing_to_say_are_passed_over() -> None:
    random = np.random.default_rng(SEED)
    series = random.normal(size=(300, 1))
    holes = np.insert(series, np.arange(0, 300, 3), np.nan, axis=0)
    np.testing.assert_array_equal(fed(series).squares, fed(holes).squares)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_covariance_of_neighbours_is_the_process_s_own(memory: float) -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    covariance, correlation = fed(autoregressive(random, memory, (4000, 20))).covariances(0)
    for length in range(4):
        size = 1 << length
        lags = np.arange(1, 2 * size)
        expected = np.sum((size - np.abs(lags - size)) * memory**lags) / size**2
        assert covariance[length].mean() == pytest.approx(expected, abs=0.12)
    assert correlation[0].mean() == pytest.approx(memory, abs=0.12)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_a_mean_of_many_blocks_varies_as_the_process_says(memory: float) -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    means = fed(autoregressive(random, memory, (8000, 20)))
    expected = (1 + memory) / (1 - memory)
    assert expected * 0.8 < means.long_run().mean() < expected * 1.6


def test_a_level_that_moves_once_is_seen_and_correlation_is_not_taken_for_it() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    assert not fed(autoregressive(random, 0.9, (2000, 5))).moved(0.01)
    steady = autoregressive(random, 0.5, (2000, 5))
    assert not fed(steady).moved(0.01)
    steady[900:, 2] += 3.0
    assert fed(steady).moved(0.01)
    assert not fed(steady).moved(10.0)


def test_independent_blocks_stay_as_they_are_however_few_their_rows() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    series = random.binomial(2, 0.5, size=(1600, 100)) / 2
    means, longest = BlockMeans.empty(100), 1
    for i, row in enumerate(series):
        means.add(row)
        if i % 16 == 0:
            longest = max(longest, means.span(np.full(100, 0.01), 1).blocks)
    assert means.span(np.full(100, 0.01), 1) == Span(1)
    assert longest <= 8  # chance may ask for a little, early


def test_few_blocks_say_so() -> None:
    means = fed(np.zeros((BLOCKS_MIN - 1, 1)))
    assert not means.span(np.ones(1), 1).covered
    means.add(np.zeros(1))
    assert means.span(np.ones(1), 1) == Span(1)


def test_blocks_get_shorter_only_when_a_quarter_would_do() -> None:
    means = fed(np.zeros((BLOCKS_MIN, 1)))
    assert [means.span(np.ones(1), blocks).blocks for blocks in (1, 2, 4, 64)] == [1, 2, 1, 1]


def test_a_state_that_was_stored_goes_on_bit_for_bit() -> None:
    random = np.random.default_rng(SEED)
    means = fed(random.normal(size=(77, 3)))
    again = BlockMeans.from_tree(means.to_tree())
    np.testing.assert_array_equal(again.waiting, means.waiting)
    assert again.blocks == 77


ONE, TWO = np.array([1]), np.array([2])


def test_a_stretch_is_the_sum_of_its_blocks_and_ends_on_time() -> None:
    stretch = Stretch.empty(1)
    assert stretch.add(ONE, TWO, 1, 3) == []
    assert stretch.add(ONE, TWO, 1, 3) == []
    [ended] = stretch.add(TWO, TWO, 1, 3)
    assert (ended.means.tolist(), ended.blocks) == ([4 / 6], 3)
    assert stretch.blocks == 0


def test_time_without_rows_ends_a_stretch_and_is_never_lost() -> None:
    stretch = Stretch.empty(1)
    stretch.add(ONE, TWO, 1, 4)
    [first] = stretch.add(TWO, TWO, 5, 4)  # 1 + 5 blocks: two of the next stretch
    assert (first.means.tolist(), first.blocks, stretch.blocks) == ([0.5], 4, 2)
    [second] = stretch.add(TWO, TWO, 2, 4)
    assert (second.means.tolist(), second.blocks) == ([1.0], 4)


def test_a_block_long_after_the_last_is_a_stretch_of_its_own() -> None:
    stretch = Stretch.empty(1)
    assert [ended.blocks for ended in stretch.add(ONE, TWO, 9, 4)] == [9]
    assert stretch.blocks == 0
