"""wrk's report, and the refusal to take a figure from failed replies."""

import pytest

from loadtests.wrk import WrkError, parse

REPORT = """\
Running 5s test @ http://127.0.0.1:8000/
  1 threads and 32 connections
  Latency Distribution
     50%  812.00us
     75%    1.02ms
     90%    1.30ms
     99%    2.51ms
  {requests} requests in 5.00s, 30.16MB read
{extra}Requests/sec:  39213.04
"""


def test_the_figures_are_read_in_milliseconds():
    run = parse(REPORT.format(requests=196_065, extra=""))
    assert run.requests == 196_065
    assert run.requests_per_s == pytest.approx(39_213)
    assert run.p50_ms == pytest.approx(0.812)
    assert run.p99_ms == pytest.approx(2.51)


@pytest.mark.parametrize(
    "extra",
    [
        "  Non-2xx or 3xx responses: 3\n",
        "  Socket errors: connect 0, read 2, write 0, timeout 0\n",
    ],
)
def test_failed_replies_make_a_run_void(extra):
    with pytest.raises(WrkError, match="failed under load"):
        parse(REPORT.format(requests=10, extra=extra))


def test_a_report_that_is_not_understood_is_an_error():
    with pytest.raises(WrkError, match="not understood"):
        parse("wrk: command not found")
