"""The broker is gone for a while: what was spooled meanwhile is shipped, and stops are in time."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import wait_for
from eventlog.kafka.figures import Figures, read_figures
from tests.broker.broker import Broker, running_broker
from tests.broker.topics import settings_for_test
from tests.system_on_kafka import OnKafka

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
ROWS_PER_S = 2000.0
AWAY_S = 60.0
STOP_S = 60.0  # `up` gives each of its three processes 20 s


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def system(tmp_path: Path, broker: Broker) -> Iterator[OnKafka]:
    (tmp_path / "state").mkdir()
    kafka = settings_for_test()
    found = OnKafka(tmp_path / "state", ROWS_PER_S, address=broker.address, kafka=kafka)
    with found:
        ensure_first_version(found.registry_dir)
        found.command("log", "init")
        yield found


def figures(system: OnKafka) -> Figures:
    found = read_figures(system.state_dir / "run")
    assert found is not None
    return found


def spooled(system: OnKafka) -> int:
    return sum(line["spooled"] for line in system.ledger())


def stop_in_time(system: OnKafka) -> None:
    began = time.monotonic()
    system.stop()
    assert system._up is not None
    assert system._up.returncode == 0
    seconds = time.monotonic() - began
    print(f"stopped in {seconds:.1f} s")
    assert seconds < STOP_S
    assert "Killed" not in system.log_path.read_text()


def assert_nothing_is_missing(system: OnKafka) -> None:
    verified = system.command("log", "stats", "--verify")["verified"]["total"]
    assert verified["missing"] == verified["spooled"] == verified["expired"] == 0, verified
    assert verified["acknowledged"] == verified["found"]
    assert verified["gaps"] == {}


def test_rows_that_were_spooled_meanwhile_are_all_shipped(system: OnKafka, broker: Broker) -> None:
    system.start()
    system.send_traffic()
    wait_for("rows are shipped", lambda: system.delivered() > 2 * ROWS_PER_S, 60)
    broker.kill()
    time.sleep(AWAY_S)
    shipped, waiting = system.delivered(), spooled(system)
    assert waiting > AWAY_S * ROWS_PER_S / 2  # a slow machine sends fewer
    assert system.failed_requests() == 0
    ingest = rate(system)
    broker.start()
    wait_for("it is shipped to again", lambda: figures(system).lag_rows < waiting, 120)
    began, before = time.monotonic(), figures(system)
    wait_for("it has caught up", lambda: figures(system).lag_rows < ROWS_PER_S, 120)
    seconds, after = time.monotonic() - began, figures(system)
    print(
        f"{waiting} rows waited; {after.rows - before.rows} rows shipped in {seconds:.1f} s, "
        f"{(after.rows - before.rows) / seconds:.0f} a second, at {ingest:.0f} a second coming in"
    )
    system.end_traffic(labels_may_fail=True)
    assert system.failed_requests() == 0
    system.until_drained()
    stop_in_time(system)
    assert system.delivered() >= shipped + waiting
    assert_nothing_is_missing(system)


def rate(system: OnKafka, seconds: float = 5.0) -> float:
    """Rows a second that are numbered now."""
    began, before = time.monotonic(), system.numbered()
    time.sleep(seconds)
    after = system.numbered()
    return (after - before) / (time.monotonic() - began)


@pytest.mark.parametrize("fault", ["killed", "frozen"])
def test_told_to_stop_meanwhile_all_of_it_ends_and_starts_again_and_loses_nothing(
    system: OnKafka, broker: Broker, fault: str
) -> None:
    system.start()
    system.send_traffic()
    wait_for("rows are shipped", lambda: system.delivered() > ROWS_PER_S, 60)
    if fault == "killed":
        broker.kill()
    else:
        broker.freeze()
    wait_for("rows wait", lambda: spooled(system) > ROWS_PER_S, 60)
    wait_for("it says so", lambda: system.metric("driftgate_shipper_up") == 0, 120)
    system.end_traffic(labels_may_fail=True)
    assert system.failed_requests() == 0
    stop_in_time(system)
    lines = system.ledger()
    assert all(line["unexplained"] == 0 for line in lines), lines
    waiting = spooled(system)
    assert waiting > ROWS_PER_S

    system.start_without_kafka()
    assert spooled(system) == waiting
    stop_in_time(system)
    if fault == "killed":
        broker.start()
    else:
        broker.thaw()
    system.start()
    system.until_drained()
    stop_in_time(system)
    assert_nothing_is_missing(system)
