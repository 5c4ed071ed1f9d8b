"""Deadlines and raw sizes of what a client is still sending."""

import pytest

from serving.core.pace import CHUNK_SLACK_BYTES, CHUNKS_MAX, NEVER, Pace, Phase
from serving.core.request_head import HeadRefused
from serving.settings import LimitSettings

LIMITS = LimitSettings(header_s=5.0, body_s=30.0, body_bytes_per_s_min=1000, body_bytes_max=10_000)


def test_a_connection_begins_without_a_deadline():
    assert Pace(LIMITS).deadline == NEVER


def test_more_bytes_of_a_head_do_not_move_its_deadline():
    pace = Pace(LIMITS)
    pace.begin()
    pace.arrived(10, Phase.HEAD, 100.0, entered=True)
    pace.arrived(1, Phase.HEAD, 104.0, entered=False)
    assert pace.deadline == 105.0


def test_a_body_earns_time_by_its_bytes_and_only_by_them():
    pace = Pace(LIMITS)
    pace.begin()
    pace.add_body(2000)
    pace.arrived(2100, Phase.BODY, 100.0, entered=True)
    assert pace.deadline == 132.0
    pace.arrived(50, Phase.BODY, 110.0, entered=False)
    assert pace.deadline == 132.0


def test_a_head_that_grows_beyond_its_limit_is_refused():
    pace = Pace(LIMITS)
    room = LIMITS.header_bytes_max + LIMITS.request_line_bytes_max
    pace.arrived(room, Phase.HEAD, 0.0, entered=True)
    with pytest.raises(HeadRefused) as refused:
        pace.arrived(1, Phase.HEAD, 0.0, entered=False)
    assert refused.value.http_status == 431


def test_framing_larger_than_its_data_is_refused():
    pace = Pace(LIMITS)
    pace.begin()
    pace.add_chunk()
    pace.add_body(1)
    room = 1 + LIMITS.header_bytes_max + CHUNK_SLACK_BYTES + 32
    pace.arrived(room, Phase.BODY, 0.0, entered=True)
    with pytest.raises(HeadRefused) as refused:
        pace.arrived(1, Phase.BODY, 0.0, entered=False)
    assert refused.value.http_status == 400


def test_a_body_is_counted_over_its_pieces_and_from_zero_for_each_request():
    pace = Pace(LIMITS)
    for _ in range(2):
        pace.begin()
        pace.add_body(6000)
        pace.add_body(4000)
    with pytest.raises(HeadRefused) as refused:
        pace.add_body(1)
    assert refused.value.http_status == 413
    assert "10001 bytes exceeds the limit of 10000" in refused.value.message


def test_chunks_are_counted():
    pace = Pace(LIMITS)
    pace.begin()
    for _ in range(CHUNKS_MAX):
        pace.add_chunk()
    with pytest.raises(HeadRefused):
        pace.add_chunk()


def test_a_head_that_waited_for_us_gets_its_time_again():
    pace = Pace(LIMITS)
    pace.arrived(10, Phase.HEAD, 100.0, entered=True)
    pace.resumed(200.0)
    pace.arrived(1, Phase.HEAD, 201.0, entered=False)
    assert pace.deadline == 205.0
