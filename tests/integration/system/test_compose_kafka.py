"""Kafka as the compose file sets it up, by the start-up code of its own image.

The image makes its settings of the container's environment; that code is in Kafka's jars.
Here they are made the same way, but for addresses and folders, and the system runs on them.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from driftgate.story.models import ensure_first_version
from driftgate.story.system import wait_for
from tests.broker.broker import CLUSTER, JVM, Broker, jars
from tests.broker.topics import settings_for_test
from tests.conftest import ROOT
from tests.system_on_kafka import OnKafka

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"


def settings_of_image(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """What the image would write to server.properties."""
    places = {name: folder / name for name in ("default", "mounted", "final")}
    for place in places.values():
        place.mkdir(parents=True)
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (places["default"] / name).touch()  # the image's own are not used where variables are set
    command = ["java", *JVM, "-cp", f"{jars()}/*", "kafka.docker.KafkaDockerWrapper", "setup"]
    options = [word for name in places for word in (f"--{name}-configs-dir", name)]
    done = subprocess.run(
        [*command, *options],
        cwd=folder,
        env={**os.environ, **environment, "CLUSTER_ID": CLUSTER},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = (places["final"] / "server.properties").read_text()
    lines = [line.partition("=") for line in written.splitlines() if line]
    return {name: value for name, _, value in lines}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("compose")
    broker = Broker(folder / "broker", listeners={"INSIDE": "PLAINTEXT"})
    environment = yaml.safe_load(COMPOSE.read_text())["services"]["kafka"]["environment"]
    ports = {"9092": broker.port, "9093": broker.controller_port, "19092": broker.ports["INSIDE"]}
    for name in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_CONTROLLER_QUORUM_VOTERS"):
        here = []
        for address in environment[name].split(","):
            before, _, port = address.rpartition(":")
            before = before.removesuffix("kafka").removesuffix("localhost")
            here.append(f"{before}127.0.0.1:{ports[port]}")
        environment[name] = ",".join(here)
    environment["KAFKA_LOG_DIRS"] = str(broker.folder / "data")
    broker.settings = settings_of_image(folder / "image", environment)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.mark.parametrize("listener", ["OUTSIDE", "INSIDE"])
def test_topics_are_made_and_predictions_arrive(
    tmp_path: Path, broker: Broker, listener: str
) -> None:
    """OUTSIDE is for programs on the machine itself, INSIDE for those in the other containers."""
    address = broker.address if listener == "OUTSIDE" else broker.address_of("INSIDE")
    system = OnKafka(tmp_path / "state", 500.0, address=address, kafka=settings_for_test())
    with system:
        ensure_first_version(system.registry_dir)
        system.command("log", "init")
        system.start()
        system.send_traffic()
        wait_for("predictions are in Kafka", lambda: system.delivered() > 500, 120)
        system.end_traffic()
        assert system.failed_requests() == 0
