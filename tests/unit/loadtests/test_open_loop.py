"""The open loop keeps to its times, hides no wait, and checks what it gets."""

import socket
import threading
import time

import numpy as np
import pytest

from loadtests.arrivals import ARRIVALS, replay, spaced
from loadtests.open_loop import Request, drive, http_request

REQUEST = http_request("m", b"{}")


class Server:
    """Answers each connection in a thread of its own, as `answer` says; None hangs up."""

    def __init__(self, answer):
        self._answer, self._asked, self._lock = answer, 0, threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            while connection.recv(1 << 16):
                with self._lock:
                    number = self._asked
                    self._asked += 1
                reply = self._answer(number)
                if reply is None:
                    return
                # In two pieces: a reply may come in any.
                connection.sendall(reply[:20])
                time.sleep(0.001)
                connection.sendall(reply[20:])


def reply(body=b"right", status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize("name", ARRIVALS)
def test_arrivals_rise_within_their_time_at_their_rate(name):
    times = ARRIVALS[name](500.0, 40.0, np.random.default_rng(1))
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 40.0
    assert times.size == pytest.approx(20_000, rel=0.15)


def test_bursts_come_together():
    random = np.random.default_rng(2)
    apart = {}
    for name in ("poisson", "bursty"):
        counts, _ = np.histogram(ARRIVALS[name](500.0, 40.0, random), 800)
        apart[name] = np.var(counts) / np.mean(counts)
    assert apart["poisson"] == pytest.approx(1.0, abs=0.3)
    assert apart["bursty"] > 5


def test_recorded_times_are_played_from_their_begin(tmp_path):
    (tmp_path / "times").write_text("1000.5\n1000.0\n1002.0\n")
    assert replay(tmp_path / "times").tolist() == [0.0, 0.5, 2.0]
    (tmp_path / "none").write_text("nan\n")
    with pytest.raises(ValueError, match="none"):
        replay(tmp_path / "none")


def test_every_reply_is_held_against_its_request():
    requests = [Request(REQUEST, ((b"ri", b"ght"),)), Request(REQUEST, ((b"left",), (b"up",)))]
    with Server(lambda _: reply()) as server:
        outcome = drive(server.port, requests, spaced(1000.0, 0.04), [0, 1] * 20, connections=2)
    assert outcome.status.tolist() == [200] * 40
    assert outcome.right.tolist() == [True, False] * 20
    assert np.all(outcome.latency_s > 0.001)
    assert np.all((outcome.late_s >= 0) & (outcome.late_s <= outcome.latency_s))


def test_a_slow_reply_hides_no_wait_of_the_next():
    """Of one connection: what comes behind counts from when it was due."""
    with Server(lambda number: time.sleep(0.5 if number == 0 else 0.0) or reply()) as server:
        outcome = drive(server.port, [Request(REQUEST)], spaced(100.0, 0.1), connections=1)
    assert outcome.failed == 0
    assert outcome.latency_s[0] >= 0.5
    assert outcome.latency_s[9] >= 0.4
    # That it had to wait is the server's doing, not the generator's.
    assert outcome.late_s[1] < 0.4


def test_a_slow_reply_holds_no_other_connection_back():
    with Server(lambda number: time.sleep(1.0 if number == 0 else 0.0) or reply()) as server:
        outcome = drive(server.port, [Request(REQUEST)], spaced(100.0, 0.1), connections=4)
    assert np.sort(outcome.latency_s)[-2] < 1.0 <= outcome.latency_s.max()


def test_refusals_and_lost_connections_are_told_apart():
    answers = [reply(), reply(b"no", b"503 Service Unavailable"), None, reply(), reply(), reply()]
    with Server(lambda number: answers[number]) as server:
        outcome = drive(server.port, [Request(REQUEST)], spaced(50.0, 0.12), connections=1)
    assert outcome.status.tolist() == [200, 503, 0, 200, 200, 200]
    assert outcome.right.tolist() == [True, False, False, True, True, True]
    assert outcome.failed == 2
    assert np.isnan(outcome.latency_s[2])
    assert outcome.p99_ms == np.inf
