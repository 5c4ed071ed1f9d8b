"""Three brokers, three replicas, at least two in sync: what is left when some are killed.

The tests take turns with one cluster, and leave it whole.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from eventlog.kafka.admin import check_topics, init_topics
from eventlog.kafka.figures import Figures, read_figures
from eventlog.kafka.topics import Topics, partition_of
from loadtests.arrivals import spaced
from loadtests.bench_log import body
from loadtests.gateway import Gateway, running
from loadtests.model import mlp
from loadtests.open_loop import Outcome, Request, drive, http_request
from serving.admin_client import AdminError
from tests.broker.cluster import Brokers, running_cluster
from tests.broker.topics import run, settings_for_test
from tests.integration.control.conftest import FakeGateway, eventually
from tests.integration.control.shared_gateways import alike, folded_anew, share, shared

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]
PER_S = 300.0
WINDOW_S = 0.5
COMMANDS = 30
SEED = 20261129
DRIFTGATE = (sys.executable, "-m", "driftgate")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as brokers:
        yield brokers


@pytest.fixture
def brokers(cluster: Brokers) -> Iterator[Brokers]:
    yield cluster
    cluster.start()


def command(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [*DRIFTGATE, *words, "-o", "json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_topics_get_three_replicas_and_settings_that_lose_records_are_named(
    brokers: Brokers,
) -> None:
    safe = settings_for_test(partitions=6, replication=3, min_insync_replicas=2)
    where = ("--log-kafka", brokers.address, "--kafka-namespace", safe.namespace)
    asked = ("--kafka-replication", "3", "--kafka-min-insync-replicas", "2")
    made = command("log", "init", *where, *asked)
    assert {topic["did"] for topic in made["topics"]} == {"created"}
    assert run(check_topics(brokers.address, safe)) == []

    alone = settings_for_test(replication=3, min_insync_replicas=1)
    run(init_topics(brokers.address, alone))
    said = run(check_topics(brokers.address, alone))
    assert len(said) == 6
    assert all("has min.insync.replicas 1: what one broker" in sentence for sentence in said)

    single = settings_for_test(replication=1, min_insync_replicas=2)
    run(init_topics(brokers.address, single))
    said = run(check_topics(brokers.address, single))
    assert sum("has one replica: it is gone with its broker" in sentence for sentence in said) == 6
    assert sum("asks for 2 replicas in sync and has 1" in sentence for sentence in said) == 6


class Traffic(threading.Thread):
    """Predictions in an open loop until it is told to end."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port, self._end = port, threading.Event()
        self.windows: list[Outcome] = []

    def run(self) -> None:
        request = Request(http_request("bench", body()))
        while not self._end.is_set():
            self.windows.append(drive(self._port, [request], spaced(PER_S, WINDOW_S)))

    def end(self) -> None:
        self._end.set()
        self.join()

    @property
    def sent(self) -> int:
        return sum(len(window.status) for window in self.windows)

    @property
    def failed(self) -> int:
        return sum(window.failed for window in self.windows)


