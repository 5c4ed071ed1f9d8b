"""h2load's report, and the refusal to take a figure from failed calls."""

import pytest

from loadtests.h2load import H2loadError, check, framed, parse

REPORT = """\
finished in 3.00s, 2494.67 req/s, 377.61KB/s
requests: {total} total, 7516 started, {total} done, {good} succeeded, {bad} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, {bad} 5xx
traffic: 1.11MB (1160020) total, 22.22KB (22752) headers (space savings 96.25%), 708.93KB (725948) data
"""  # noqa: E501 - as h2load prints it


def test_the_figures_are_read():
    run = parse(REPORT.format(total=7484, good=7484, bad=0))
    assert (run.requests, run.requests_per_s, run.data_bytes) == (7484, 2494.67, 725_948)


def test_failed_replies_make_a_run_void():
    with pytest.raises(H2loadError, match="failed under load"):
        parse(REPORT.format(total=7484, good=7483, bad=1))
    with pytest.raises(H2loadError, match="failed under load"):
        parse(REPORT.format(total=0, good=0, bad=0))


def test_replies_without_a_message_make_a_run_void():
    run = parse(REPORT.format(total=7484, good=7484, bad=0))
    assert check(run, 97) is run
    with pytest.raises(H2loadError, match="a good one 98"):
        check(run, 98)


def test_a_report_that_is_not_understood_is_an_error():
    with pytest.raises(H2loadError, match="not understood"):
        parse("-D: value error 0.5")


def test_a_message_travels_with_its_length():
    assert framed(b"abc") == b"\0\0\0\0\3abc"
