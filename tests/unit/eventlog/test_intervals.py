"""Intervals: what is accounted for, and what is missing."""

from eventlog.core.intervals import Intervals, drop_first


def test_adjacent_runs_become_one_interval() -> None:
    assert Intervals([(0, 3), (3, 2)]).runs() == ((0, 5),)


def test_a_late_run_closes_the_hole_it_left() -> None:
    intervals = Intervals([(0, 3), (5, 2)])
    assert intervals.missing(8) == ((3, 2), (7, 1))
    intervals.add(3, 2)
    assert intervals.runs() == ((0, 7),)


def test_numbers_added_twice_count_once() -> None:
    intervals = Intervals([(0, 4), (2, 4)])
    assert (intervals.total, intervals.end) == (6, 6)


def test_missing_stops_at_its_bound_even_inside_an_interval() -> None:
    assert Intervals([(2, 10)]).missing(5) == ((0, 2),)


def test_a_difference_keeps_what_the_other_set_lacks() -> None:
    assert Intervals([(0, 10)]).minus(Intervals([(2, 3), (9, 5)])) == ((0, 2), (5, 4))


def test_an_empty_run_adds_nothing() -> None:
    intervals = Intervals()
    intervals.add(7, 0)
    assert len(intervals) == 0
    assert intervals.end == 0


def test_dropping_the_first_numbers_cuts_inside_a_run() -> None:
    assert drop_first([(0, 2), (10, 5)], 4) == ((12, 3),)