@contextmanager
def shipping(gateway: Gateway, options: Sequence[str], said: Path) -> Iterator[None]:
    """said: where its output goes."""
    words = [*DRIFTGATE, "ship", "--state-dir", str(gateway.state_dir), *options]
    with said.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_leader_that_is_killed_and_two_brokers_of_three_down_cost_no_row(
    brokers: Brokers, tmp_path: Path
) -> None:
    settings = settings_for_test(replication=3, min_insync_replicas=2)
    run(init_topics(brokers.address, settings))
    said = tmp_path / "shipper.txt"
    options = ("--log-kafka", brokers.address, "--kafka-namespace", settings.namespace)
    options += ("--kafka-request-timeout-s", "3")
    with (
        running(mlp(), workers=1, core=None, options=options) as gateway,
        shipping(gateway, options, said),
    ):

        def figures() -> Figures:
            return read_figures(gateway.state_dir / "run") or Figures()

        traffic = Traffic(gateway.http_port)
        traffic.start()
        eventually(lambda: figures().rows > PER_S, "rows are shipped")

        topic, partition = Topics(settings.namespace).predictions, partition_of("bench", 3)
        leader = brokers.leader(topic, partition)
        leader.kill()
        sent = traffic.sent
        eventually(lambda: figures().rows > sent + PER_S, "a new leader takes rows")
        follower = (set(brokers.others(leader)) - {brokers.leader(topic, partition)}).pop()

        follower.shut_down()
        eventually(lambda: figures().away, "it says that no rows are taken")
        away, sent = figures(), traffic.sent
        eventually(lambda: traffic.sent > sent + PER_S, "predictions go on")
        assert figures().rows == away.rows
        eventually(lambda: figures().lag_rows > PER_S, "rows wait in the spool")

        brokers.start()
        eventually(lambda: not figures().away, "rows are taken again")
        assert f"partition {partition} has 1 of 3 replicas in sync" in said.read_text()
        traffic.end()
        eventually(lambda: figures().lag_rows == 0, "all is shipped")
        p99_ms = max(window.p99_ms for window in traffic.windows)
        print(said.read_text())
        print(f"{traffic.sent} predictions, the slowest window's p99 {p99_ms:.1f} ms")
        assert traffic.failed == 0
        where = ("--state-dir", str(gateway.state_dir), *options)
        total = command("log", "stats", "--verify", *where)["verified"]["total"]
        assert total["acknowledged"] == total["found"] == traffic.sent
        assert total["gaps"] == {}


@pytest.fixture
def pair(brokers: Brokers, tmp_path: Path) -> Iterator[tuple[FakeGateway, FakeGateway]]:
    settings = settings_for_test(
        replication=3, min_insync_replicas=2, control_timeout_s=2.0, control_wait_s=5.0
    )
    run(init_topics(brokers.address, settings))
    one, two = FakeGateway(tmp_path / "one", workers=1), FakeGateway(tmp_path / "two", workers=1)
    for gateway in (one, two):
        share(gateway, brokers.address, settings, one)
    one.push()
    for words in ("two", "three"):
        one.push(words, champion=False)
    try:
        yield one.start(), two.start()
    finally:
        for gateway in (one, two):
            gateway.clean_up()


def until_answered(gateway: FakeGateway, **fields: Any) -> dict[str, Any]:
    """As the command line does: the same command again while nobody knows what became of it."""
    deadline = time.monotonic() + 60.0
    while True:
        try:
            command = {"model": "digits", "origin": "cli", "actor": "ann", **fields}
            return gateway.admin.apply(command, wait_ms=0)
        except AdminError as error:
            if error.status != 503 or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_commands_around_the_death_of_the_control_topics_leader_come_to_one_state(
    brokers: Brokers, pair: tuple[FakeGateway, FakeGateway]
) -> None:
    print(f"seed {SEED}")
    chance, one = random.Random(SEED), pair[0]
    eventually(lambda: alike(*pair), "both have folded the same")
    outcomes: dict[str, int] = {}
    for number in range(COMMANDS):
        if number == COMMANDS // 3:
            leader = brokers.leader(Topics(one.config.kafka.namespace).control)
            leader.kill()
        version = {"version": {"version": chance.choice("123")}}
        verb = chance.choice(["START", "START", "ADVANCE", "HOLD", "ROLLBACK", "ABORT", "RELEASE"])
        fields = {"START": {"steps": [50, 100], "force": True, **version}}.get(verb, {})
        result = until_answered(pair[number % 2], verb=verb, id=f"typed-{number}", **fields)
        outcome = "diverged" if result["diverged"] else f"accepted {result['accepted']}"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(outcomes)
    assert brokers.leader(Topics(one.config.kafka.namespace).control) is not leader
    eventually(lambda: alike(*pair), "both have folded the same")
    assert outcomes["accepted True"] > 0
    folded = asyncio.run(folded_anew(brokers.address, one.config.kafka))
    assert folded == one.deployment()
    print(f"generation {folded['generation']}, {shared(one)['folded_offset'] + 1} entries")
