"""The W3C traceparent header: valid ones are kept, all others are none."""

import pytest

from eventlog.core.traceparent import parse_traceparent, traceparent_text

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{PARENT}-01"


def test_a_valid_header_goes_to_25_bytes_and_back():
    trace = parse_traceparent(VALID)
    assert len(trace) == 25
    assert trace[:16].hex() == TRACE
    assert traceparent_text(trace) == VALID
    assert traceparent_text(bytes(25)) == ""


@pytest.mark.parametrize(
    "text",
    [f"01-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-what.the.future.brings"],
)
def test_of_later_versions_the_known_fields_are_read(text):
    assert parse_traceparent(text) == parse_traceparent(VALID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        VALID.upper(),
        VALID + "-x",
        VALID + " ",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0",
        f"cc-{TRACE}-{PARENT}-01.x",
        f"cc-{TRACE}-{PARENT}-01-" + "x" * 600,
        f"0g-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}é-{PARENT}-01",
    ],
)
def test_a_header_that_is_not_valid_is_none(text):
    assert parse_traceparent(text) == b""
