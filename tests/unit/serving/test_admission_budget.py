"""The budget of rows and bytes in flight."""

import pytest

from serving.core.admission import (
    JSON_BYTES_FACTOR,
    MESSAGE_OVERHEAD_BYTES,
    MESSAGE_RAW_FACTOR,
    Admission,
    message_limit,
)
from serving.core.errors import Overloaded
from serving.core.queue_settings import QueueSettings


def test_rows_beyond_the_budget_are_refused_until_some_are_free():
    admission = Admission(rows_max=10, bytes_max=1000, body_bytes_max=1)
    admission.hold_rows(8)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        admission.hold_rows(3)
    admission.free_rows(1)
    admission.hold_rows(3)
    assert admission.rows == 10


def test_a_request_larger_than_the_budget_runs_when_it_is_alone():
    admission = Admission(rows_max=10, bytes_max=1000, body_bytes_max=1)
    admission.hold_rows(11)
    with pytest.raises(Overloaded):
        admission.hold_rows(1)


def test_one_maximal_json_body_always_fits():
    admission = Admission(rows_max=1, bytes_max=1, body_bytes_max=100)
    admission.hold_bytes(100 * JSON_BYTES_FACTOR)
    with pytest.raises(Overloaded):
        admission.hold_bytes(1)


def test_a_refusal_takes_nothing_of_the_budget():
    admission = Admission(rows_max=2, bytes_max=100, body_bytes_max=1)
    admission.hold_bytes(60)
    for _ in range(3):
        with pytest.raises(Overloaded):
            admission.hold_bytes(50)
    assert admission.bytes == 60
    admission.free_bytes(60)
    assert admission.bytes == 0


def test_freeing_what_was_not_held_is_a_bug_and_says_so():
    admission = Admission(rows_max=2, bytes_max=100, body_bytes_max=1)
    with pytest.raises(AssertionError):
        admission.free_rows(1)


def test_a_message_limit_of_zero_is_what_the_budget_could_admit():
    assert message_limit(1000, 10) == 1000 + MESSAGE_OVERHEAD_BYTES
    assert message_limit(0, 5000) == 5000 // MESSAGE_RAW_FACTOR
    assert message_limit(0, 2**40) == message_limit(2**40, 10) == 2**31 - 1


def test_one_maximal_message_fits_whatever_the_budget():
    admission = Admission(rows_max=1, bytes_max=1, body_bytes_max=1, message_bytes_max=1000)
    admission.hold_bytes(JSON_BYTES_FACTOR + 1000 * MESSAGE_RAW_FACTOR)
    with pytest.raises(Overloaded):
        admission.hold_bytes(1)


def flood(admission: Admission, queued: int) -> int:
    """Rows that one version may queue at most, one by one."""
    while True:
        try:
            admission.hold_rows(1, queued)
        except Overloaded:
            return queued
        queued += 1


def test_a_version_that_is_flooded_leaves_room_for_others():
    admission = Admission(rows_max=1000, bytes_max=1, body_bytes_max=1)
    assert flood(admission, 0) == pytest.approx(800, abs=2)
    assert flood(admission, 0) == pytest.approx(160, abs=2)
    for _ in range(20):
        admission.hold_rows(1)


def test_the_lowest_priority_is_refused_first():
    admission = Admission(rows_max=100, bytes_max=1, body_bytes_max=1)
    settings = QueueSettings(priority_levels=3, default_priority_level=3)
    shares = [settings.share(level) for level in (1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0
    admission.hold_rows(70)
    with pytest.raises(Overloaded, match="66 rows in flight are allowed"):
        admission.hold_rows(1, 0, shares[2])
    admission.hold_rows(12, 0, shares[1])
    with pytest.raises(Overloaded):
        admission.hold_rows(2, 0, shares[1])
    admission.hold_rows(18, 0, shares[0])


def test_a_priority_beyond_the_levels_is_the_default_one():
    settings = QueueSettings(priority_levels=3, default_priority_level=2)
    assert [settings.level(priority) for priority in (0, 1, 3, 4)] == [2, 1, 3, 2]
    assert QueueSettings().level(5) == 0
