"""How a limited read is divided."""

from eventlog.core.fairness import shares


def test_a_long_backlog_leaves_room_for_the_others() -> None:
    assert shares({"a": 1000, "b": 3, "c": 1000}, 23) == {"a": 10, "b": 3, "c": 10}


def test_the_limit_is_used_up_when_there_is_enough() -> None:
    assert sum(shares({"a": 10, "b": 10, "c": 10}, 7).values()) == 7


def test_everything_is_taken_when_it_fits() -> None:
    assert shares({"a": 2, "b": 0}, 10) == {"a": 2, "b": 0}


def test_nothing_waiting_gives_nothing() -> None:
    assert shares({}, 5) == {}
