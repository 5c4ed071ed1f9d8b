"""A user of Kafka is deleted, or gets another password, while everything runs."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import wait_for
from tests.broker.broker import Broker
from tests.broker.scram import MECHANISM, PASSWORD, USER, delete_user, scram_broker, set_password
from tests.broker.topics import make_topics, settings_for_test
from tests.shipping import Producer, ShipperProcess, arrived, eventually
from tests.system_on_kafka import OnKafka

pytestmark = [pytest.mark.ci, pytest.mark.timeout(600)]
SESSION_MS = 3000
REFUSED = "the user name or password was refused"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with scram_broker(tmp_path / "broker", SESSION_MS) as broker:
        yield broker


@pytest.fixture
def system(tmp_path: Path, broker: Broker) -> Iterator[OnKafka]:
    (tmp_path / "password").write_text(PASSWORD)
    more = {
        "DRIFTGATE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "DRIFTGATE_KAFKA__SASL_MECHANISM": MECHANISM,
        "DRIFTGATE_KAFKA__USERNAME": USER,
        "DRIFTGATE_KAFKA__PASSWORD_FILE": str(tmp_path / "password"),
    }
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    found = OnKafka(
        state_dir, 300.0, address=broker.address_of("SASL"), kafka=settings_for_test(), more=more
    )
    with found:
        ensure_first_version(found.registry_dir)
        found.command("log", "init")
        yield found


def shipper_up(system: OnKafka) -> bool:
    return system.metric("driftgate_shipper_up") == 1


def says_so(system: OnKafka) -> bool:
    degraded = system.status()["degraded"]
    shipper = any(REFUSED in it and "wait in the spool" in it for it in degraded)
    return shipper and not shipper_up(system)


def until_more_is_shipped(system: OnKafka) -> None:
    before = system.delivered()
    wait_for("more is shipped", lambda: system.delivered() > before + 500, 120)


def test_predictions_go_on_the_shipper_says_so_and_goes_on_when_it_may_again(
    system: OnKafka, broker: Broker
) -> None:
    system.start()
    system.send_traffic()
    until_more_is_shipped(system)
    wait_for("all is well", lambda: shipper_up(system), 60)

    delete_user(broker)
    wait_for("it says why nothing is shipped", lambda: says_so(system), 120)
    answered = system.numbered()
    wait_for("predictions go on", lambda: system.numbered() > answered + 1000, 60)
    assert system.failed_requests() == 0
    set_password(broker, PASSWORD)
    until_more_is_shipped(system)
    wait_for("all is well again", lambda: shipper_up(system), 60)

    delete_user(broker)
    wait_for("it says so again", lambda: says_so(system), 120)
    system.end_traffic(labels_may_fail=True)
    assert system.failed_requests() == 0
    began = time.monotonic()
    system.stop()  # within 60 s
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert system._up is not None
    assert system._up.returncode == 0
    for line in system.ledger():
        assert line["unexplained"] == 0, line
    assert sum(line["spooled"] for line in system.ledger()) > 0

    set_password(broker, "another")
    (system.state_dir.parent / "password").write_text("another\n")
    system.start()
    system.until_drained()
    system.stop()
    verified = system.command("log", "stats", "--verify")["verified"]["total"]
    assert verified["missing"] == verified["spooled"] == verified["expired"] == 0
    assert verified["acknowledged"] == verified["found"] + sum(verified["gaps"].values())
    assert verified["gaps"] == {}


def test_a_password_that_is_replaced_in_its_file_is_taken_up_by_a_running_shipper(
    broker: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    settings = settings_for_test(
        security_protocol="SASL_PLAINTEXT", username=USER, password_file=str(file)
    )
    make_topics(broker.address, settings)
    process = ShipperProcess(tmp_path / "state", broker.address_of("SASL"), settings)
    producer = Producer(process.log_dir, "aaaaaa")
    producer.write(20)
    process.start()
    try:
        process.until_shipped({producer.name: producer.rows})
        set_password(broker, "another")
        eventually(lambda: producer.write(1) or REFUSED in process.said, "it says so", 60)
        file.write_text("another")
        producer.write(20)
        process.until_shipped({producer.name: producer.rows})
        assert process.stop() == 0
    finally:
        process.kill()
    producer.crash()
    mine = arrived(broker.address, replace(settings, security_protocol="PLAINTEXT"))[producer.name]
    assert mine.accounted.runs() == ((0, producer.rows),)
