"""The window of a stream: order, bounds, and how a stream ends."""

import pytest

from serving.core.stream_window import Entry, Step, StreamWindow


def window(*sizes: int, requests_max: int = 3, bytes_max: int = 100):
    made: StreamWindow[Entry] = StreamWindow(requests_max, bytes_max)
    entries = [Entry(size) for size in sizes]
    for entry in entries:
        made.add(entry)
    return made, entries


def test_replies_leave_in_the_order_of_the_requests():
    made, (first, second) = window(1, 1)
    made.settle(second, 1)
    assert made.step() is Step.WAIT
    made.settle(first, 1)
    for entry in (first, second):
        assert made.step() is Step.WRITE
        assert made.oldest is entry
        made.written()
    assert made.step() is Step.WAIT


def test_it_is_full_by_number_until_a_reply_has_been_written():
    made, entries = window(1, 1, 1)
    assert made.full
    for entry in entries:
        made.settle(entry, 1)
    assert made.full
    made.written()
    assert not made.full


def test_it_is_full_by_bytes_of_requests_and_then_of_replies():
    made, (first, second) = window(60, 39)
    assert not made.full
    made.settle(second, 40)
    assert made.full
    made.settle(first, 1)
    assert not made.full


def test_one_request_of_any_size_fits_and_an_empty_window_is_never_full():
    made, (big,) = window(1000)
    assert made.full
    made.settle(big, 0)
    made.written()
    assert not made.full


def test_after_the_half_close_it_ends_well_once_all_is_written():
    made, (entry,) = window(1)
    made.half_closed = made.draining = True
    assert made.step() is Step.WAIT
    made.settle(entry, 1)
    assert made.step() is Step.WRITE
    made.written()
    assert made.step() is Step.FINISH


def test_in_a_drain_it_goes_away_once_nothing_is_left_to_answer():
    made, (entry,) = window(1)
    made.draining = True
    assert made.step() is Step.WAIT
    made.settle(entry, 1)
    made.written()
    assert made.step() is Step.GO_AWAY


def test_the_unsettled_are_those_without_a_reply():
    made, (first, second) = window(1, 1)
    made.settle(first, 1)
    assert made.unsettled() == [second]
    with pytest.raises(AssertionError, match="one reply"):
        made.settle(first, 1)
