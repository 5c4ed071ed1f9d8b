"""Monitors as a group on a real broker: each partition has one owner, and goes on unchanged."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from driftgate.cli import main
from eventlog import PREDICTIONS, RecordKind, StoredRecord
from eventlog.core.kafka_message import Message
from eventlog.kafka.event_loop import EventLoop
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.sender import Addressed, Sender
from eventlog.kafka.topics import partition_of
from eventlog.log import scan
from monitor.__main__ import read_settings
from monitor.kafka import group_monitor
from monitor.kafka.compose import open_group_monitor
from monitor.kafka.consumed import consumed_rows
from monitor.kafka.handover_topic import HandoverTopic
from monitor.kafka.ownership import NotOwner, Ownership
from monitor.published import Published
from monitor.row_finder import RowFinder
from monitor.world import World
from tests.broker.topics import read_topic
from tests.monitor_cluster import BAD, GOOD, SETTINGS, Cluster, partitions_of, rows_of
from tests.monitor_process import Admin, Home, Process, wait_for
from tests.monitor_world import BLOCK_NS, MODEL, START_NS


@pytest.fixture
def cluster(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster(kafka, tmp_path)
    monkeypatch.setattr("tests.monitor_world.CODEC", found.first.ids)
    yield found
    found.log.close()


@pytest.fixture
def admin() -> Iterator[Admin]:
    found = Admin()
    yield found
    found.close()


def test_killed_in_the_middle_of_a_window_it_is_succeeded_by_another_bit_for_bit(
    cluster: Cluster, admin: Admin
) -> None:
    other_admin = Admin()  # another gateway of the same deployment
    traffic = cluster.traffic(rows_per_block=60)
    homes = [cluster.home("a"), cluster.home("b")]
    monitors = [cluster.monitor(home, admin) for home in homes]
    try:
        monitors[0].start()
        wait_for("the first owns all", lambda: len(partitions_of(monitors[0])) == 3)
        monitors[1].start()
        wait_for(
            "they share the partitions",
            lambda: (
                all(partitions_of(m) for m in monitors)
                and sum(len(partitions_of(m)) for m in monitors) == 3
            ),
        )
        owner = next(m for m in monitors if cluster.number in partitions_of(m))
        other = next(m for m in monitors if m is not owner)
        traffic.run(15)
        traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.2, "r1"
        traffic.run(10)
        # Past the last thing that it handed over, and in the middle of a window of 20 blocks.
        wait_for("the owner has read a good part", lambda: rows_of(owner) > 12 * 60)
        owner.kill()
        traffic.run(35)
        traffic.end()
        admin.deployment = {
            "model": MODEL, "generation": "7", "phase": "PROGRESSING", "weight": 20,
            "rollout": "r1", "stable": {"digest": cluster.first.digests["1"]},
            "candidate": {"digest": cluster.first.digests["2"]},
            "changed_ns": str(START_NS + 15 * BLOCK_NS),
        }  # fmt: skip
        wait_for("the other owns all", lambda: len(partitions_of(other)) == 3)
        parts = cluster.uninterrupted()
        expected = parts.engine.models[MODEL]
        assert expected.rows > 50 * 60
        wait_for("it has read all", lambda: rows_of(other) == expected.rows)
        wait_for("the candidate is rolled back", lambda: "ROLLBACK" in admin.verbs())
        want = parts.engine.to_bytes()
        cluster.settled(other.home, want)  # labels and marks come by partitions of their own
        assert other.stop() == 0
        assert cluster.stored(other.home) == want
        parts.close()
        rollbacks = [c for c in admin.commands if c["verb"] == "ROLLBACK"]
        assert len({c["id"] for c in rollbacks}) == 1
        assert int(rollbacks[-1]["fence"]) > 0
    finally:
        other_admin.close()
        for monitor in monitors:
            if monitor.process is not None and monitor.process.poll() is None:
                monitor.kill()


def test_a_monitor_that_comes_back_goes_on_from_its_own_file(
    cluster: Cluster, admin: Admin
) -> None:
    traffic = cluster.traffic(rows_per_block=60)
    monitor = cluster.monitor(cluster.home("a"), admin)
    monitor.start()
    try:
        traffic.run(10)
        wait_for("it has read", lambda: rows_of(monitor) > 0)
        monitor.kill()
        traffic.run(10)
        monitor.start()
        wait_for("it has read on", lambda: rows_of(monitor) == 60 * 18)
        state = monitor.state()
        assert state is not None
        found = next(p for p in state["kafka"]["partitions"] if p["number"] == cluster.number)
        assert found["from"] == "its own file"
        assert found["lag_s"] > 0
        assert state["kafka"]["label_keys"]
        assert b"driftgate_monitor_partition_epoch" in monitor.get("/metrics")[1]
    finally:
        monitor.stop()
    # Handed over at its end: anybody may see what it has taken account of.
    sent = sum(
        stored.record.rows
        for stored in scan(cluster.log, cluster.log.end())
        if stored.record.kind is RecordKind.DATA and stored.record.stream == PREDICTIONS
    )
    consumed = consumed_rows(cluster.address, cluster.kafka)
    assert set(consumed) == set(traffic.producers)
    assert sum(consumed.values()) == sent


def test_without_the_gateways_keys_labels_are_unverified_and_that_is_said(
    cluster: Cluster, admin: Admin
) -> None:
    traffic = cluster.traffic(rows_per_block=60)
    monitor = cluster.monitor(cluster.home("a", keys=False), admin)
    monitor.start()
    try:
        traffic.run(10)
        wait_for("it has read", lambda: rows_of(monitor) == 60 * 8)
        state = monitor.state()
        assert state is not None
        assert not state["kafka"]["label_keys"]
        assert set(state["models"][MODEL]["labels"]) == {"unverified"}
        assert "labels cannot be verified" in monitor.said()
    finally:
        monitor.stop()


def test_poison_goes_to_the_dead_letters_and_the_partition_goes_on(
    cluster: Cluster, admin: Admin
) -> None:
    traffic = cluster.traffic(rows_per_block=60)
    traffic.run(5)
    send_poison(cluster, 500)
    traffic.run(5)
    monitor = cluster.monitor(cluster.home("a"), admin)
    monitor.start()
    try:
        wait_for("it has read all", lambda: rows_of(monitor) == 60 * 8)
        state = wait_for("it says so", lambda: poisoned(monitor, 500))
        assert state["models"][MODEL]["verdict"] == "blind"
        assert state["models"][MODEL]["seen_share"] < 0.95
    finally:
        monitor.stop()
    letters = read_topic(cluster.address, cluster.topics.dead_letters)
    assert len(letters) == 500
    headers = {name: value.decode() for name, value in letters[0].headers}
    assert headers["dlq.topic"] == cluster.topics.predictions
    assert headers["dlq.partition"] == str(cluster.number)
    offsets = sorted(int(dict(letter.headers)["dlq.offset"]) for letter in letters)
    assert offsets == list(range(offsets[0], offsets[0] + 500))
    assert "header" in headers["dlq.reason"]
    assert letters[0].value == b"poison"


@pytest.mark.ci
def test_of_several_models_each_has_one_owner_who_alone_acts_on_it(cluster: Cluster) -> None:
    admins = [Admin(), Admin()]
    monitors = [
        cluster.monitor(cluster.home(name), admin) for name, admin in zip("ab", admins, strict=True)
    ]
    candidates = [f"model-{number}" for number in range(100)]
    names = [
        name
        for partition in range(3)
        for name in [it for it in candidates if number_of(it) == partition][:2]
    ]
    worse = names[::2]  # of their candidates
    for name in names:
        cluster.first.add_model(name, GOOD, BAD)
        digests = cluster.first.digests_of[name]
        for admin in admins:
            admin.deployments[name] = {
                "model": name, "generation": "7", "phase": "PROGRESSING", "weight": 20,
                "rollout": "r1", "stable": {"digest": digests["1"]},
                "candidate": {"digest": digests["2"]},
                "changed_ns": str(START_NS + 15 * BLOCK_NS),
            }  # fmt: skip
    traffics = [
        cluster.traffic(model=name, seed=number, rows_per_block=60, producers=(f"{number:05x}a",))
        for number, name in enumerate(names)
    ]
    try:
        for monitor in monitors:
            monitor.start()
        wait_for("they share the partitions", lambda: shared(monitors))
        for block in range(60):
            for traffic in traffics:
                if block == 15 and traffic.model in worse:
                    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.2, "r1"
                traffic.step()
        for traffic in traffics:
            traffic.end()
        wait_for("all is judged", lambda: verdicts(monitors).keys() == set(names))
        wait_for(
            "the worse candidates are rolled back",
            lambda: {c["model"] for admin in admins for c in rollbacks(admin)} == set(worse),
        )
        wait_for("all is read", lambda: set(all_rows(monitors).values()) == {60 * 58})
        found = verdicts(monitors)
        assert {name for name, verdict in found.items() if verdict == "rollback"} == set(worse)
        assert {found[name] for name in set(names) - set(worse)} == {"healthy"}
        for monitor, admin in zip(monitors, admins, strict=True):
            mine, state = partitions_of(monitor), monitor.state()
            assert state is not None
            assert set(state["models"]) == {name for name in names if number_of(name) in mine}
            assert {command["model"] for command in admin.commands} <= set(state["models"])
        assert all(
            len({c["id"] for c in rollbacks(admin)}) == len(rollbacks(admin)) for admin in admins
        )
        assert [monitor.stop() for monitor in monitors] == [0, 0]
    finally:
        for admin in admins:
            admin.close()
        for monitor in monitors:
            if monitor.process is not None and monitor.process.poll() is None:
                monitor.kill()


def number_of(model: str) -> int:
    return partition_of(model, 3)


def shared(monitors: list[Process]) -> bool:
    owned = [partitions_of(monitor) for monitor in monitors]
    return all(owned) and sorted(number for mine in owned for number in mine) == [0, 1, 2]


def verdicts(monitors: list[Process]) -> dict[str, str]:
    return {name: model["verdict"] for name, model in all_models(monitors)}


def all_rows(monitors: list[Process]) -> dict[str, int]:
    return {name: model["rows"] for name, model in all_models(monitors)}


def all_models(monitors: list[Process]) -> list[tuple[str, dict[str, Any]]]:
    states = [monitor.state() or {"models": {}} for monitor in monitors]
    return [item for state in states for item in state["models"].items()]


def rollbacks(admin: Admin) -> list[dict[str, Any]]:
    return [command for command in list(admin.commands) if command["verb"] == "ROLLBACK"]


def poisoned(monitor: Process, count: int) -> dict[str, Any] | None:
    state = monitor.state()
    return state if state and state["kafka"]["dead_letters"] == count else None


def send_poison(cluster: Cluster, count: int) -> None:
    loop, sender = EventLoop("poison"), Sender(cluster.address, cluster.kafka)
    message = Message(None, b"poison", (), 1)
    messages = [Addressed(cluster.topics.predictions, cluster.number, message)] * count
    loop.submit(sender.send_messages(messages)).result(60)
    loop.end(lambda: sender.close(2), 3)


def test_an_owner_learns_that_it_is_none_before_it_acts(cluster: Cluster) -> None:
    topics = [
        HandoverTopic(cluster.address, cluster.kafka, cluster.topics.monitor) for _ in range(2)
    ]
    try:
        old = Ownership(topics[0], 1, "old")
        old.confirm()
        new = Ownership(topics[1], 1, "new")
        assert new.fence > old.fence
        new.confirm()
        with pytest.raises(NotOwner):
            old.confirm()
        assert old.lost
        new.confirm()
    finally:
        for topic in topics:
            topic.close()


def test_a_lookup_that_fails_in_the_middle_of_a_block_spoils_nothing(
    cluster: Cluster, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block's labels were taken in part: it is closed anew, from what was stored."""
    failures = 0

    class Failing(KafkaLog):
        def locate(self, producer: str, sequence: int, ts_ms: int) -> StoredRecord | None:
            nonlocal failures
            if sequence % 17 == 5 and failures < 3:
                failures += 1
                raise Unavailable("kafka cannot be read: gone")
            return super().locate(producer, sequence, ts_ms)

    monkeypatch.setattr(group_monitor, "KafkaLog", Failing)
    monkeypatch.setattr(RowFinder, "_cached", lambda *_: None)
    monkeypatch.setattr(group_monitor, "OPEN_AGAIN_S", 0.1)
    traffic = cluster.traffic(rows_per_block=60)
    traffic.run(20)
    traffic.end()
    home, stop = cluster.home("a"), threading.Event()
    monitor = cluster.monitor(home, admin)
    published, settings = Published(), read_settings(monitor.document["monitor"])
    world = World(monitor.document, settings, home.path, home.path / "monitor", published)
    running = open_group_monitor(world)

    def watch() -> None:
        running.run(stop)
        running.close()

    thread = threading.Thread(target=watch)
    thread.start()
    parts = cluster.uninterrupted()
    try:
        wait_for("lookups have failed", lambda: failures == 3)
        wait_for("it owns the partition", lambda: cluster.stored(home))
        cluster.settled(home, parts.engine.to_bytes())
        assert published.snapshot.overall["kafka"]["failure"] == ""
    finally:
        stop.set()
        thread.join()
        parts.close()


