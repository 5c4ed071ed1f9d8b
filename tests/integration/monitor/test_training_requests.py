"""From a verdict of the monitor's process to a request that has arrived, kills and all."""

import base64
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from driftgate.cli import main
from eventlog import LABELS, PREDICTIONS, MemoryLog
from eventlog.settings import KafkaSettings
from monitor.__main__ import CANNOT_START
from monitor.settings import MonitorSettings
from monitor.triggers import dataset as dataset_module
from monitor.triggers.command import CommandTrigger
from monitor.triggers.core.request import make_request, request_id
from monitor.triggers.core.retry import Fate
from monitor.triggers.dataset import LogDatasets, NoDataset
from monitor.triggers.kafka_trigger import KafkaTrigger
from monitor.triggers.settings import RetrainSettings
from tests.broker.topics import make_topics, read_topic, settings_for_test
from tests.monitor_process import Admin, Home, Process, wait_for
from tests.monitor_world import MODEL, START_NS, Traffic, Version
from tests.trigger_receiver import receiver
from tests.unit.monitor.triggers.evidence import EVIDENCE

GOOD = Version("1")
S = 10**9
SETTINGS = MonitorSettings(
    port=0, tolerance=0.05, loss_tolerance=0.03, rows_min=100, lag_max_s=1e12, window_blocks=20
)


@pytest.fixture
def admin() -> Iterator[Admin]:
    found = Admin()
    yield found
    found.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    found = Home(tmp_path / "state", GOOD)
    monkeypatch.setattr("tests.monitor_world.CODEC", found.ids)
    yield found
    found.close()


def drifted(home: Home, blocks: int = 25) -> Traffic:
    """A log in which inputs move and the loss rises, on every version."""
    world = Traffic(MemoryLog(), append=home.append, stable=GOOD)
    world.run(20)
    world.shift, world.harm = 1.0, 0.4
    return world.run(blocks)


@pytest.mark.ci
def test_a_request_arrives_with_its_dataset_though_the_monitor_is_killed_in_between(
    home: Home, admin: Admin
) -> None:
    drifted(home)
    secret = home.path / "secret"
    secret.write_text("whsec_" + base64.b64encode(b"k" * 32).decode())
    with receiver() as there:
        there.answers = [(503, {"Retry-After": "600"}, b"")]
        retrain = RetrainSettings(
            trigger="webhook", url=there.url, secret_file=str(secret), plaintext=True,
            allow_networks=("127.0.0.1",),
        )  # fmt: skip
        process = Process(home, admin, dataclasses.replace(SETTINGS, retrain=retrain)).start()
        wait_for("it was asked once", lambda: there.received)
        process.kill()
        process.start()
        try:
            wait_for("it was asked again", lambda: len(there.received) == 2)
            wait_for("it is done", lambda: [a["state"] for a in actions(process)] == ["done"])
        finally:
            assert process.stop() == 0
    first, second = there.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    data = json.loads(second.body)["data"]
    assert data == json.loads(first.body)["data"]
    assert (data["cause"], data["model"], data["version"]) == ("drift", MODEL, "1")
    dataset = data["dataset"]
    raw = Path(dataset["path"]).read_bytes()
    assert (hashlib.sha256(raw).hexdigest(), len(raw)) == (dataset["sha256"], dataset["bytes"])
    table = pq.read_table(dataset["path"])
    assert table.num_rows == dataset["rows"] > 1000
    assert table.num_rows - table.column("label").null_count == dataset["labelled"] > 1000
    notes = [c["reason"] for c in admin.commands if c["verb"] == "NOTE"]
    assert "a training was asked for (status 200)" in notes


def actions(process: Process) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(process.get(f"/v1/models/{MODEL}/history")[1])[
        "actions"
    ]
    return found


def test_a_monitor_that_could_not_ask_says_so_and_does_not_start(home: Home, admin: Admin) -> None:
    retrain = RetrainSettings(trigger="airflow3", url="https://airflow.example")
    process = Process(home, admin, dataclasses.replace(SETTINGS, retrain=retrain)).start()
    assert process.process is not None
    assert process.process.wait(60) == CANNOT_START
    assert "retrain.parameters lacks dag_id=VALUE" in process.said()


# -- datasets ----------------------------------------------------------------------


def window(seconds: int = 45) -> dict[str, Any]:
    return {"model": MODEL, "window_start_ns": START_NS, "window_end_ns": START_NS + seconds * S}


