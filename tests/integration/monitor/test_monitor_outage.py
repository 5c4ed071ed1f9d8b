"""Monitors of a group while Kafka is away, and one that stands still beyond its session."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventlog.kafka.failure import Unavailable
from tests.broker.broker import Broker, running_broker
from tests.monitor_cluster import BAD, SETTINGS, Cluster, partitions_of, rows_of
from tests.monitor_process import Admin, Process, wait_for
from tests.monitor_world import BLOCK_NS, MODEL, START_NS, Traffic

pytestmark = pytest.mark.ci
AWAY_S = 2 * SETTINGS.session_s


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def cluster(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster(broker.address, tmp_path, request_timeout_s=5.0)
    monkeypatch.setattr("tests.monitor_world.CODEC", found.first.ids)
    yield found
    found.log.close()


@pytest.fixture
def admins() -> Iterator[list[Admin]]:
    """Gateways of one deployment, a monitor's each."""
    found = [Admin(), Admin()]
    yield found
    for admin in found:
        admin.close()


@pytest.fixture
def monitors(cluster: Cluster, admins: list[Admin]) -> Iterator[list[Process]]:
    """Two that share the partitions."""
    found = [
        cluster.monitor(cluster.home(name), admin) for name, admin in zip("ab", admins, strict=True)
    ]
    try:
        for monitor in found:
            monitor.start()
        wait_for(
            "they share the partitions",
            lambda: (
                all(partitions_of(m) for m in found)
                and sorted(n for m in found for n in partitions_of(m)) == [0, 1, 2]
            ),
        )
        yield found
    finally:
        for monitor in found:
            if monitor.process is not None and monitor.process.poll() is None:
                monitor.process.send_signal(signal.SIGCONT)
                monitor.kill()


def deployment(cluster: Cluster) -> dict[str, Any]:
    """One in which a standing verdict against the candidate is to be acted on."""
    return {
        "model": MODEL, "generation": "7", "phase": "PROGRESSING", "weight": 20,
        "rollout": "r1", "stable": {"digest": cluster.first.digests["1"]},
        "candidate": {"digest": cluster.first.digests["2"]},
        "changed_ns": str(START_NS + 15 * BLOCK_NS),
    }  # fmt: skip


def until_condemned(traffic: Traffic, owner: Process) -> None:
    """Traffic until the owner would roll the candidate back, if its gateway spoke of a rollout."""
    traffic.run(15)
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.2, "r1"
    traffic.run(30)
    wait_for("a verdict stands", lambda: standing(owner) == "rollback")


def standing(monitor: Process) -> str:
    state = monitor.state()
    return state["models"].get(MODEL, {}).get("verdict", "") if state else ""


def withheld(monitor: Process) -> str:
    state = monitor.state()
    return state["models"].get(MODEL, {}).get("withheld", "") if state else ""


def rollbacks(admin: Admin) -> list[dict[str, Any]]:
    return [command for command in list(admin.commands) if command["verb"] == "ROLLBACK"]


def owner_of(cluster: Cluster, monitors: list[Process]) -> Process | None:
    return next((m for m in monitors if cluster.number in partitions_of(m)), None)


def hurt(broker: Broker, fault: str) -> Callable[[], None]:
    """Returns what heals it."""
    if fault == "killed":
        broker.kill()
        return broker.start
    broker.freeze()
    return broker.thaw


def patiently(append: Callable[..., None]) -> Callable[..., None]:
    """Until Kafka takes it; a broker may know its topics later than it answers."""

    def attempt(*arguments: Any) -> bool:
        try:
            append(*arguments)
        except Unavailable:
            return False
        return True

    return lambda *arguments: wait_for("kafka takes records", lambda: attempt(*arguments))


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_without_kafka_monitors_do_nothing_and_say_so_and_go_on_afterwards_bit_for_bit(
    broker: Broker, cluster: Cluster, admins: list[Admin], monitors: list[Process], fault: str
) -> None:
    traffic = cluster.traffic(rows_per_block=60)
    owner = owner_of(cluster, monitors)
    assert owner is not None
    until_condemned(traffic, owner)
    heal = hurt(broker, fault)
    try:
        for admin in admins:
            admin.deployment = deployment(cluster)
        for monitor in monitors:
            wait_for("it says that kafka is away", lambda m=monitor: says_so(m))
        until = time.monotonic() + AWAY_S
        while time.monotonic() < until:
            assert [rollbacks(admin) for admin in admins] == [[], []]
            time.sleep(0.2)
        assert all(says_so(monitor) for monitor in monitors)
        assert standing(owner) == "rollback"  # known still, and not acted on
        assert "cannot be asked" in withheld(owner)
    finally:
        heal()
    wait_for("the candidate is rolled back", lambda: any(rollbacks(a) for a in admins))
    traffic.append = patiently(traffic.append)
    traffic.run(20)
    traffic.end()
    wait_for("nobody says that kafka is away", lambda: not any(map(says_so, monitors)))
    parts = cluster.uninterrupted()
    expected = parts.engine.models[MODEL].rows
    assert expected > 60 * 60
    last = wait_for("one owns it", lambda: owner_of(cluster, monitors))
    wait_for("it has read all", lambda: rows_of(last) == expected)
    cluster.settled(last.home, parts.engine.to_bytes())
    parts.close()
    sent = [command for admin in admins for command in rollbacks(admin)]
    assert len({command["id"] for command in sent}) == 1
    assert [monitor.stop() for monitor in monitors] == [0, 0]


