"""Who is held to stand still, in made-up time."""

from serving.core.liveness import LATE_S, Liveness

HANG_S = 10.0


def looks(liveness, until_s, beats, since_s=0.0):
    """Look four times a second; who was ever named, and when first."""
    named = {}
    for quarter in range(int(since_s * 4), int(until_s * 4) + 1):
        now = quarter / 4
        for name in liveness.look(beats(now), now):
            named.setdefault(name, now)
    return named


def test_one_that_moves_is_never_named():
    assert looks(Liveness(HANG_S), 100, lambda now: {"a": int(now * 2) + 1}) == {}


def test_one_that_stops_is_named_once_the_bound_has_passed_and_others_are_not():
    def beats(now):
        return {"a": int(min(now, 20) * 2) + 1, "b": int(now * 2) + 1}

    assert looks(Liveness(HANG_S), 60, beats) == {"a": 30.25}


def test_one_that_has_not_begun_is_not_judged():
    assert looks(Liveness(HANG_S), 100, lambda now: {"a": 0}) == {}


def test_one_that_never_moves_after_its_first_beat_is_named():
    assert looks(Liveness(HANG_S), 60, lambda now: {"a": 1}) == {"a": 10.25}


def test_a_successor_of_the_same_name_has_its_own_time():
    liveness = Liveness(HANG_S)
    assert looks(liveness, 9, lambda now: {"a": 7}) == {}
    assert looks(liveness, 9.25, lambda now: {}, since_s=9.25) == {}
    assert looks(liveness, 19, lambda now: {"a": 7}, since_s=9.5) == {}


def test_a_watcher_that_was_held_up_itself_names_nobody_at_once():
    liveness = Liveness(HANG_S)
    assert looks(liveness, 5, lambda now: {"a": 3}) == {}
    assert liveness.look({"a": 3}, 5 + LATE_S + 1000) == []
    assert looks(liveness, 2000, lambda now: {"a": 3}, since_s=1008) == {"a": 1017.25}


def test_a_bound_of_zero_lets_everyone_stand():
    assert looks(Liveness(0), 1000, lambda now: {"a": 3}) == {}
