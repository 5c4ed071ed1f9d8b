"""Labels that an application writes to Kafka, on their whole way to the monitor's counts."""

import json
import random
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from driftgate.story.models import ensure_first_version
from driftgate.story.system import wait_for
from driftgate.story.training import INPUT, MODEL
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from tests.broker.topics import read_topic, run, settings_for_test
from tests.conftest import ROOT
from tests.kills import kill_one
from tests.label_gateway import ALIEN, ids
from tests.system_on_kafka import OnKafka

PATIENCE_S = 90.0
ROWS = 40


def predicted(system: OnKafka) -> str:
    """The id of a request of ROWS rows."""
    tensor = {"name": INPUT, "datatype": "FP32", "shape": [ROWS, 64], "data": [1.0] * (ROWS * 64)}
    url = f"http://127.0.0.1:{system.ports.http}/v2/models/{MODEL}/infer"
    body = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(url, body, timeout=10) as reply:
        prediction_id: str = json.loads(reply.read())["parameters"]["prediction_id"]
        return prediction_id


def write(address: str, topic: str, documents: list[Any]) -> None:
    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        try:
            for document in documents:
                value = document if isinstance(document, bytes) else json.dumps(document).encode()
                await producer.send_and_wait(topic, value, MODEL.encode())
        finally:
            await producer.stop()

    run(send())


def fates(system: OnKafka) -> dict[str, int]:
    found: dict[str, int] = system.monitor()["models"].get(MODEL, {}).get("labels", {})
    return found


def test_labels_from_a_topic_are_joined_and_every_other_one_is_accounted_for(
    kafka: str, tmp_path: Path
) -> None:
    settings = settings_for_test()
    settings = replace(settings, labels_topic=f"{settings.namespace}.truth")
    more = {"DRIFTGATE_KAFKA__LABELS_TOPIC": settings.labels_topic}
    (tmp_path / "state").mkdir()
    with OnKafka(tmp_path / "state", 0, address=kafka, kafka=settings, more=more) as system:
        ensure_first_version(system.registry_dir)
        made = {item["topic"]: item for item in system.command("log", "init")["topics"]}
        assert settings.labels_topic in made
        system.start()
        request = predicted(system)
        by_the_example(kafka, settings, request)
        good = [{"prediction_id": f"{request}.{row}", "label": 3} for row in range(2, 10)]
        write(
            kafka,
            settings.labels_topic,
            [
                {"model": MODEL, "source": "test", "labels": good},
                good[0],  # again
                {**good[1], "label": 4},  # something else
                {"prediction_id": f"{request}.{10**6}", "label": 3},  # no such row
                {"prediction_id": ids(1, ALIEN)[0], "label": 3},
                b"no JSON",
            ],
        )
        wanted = {"joined": 10, "duplicate": 1, "contradiction": 1, "orphan": 1}
        wait_for(f"the monitor counts {wanted}", lambda: fates(system) == wanted, PATIENCE_S)
        wait_for(
            "two are refused",
            lambda: (
                system.metric("driftgate_shipper_label_messages_total", 'outcome="refused"') == 2
            ),
            PATIENCE_S,
        )
        assert system.metric("driftgate_shipper_labels_total") == 13
        assert system.metric("driftgate_shipper_labels_up") == 1
        assert system.metric("driftgate_labels_total", 'outcome="taken"') == 13
        assert system._up is not None
        kill_one(random.Random(0), system._up.pid, ["shipper"])
        rest = [{"prediction_id": f"{request}.{row}", "label": 3} for row in range(10, ROWS)]
        write(kafka, settings.labels_topic, rest)
        wait_for("none is lost", lambda: fates(system).get("joined") == ROWS, PATIENCE_S)
        assert system.status()["degraded"] == []
    letters = read_topic(kafka, Topics(settings.namespace).dead_letters)
    reasons = sorted(dict(message.headers)["dlq.reason"].decode() for message in letters)
    assert len(reasons) == 2
    assert "it is not JSON" in reasons[0]
    assert "was not issued here" in reasons[1]


def by_the_example(address: str, settings: KafkaSettings, request: str) -> None:
    script = ROOT / "docs" / "examples" / "send_labels.py"
    pairs = [f"{request}.0=3", f"{request}.1=3"]
    command = [sys.executable, script, address, settings.labels_topic, MODEL, *pairs]
    subprocess.run(command, check=True, timeout=60)
