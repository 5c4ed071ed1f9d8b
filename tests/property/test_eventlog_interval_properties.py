"""Intervals behave as the set of numbers they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from eventlog.core.intervals import Intervals, drop_first

RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


def numbers(runs: object) -> list[int]:
    return [n for first, count in runs for n in range(first, first + count)]  # type: ignore[attr-defined]


@given(RUNS, st.integers(0, 80))
def test_intervals_are_a_set(runs: list[tuple[int, int]], stop: int) -> None:
    intervals, expected = Intervals(runs), set(numbers(runs))
    assert numbers(intervals.runs()) == sorted(expected)
    assert intervals.total == len(expected)
    assert intervals.end == max(expected, default=-1) + 1
    assert numbers(intervals.missing(stop)) == [n for n in range(stop) if n not in expected]
    assert all((n in intervals) == (n in expected) for n in range(80))
    starts = [first for first, _ in intervals.runs()]
    ends = [first + count for first, count in intervals.runs()]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))


@given(RUNS, RUNS)
def test_minus_is_the_difference_of_sets(
    left: list[tuple[int, int]], right: list[tuple[int, int]]
) -> None:
    difference = Intervals(left).minus(Intervals(right))
    assert numbers(difference) == sorted(set(numbers(left)) - set(numbers(right)))


@given(RUNS, st.integers(0, 80))
def test_dropping_takes_from_the_front(runs: list[tuple[int, int]], count: int) -> None:
    assert numbers(drop_first(runs, count)) == numbers(runs)[count:]