def says_so(monitor: Process) -> bool:
    state = monitor.state()
    if not state or not state["kafka"]["failure"]:
        return False
    return b"driftgate_monitor_kafka_up 0.0" in monitor.get("/metrics")[1]


def test_one_that_stood_still_beyond_its_session_does_not_act_when_it_wakes(
    cluster: Cluster, admins: list[Admin], monitors: list[Process]
) -> None:
    traffic = cluster.traffic(rows_per_block=60)
    owner = owner_of(cluster, monitors)
    assert owner is not None
    other = next(m for m in monitors if m is not owner)
    of_owner, of_other = (admins[monitors.index(monitor)] for monitor in (owner, other))
    until_condemned(traffic, owner)
    stale = epoch_of(owner, cluster.number)
    assert owner.process is not None
    os.kill(owner.process.pid, signal.SIGSTOP)
    wait_for("the other owns all", lambda: len(partitions_of(other)) == 3)
    wait_for("the other knows what is known", lambda: standing(other) == "rollback")
    current = epoch_of(other, cluster.number)
    assert current > stale
    # Awake, it finds every reason to act: its verdict, and a gateway with the rollout.
    of_owner.deployment = deployment(cluster)
    os.kill(owner.process.pid, signal.SIGCONT)
    wait_for("it has let go", lambda: "gave up partition" in owner.said())
    of_other.deployment = deployment(cluster)
    wait_for("it is rolled back", lambda: rollbacks(of_owner) or rollbacks(of_other))
    traffic.run(20)
    traffic.end()
    parts = cluster.uninterrupted()
    last = wait_for("one owns it", lambda: owner_of(cluster, monitors))
    cluster.settled(last.home, parts.engine.to_bytes())
    parts.close()
    sent = rollbacks(of_owner) + rollbacks(of_other)
    assert len({command["id"] for command in sent}) == 1
    assert all(int(command["fence"]) >= current for command in sent), (sent, current)
    assert all(int(c.get("fence", 0)) >= current for c in of_owner.commands if c["verb"] != "NOTE")
    assert [monitor.stop() for monitor in monitors] == [0, 0]


def epoch_of(monitor: Process, number: int) -> int:
    state = monitor.state()
    assert state is not None
    return next(p["epoch"] for p in state["kafka"]["partitions"] if p["number"] == number)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_told_to_stop_without_kafka_they_end_and_go_on_from_their_files(
    broker: Broker, cluster: Cluster, monitors: list[Process], fault: str
) -> None:
    traffic = cluster.traffic(rows_per_block=60)
    owner = owner_of(cluster, monitors)
    assert owner is not None
    traffic.run(10)
    wait_for("it has read", lambda: rows_of(owner) == 60 * 8)
    heal = hurt(broker, fault)
    try:
        for monitor in monitors:
            wait_for("it says that kafka is away", lambda m=monitor: says_so(m))
        began = time.monotonic()
        assert [monitor.stop() for monitor in monitors] == [0, 0]
        seconds = time.monotonic() - began
        print(f"both have ended after {seconds:.1f} s")
        assert seconds < 60  # a request waits for 10 s, and there are several per partition
    finally:
        heal()
    for monitor in monitors:
        monitor.start()
    traffic.append = patiently(traffic.append)
    traffic.run(10)
    traffic.end()
    parts = cluster.uninterrupted()
    last = wait_for("one owns it", lambda: owner_of(cluster, monitors))
    cluster.settled(last.home, parts.engine.to_bytes())
    parts.close()
    assert [monitor.stop() for monitor in monitors] == [0, 0]
