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