@pytest.mark.ci
def test_verdicts_over_kafka_come_out_again_beside_the_monitor(
    cluster: Cluster, admin: Admin, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic, home = cluster.traffic(rows_per_block=60), cluster.home("a")
    monitor = cluster.monitor(home, admin).start()
    options = {
        "log-kafka": cluster.address,
        "kafka-namespace": cluster.kafka.namespace,
        "kafka-partitions": cluster.kafka.partitions,
        **{
            f"monitor-{name.replace('_', '-')}": getattr(SETTINGS, name)
            for name in ("tolerance", "loss_tolerance", "rows_min", "window_blocks")
        },
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    try:
        wait_for("it owns all", lambda: len(partitions_of(monitor)) == 3)
        traffic.run(10)
        traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.4, "r1"
        traffic.run(40)
        wait_for("it has judged", lambda: said_of(home, cluster, "rollback"))
        code = main(["monitor", "replay", "--state-dir", str(home.path), *flags, "-o", "json"])
    finally:
        assert monitor.stop() == 0
    document = json.loads(capsys.readouterr().out)
    assert code == 0, document
    assert "rollback" in {item["kind"] for item in document["verdicts"]}
    assert {item["fate"] for item in document["verdicts"]} == {"same"}
    assert document["states"] == {MODEL: "same"}


def said_of(home: Home, cluster: Cluster, kind: str) -> bool:
    """Whether a verdict of this kind is stored."""
    path = home.path / "monitor" / "partitions" / str(cluster.number) / "monitor.db"
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT data FROM verdicts").fetchall()
    return any(json.loads(data)["kind"] == kind for (data,) in rows)
