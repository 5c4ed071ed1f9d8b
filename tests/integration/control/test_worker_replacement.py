"""Workers that hang or have used up their numbers, replaced without anybody asking."""

import json
import os
import resource
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import FakeGateway, eventually
from .test_overlap import BODY, Load

MakeGateway = Callable[..., FakeGateway]


def restarts(gateway: FakeGateway, reason: str) -> float:
    url = f"http://127.0.0.1:{gateway.ports['metrics']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        lines = response.read().decode().splitlines()
    name = f'driftgate_worker_restarts_total{{reason="{reason}"}} '
    return next(float(line[len(name) :]) for line in lines if line.startswith(name))


def hang(gateway: FakeGateway) -> Callable[[], bool]:
    """Stop a worker as a whole; returns whether another has its place."""
    victim = gateway.pids()[0]
    os.kill(victim, signal.SIGSTOP)

    def replaced() -> bool:
        now = gateway.pids()
        return len(now) == gateway.config.gateway.workers and victim not in now

    return replaced


def test_a_worker_that_hangs_is_replaced_though_nobody_asks_it_anything(
    make_gateway: MakeGateway,
) -> None:
    gateway = make_gateway(hang_s=2.0)
    gateway.push()
    gateway.start()
    eventually(hang(gateway))
    assert "its event loop stood still for 2 s; replacing it" in gateway.errors()
    assert restarts(gateway, "stuck") >= 1
    assert gateway.admin.status()["ready"]


def test_a_worker_that_hangs_while_it_drains_does_not_hold_up_the_reload(
    make_gateway: MakeGateway,
) -> None:
    gateway = make_gateway(hang_s=2.0)
    gateway.push()
    gateway.start()
    old = gateway.pids()
    os.kill(old[0], signal.SIGSTOP)
    gateway.process.send_signal(signal.SIGHUP)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old))
    eventually(lambda: len(gateway.pids()) == 2)
    assert gateway.stop() == 0


def test_a_worker_that_dies_while_the_disk_is_full_comes_back_with_the_space(
    make_gateway: MakeGateway,
) -> None:
    gateway = make_gateway()
    gateway.push()
    gateway.start()
    victim = gateway.pids()[0]
    file_bytes_max(gateway, 1)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: restarts(gateway, "crash") >= 1)
    file_bytes_max(gateway, resource.RLIM_INFINITY)
    eventually(lambda: len(gateway.pids()) == gateway.config.gateway.workers)
    assert victim not in gateway.pids()
    assert gateway.stop() == 0


def file_bytes_max(gateway: FakeGateway, size: int) -> None:
    """Let files of the supervisor and its next workers grow up to `size` bytes."""
    hard = resource.RLIM_INFINITY
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size, hard))


@pytest.fixture
def make_real(make_gateway: MakeGateway) -> MakeGateway:
    def make(**settings: object) -> FakeGateway:
        gateway = make_gateway(drain_s=10.0, **settings)
        gateway.argv = ("-m", "serving")
        gateway.push()
        return gateway.start()

    return make


@pytest.mark.ci
def test_a_hanging_worker_under_load_costs_what_it_held_and_is_replaced(
    make_real: MakeGateway,
) -> None:
    gateway = make_real(hang_s=3.0)
    with Load(gateway.ports["http"]).running() as load:
        load.some_more()
        eventually(hang(gateway))
        load.some_more()
    assert len(load.failed) <= 3  # one request at a time on each of three connections
    assert restarts(gateway, "stuck") >= 1
    assert gateway.stop() == 0
    for line in gateway.books():
        assert line.acknowledged == line.spooled + sum(line.gaps.values())


def infer(gateway: FakeGateway) -> str:
    url = f"http://127.0.0.1:{gateway.ports['http']}/v2/models/digits/infer"
    with urllib.request.urlopen(url, BODY.encode(), timeout=20) as response:
        reply = json.loads(response.read())
    return str(reply["parameters"]["prediction_id"])


@pytest.mark.ci
def test_workers_are_replaced_long_before_their_numbers_wrap_and_no_request_fails(
    make_real: MakeGateway,
) -> None:
    gateway = make_real(worker_rows_max=300, workers=1)
    with Load(gateway.ports["http"]).running() as load:
        eventually(lambda: restarts(gateway, "worn") >= 3)
        load.some_more()
    assert load.failed == []
    assert restarts(gateway, "crash") == restarts(gateway, "stuck") == 0
    assert gateway.stop() == 0
    books = gateway.books()
    assert len(books) >= 4
    for line in books:
        assert line.acknowledged == line.spooled
    assert sum(line.acknowledged for line in books) >= load.answered