def test_the_same_request_has_the_same_file_and_the_newest_stay(home: Home, tmp_path: Path) -> None:
    drifted(home, 2)
    folder = tmp_path / "datasets"
    datasets = LogDatasets(home.path, folder, kept=2)
    first = datasets.export("driftgate-a", window())
    os.utime(first.path, (1, 1))
    assert datasets.export("driftgate-a", window(1)) == first
    datasets.export("driftgate-b", window(1))
    datasets.export("driftgate-c", window(1))
    assert sorted(path.name for path in folder.iterdir()) == [
        "driftgate-b.parquet", "driftgate-c.parquet",
    ]  # fmt: skip


def test_a_window_without_rows_has_no_file(home: Home, tmp_path: Path) -> None:
    drifted(home, 2)
    with pytest.raises(NoDataset, match="no predictions match"):
        LogDatasets(home.path, tmp_path / "d", 2).export("driftgate-a", {**window(), "model": "x"})
    assert list((tmp_path / "d").iterdir()) == []


def test_a_disk_that_might_not_hold_it_is_not_written_to(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifted(home, 2)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(dataset_module.shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(NoDataset, match="MiB free"):
        LogDatasets(home.path, tmp_path / "d", 2).export("driftgate-a", window())
    monkeypatch.setattr(dataset_module.shutil, "disk_usage", shutil.disk_usage)


def test_a_command_is_told_of_its_dataset(home: Home, tmp_path: Path) -> None:
    drifted(home, 2)
    made = LogDatasets(home.path, tmp_path / "d", 2).export("driftgate-a", window())
    program = (
        "import json, os, sys; d = json.load(sys.stdin)['dataset']; "
        "assert d['path'] == os.environ['DRIFTGATE_DATASET']; print(d['sha256'], "
        "os.environ['DRIFTGATE_DATASET_SHA256'], os.environ['DRIFTGATE_REQUEST_ID'])"
    )
    trigger = CommandTrigger((sys.executable, "-c", program), home.path)
    attempt = trigger.attempt(make_request("k", EVIDENCE, made, ""))
    assert attempt.detail["output"].split() == [made.sha256, made.sha256, request_id("k")]


# -- Kafka -------------------------------------------------------------------------


def test_an_event_is_on_its_topic_keyed_by_the_model(kafka: str) -> None:
    settings = settings_for_test()
    topics = make_topics(kafka, settings)
    trigger = KafkaTrigger(kafka, settings, topics.stream(LABELS), 30.0)
    request = make_request("k", EVIDENCE, None, "off")
    attempt = trigger.attempt(request)
    assert attempt.fate is Fate.DONE, attempt
    (message,) = read_topic(kafka, topics.stream(LABELS))
    assert message.key == b"fraud"
    assert dict(message.headers) == {"content-type": b"application/cloudevents+json"}
    event = json.loads(message.value)
    assert (event["id"], event["data"]) == (request.id, dict(request.document))
    place = f"{message.topic}/{message.partition}/{message.offset}"
    assert attempt.detail == {"place": place}
    assert topics.stream(PREDICTIONS) not in trigger.show(request)


def test_without_a_broker_it_is_asked_again_later() -> None:
    trigger = KafkaTrigger("127.0.0.1:9", KafkaSettings(request_timeout_s=1.0), "t", 2.0)
    started = time.monotonic()
    attempt = trigger.attempt(make_request("k", EVIDENCE, None, "off"))
    assert attempt.fate is Fate.RETRY
    assert "topic t" in attempt.sentence
    assert time.monotonic() - started < 60


# -- doctor ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found", "ok"),
    [
        ((), "dry run", True),
        (("--monitor-retrain-hook", "/no/such/program"), "no program that can be run", False),
        (("--monitor-retrain-hook", sys.executable), "by command", True),
        (("--retrain-trigger", "jenkins"), "needs retrain.url", False),
        (
            ("--retrain-trigger", "http", "--retrain-url", "https://127.0.0.1/"),
            "this machine",
            False,
        ),
        (
            ("--retrain-trigger", "http", "--retrain-url", "https://127.0.0.1/",
             "--retrain-allow-networks", "127.0.0.0/8"),
            "by http",
            True,
        ),
    ],
)  # fmt: skip
def test_doctor_says_whether_a_training_can_be_asked_for(
    tmp_path: Path, capsys: Any, words: tuple[str, ...], found: str, ok: bool
) -> None:
    main(["doctor", "--state-dir", str(tmp_path), "-o", "json", *words])
    (finding,) = [f for f in json.loads(capsys.readouterr().out) if f["check"] == "retrain"]
    assert (finding["ok"], found in finding["found"]) == (ok, True), finding
