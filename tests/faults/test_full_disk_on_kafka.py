"""The disk under the spool is full, with nothing faked, while Kafka is away: rows become gaps."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import wait_for
from tests.broker.broker import Broker, running_broker
from tests.broker.topics import settings_for_test
from tests.small_disk import small_disk
from tests.system_on_kafka import OnKafka

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
DISK_BYTES = 24 * 1024 * 1024  # many segments of each worker
FULL_BYTES = 64 * 1024  # what a batch of rows takes


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def system(tmp_path: Path, broker: Broker) -> Iterator[OnKafka]:
    more = {"DRIFTGATE_LOG__SEGMENT_BYTES": str(512 * 1024)}
    state_dir = tmp_path / "state"
    found = OnKafka(state_dir, 2000.0, address=broker.address, kafka=settings_for_test(), more=more)
    with small_disk(state_dir / "log", DISK_BYTES), found:
        ensure_first_version(found.registry_dir)
        found.command("log", "init")
        yield found


def free_bytes(system: OnKafka) -> int:
    disk = os.statvfs(system.state_dir / "log")
    return disk.f_bavail * disk.f_bsize


def lost_rows(system: OnKafka) -> float:
    return system.metric("driftgate_prediction_log_gap_rows_total", '"storage"')


def said_full(system: OnKafka) -> int:
    """How often a worker has said that its rows become gaps; at least once each time."""
    return system.log_path.read_text().count("predictions go on, their rows become gaps")


def answered(system: OnKafka) -> int:
    """Requests; asserts that none has failed."""
    assert system.failed_requests() == 0
    return sum(len(journal.requests) for journal in system.journals)


def test_a_full_disk_costs_rows_of_the_log_and_no_prediction(
    system: OnKafka, broker: Broker
) -> None:
    system.start()
    system.send_traffic()
    wait_for("rows are shipped", lambda: system.delivered() > 2000, 60)
    for time_of_need in range(2):
        lost = lost_rows(system)
        broker.kill()
        wait_for("the disk is full", lambda: free_bytes(system) < FULL_BYTES, 120)
        wait_for("it says so", lambda n=time_of_need: said_full(system) > n, 60)
        before = answered(system)
        wait_for("predictions go on", lambda at=before: answered(system) > at + 500, 60)
        began = time.monotonic()
        broker.start()
        wait_for("there is room again", lambda: free_bytes(system) > DISK_BYTES // 2, 60)
        # The gap record takes a place on the disk too: it is written when there is one.
        wait_for("the gap is recorded", lambda at=lost: lost_rows(system) > at + 500, 60)
        print(f"room again after {time.monotonic() - began:.1f} s")
        settled = system.delivered()
        wait_for("rows are shipped again", lambda at=settled: system.delivered() > at + 5000, 120)
    system.end_traffic(labels_may_fail=True)  # they are taken once they are on the disk
    assert answered(system)
    system.stop()
    assert system._up is not None
    assert system._up.returncode == 0
    system.start()
    system.until_drained()
    system.stop()
    verified = system.command("log", "stats", "--verify")["verified"]
    for line in verified["incarnations"]:
        assert line["missing"] == line["spooled"] == line["expired"] == 0, line
        assert line["acknowledged"] == line["found"] + sum(line["gaps"].values()), line
    total = verified["total"]
    assert set(total["gaps"]) == {"storage"}, total
    print(total)
