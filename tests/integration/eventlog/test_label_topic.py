"""Labels that applications write to a topic: none is lost, whatever is killed or away."""

import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from eventlog.kafka.admin import check_topics, init_topics
from eventlog.kafka.figures import Figures, read_figures
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from loadtests.gateway import free_ports
from tests.broker.broker import running_broker
from tests.broker.topics import read_topic, run, settings_for_test
from tests.label_gateway import CODEC, Gateway, label_gateway
from tests.shipping import ShipperProcess, eventually

PARTITIONS = 3
KILLS, LABELS_A_ROUND = 4, 200


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with label_gateway() as found:
        yield found


def settings_with_labels(address: str, *, make: bool = True, **fields: Any) -> KafkaSettings:
    settings = settings_for_test(partitions=PARTITIONS, **fields)
    settings = replace(settings, labels_topic=f"{settings.namespace}.truth")
    run(init_topics(address, settings if make else replace(settings, labels_topic="")))
    return settings


class Truth:
    """Writes labels as an application does; knows what it has written."""

    def __init__(self, address: str, settings: KafkaSettings) -> None:
        self._address, self._topic = address, settings.labels_topic
        self._producer_id = secrets.token_hex(3)
        self.ids: list[str] = []

    def labels(self, count: int) -> list[bytes]:
        """Messages of one label each, all of different rows."""
        now_ms, first = int(time.time() * 1000), len(self.ids)
        self.ids += [CODEC.encode(now_ms, self._producer_id, first + i) for i in range(count)]
        return [
            json.dumps({"model": "m", "prediction_id": item, "label": 1}).encode()
            for item in self.ids[first:]
        ]

    def write(
        self, values: Sequence[bytes | None], partition: int | None = None, **how: Any
    ) -> None:
        """partition: None: one after the other."""

        async def send() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self._address, **how)
            await producer.start()
            try:
                for index, value in enumerate(values):
                    number = index % PARTITIONS if partition is None else partition
                    await producer.send(self._topic, value, b"m", partition=number)
                await producer.flush()
            finally:
                await producer.stop()

        run(send())

    def write_and_abort(self, values: Sequence[bytes]) -> None:
        async def send() -> None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._address, transactional_id=self._producer_id
            )
            await producer.start()
            try:
                await producer.begin_transaction()
                for value in values:
                    await producer.send_and_wait(self._topic, value, partition=0)
                await producer.abort_transaction()
            finally:
                await producer.stop()

        run(send())


def figures(process: ShipperProcess) -> Figures:
    return read_figures(process.state_dir / "run") or Figures()


def taken(*gateways: Gateway) -> list[str]:
    return [label.prediction_id for found in gateways for label in list(found.labels)]


def until_all_taken(truth: Truth, *gateways: Gateway, said: Callable[[], str] = str) -> None:
    wanted = set(truth.ids)
    try:
        eventually(lambda: set(taken(*gateways)) >= wanted, f"all {len(wanted)} labels")
    except AssertionError:
        print(f"missing: {sorted(wanted - set(taken(*gateways)))[:10]}; {said()[-2000:]}")
        raise


def letters(address: str, settings: KafkaSettings) -> list[dict[str, Any]]:
    return [
        {name: value.decode() for name, value in message.headers} | {"value": message.value}
        for message in read_topic(address, Topics(settings.namespace).dead_letters)
    ]


def test_labels_of_all_forms_are_taken_once_and_bad_ones_are_dead_letters(
    kafka: str, tmp_path: Path, gateway: Gateway
) -> None:
    settings = settings_with_labels(kafka)
    truth = Truth(kafka, settings)
    truth.write(truth.labels(20))  # before anybody reads
    process = ShipperProcess(tmp_path / "state", kafka, settings, gateway.url).start()
    try:
        until_all_taken(truth, gateway, said=lambda: process.said)
        truth.write_and_abort(truth.labels(3))
        del truth.ids[-3:]
        bad: list[bytes | None] = [b"{", None, b'{"model": "x", "prediction_id": "a", "label": 1}']
        large = json.dumps({"model": "m", "note": "x" * 900_000, "labels": 3}).encode()
        with_one_bad = json.dumps(
            {"model": "m", "labels": [{"prediction_id": truth.ids[0], "label": "?"}, {}]}
        ).encode()
        truth.write([*bad, large, with_one_bad], partition=1)
        truth.write(truth.labels(5), partition=1, compression_type="gzip")
        batch = [json.loads(item) for item in truth.labels(50)]
        truth.write([json.dumps({"model": "m", "source": "nightly", "labels": batch}).encode()])
        until_all_taken(truth, gateway, said=lambda: process.said)
        eventually(lambda: figures(process).labels == 75, "they are counted")
        eventually(lambda: figures(process).labels_lag == 0, "nothing waits")
    finally:
        assert process.stop() == 0
    assert sorted(taken(gateway)) == sorted(truth.ids)
    found = letters(kafka, settings)
    assert {item["dlq.topic"] for item in found} == {settings.labels_topic}
    assert {item["dlq.partition"] for item in found} == {"1"}
    offsets = sorted(int(item["dlq.offset"]) for item in found)
    assert [offset - offsets[0] for offset in offsets] == list(range(5))
    reasons = " ".join(item["dlq.reason"] for item in found)
    for words in ("not JSON", "is empty", "unknown model x", "is not an array", "label 1:"):
        assert words in reasons
    end = figures(process)
    assert (end.labels_refused, end.labels_dropped, end.labels_expired) == (5, 0, 0)
    assert end.labels_away == ""


@pytest.mark.parametrize("kills", [KILLS, pytest.param(30, marks=pytest.mark.ci)])
def test_killed_again_and_again_it_loses_none(
    kafka: str, tmp_path: Path, gateway: Gateway, kills: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    settings = settings_with_labels(kafka)
    truth = Truth(kafka, settings)
    process = ShipperProcess(tmp_path / "state", kafka, settings, gateway.url)
    try:
        for _ in range(kills):
            process.start()
            truth.write(truth.labels(LABELS_A_ROUND))
            time.sleep(chance.uniform(0.5, 2.0))
            process.kill()
        process.start()
        until_all_taken(truth, gateway, said=lambda: process.said)
        assert process.stop() == 0
    finally:
        process.kill()
    assert letters(kafka, settings) == []


def test_shippers_share_the_topic_and_take_over_from_each_other(
    kafka: str, tmp_path: Path, gateway: Gateway
) -> None:
    settings = settings_with_labels(kafka)
    truth = Truth(kafka, settings)
    with label_gateway() as other:
        processes = [
            ShipperProcess(tmp_path / name, kafka, settings, found.url)
            for name, found in (("a", gateway), ("b", other))
        ]
        try:
            processes[0].start()
            truth.write(truth.labels(30))
            until_all_taken(truth, gateway, said=lambda: processes[0].said)
            processes[1].start()

            def both() -> bool:
                truth.write(truth.labels(PARTITIONS))
                until_all_taken(truth, gateway, other)
                return bool(other.labels)

            eventually(both, "the second has its share")
            processes[0].kill()
            truth.write(truth.labels(30))
            until_all_taken(truth, gateway, other, said=lambda: processes[1].said)
            assert processes[1].stop() == 0
        finally:
            for process in processes:
                process.kill()


def test_while_the_gateway_is_away_labels_wait_and_it_is_said_once(
    kafka: str, tmp_path: Path
) -> None:
    settings = settings_with_labels(kafka)
    truth = Truth(kafka, settings)
    (port,) = free_ports(1)
    process = ShipperProcess(tmp_path / "state", kafka, settings, f"http://127.0.0.1:{port}")
    process.start()
    try:
        truth.write(truth.labels(40))
        eventually(lambda: figures(process).labels_away, "it says so")
        truth.write(truth.labels(40))
        eventually(lambda: figures(process).labels_lag == 80, "all of them wait")
        assert "no gateway answers" in figures(process).labels_away
        assert process.said.count("labels wait in Kafka") == 1, process.said
        with label_gateway(port) as gateway:
            until_all_taken(truth, gateway, said=lambda: process.said)
            eventually(lambda: not figures(process).labels_away, "it says that it is over")
            assert sorted(taken(gateway)) == sorted(truth.ids)
        assert "taken from Kafka again" in process.said
        assert process.stop() == 0
    finally:
        process.kill()
    assert letters(kafka, settings) == []


def test_a_topic_that_is_not_there_is_said_once_and_hurts_no_record(
    kafka: str, tmp_path: Path, gateway: Gateway
) -> None:
    settings = settings_with_labels(kafka, make=False)
    (missing,) = run(check_topics(kafka, settings))
    assert missing == f"topic {settings.labels_topic} does not exist; `driftgate log init` makes it"
    process = ShipperProcess(tmp_path / "state", kafka, settings, gateway.url).start()
    try:
        eventually(lambda: "does not exist" in figures(process).labels_away, "it says so")
        assert figures(process).away == ""
        run(init_topics(kafka, settings))
        truth = Truth(kafka, settings)
        truth.write(truth.labels(6))
        until_all_taken(truth, gateway, said=lambda: process.said)
        eventually(lambda: not figures(process).labels_away, "it says that it is over")
        assert process.said.count(f"labels wait in Kafka: {missing}") == 1, process.said
    finally:
        assert process.stop() == 0
    assert run(check_topics(kafka, settings)) == []


def test_labels_that_retention_removed_unread_are_counted(
    kafka: str, tmp_path: Path, gateway: Gateway
) -> None:
    settings = settings_with_labels(kafka)
    truth = Truth(kafka, settings)
    process = ShipperProcess(tmp_path / "state", kafka, settings, gateway.url).start()
    try:
        truth.write(truth.labels(4), partition=0)
        until_all_taken(truth, gateway, said=lambda: process.said)
        eventually(lambda: figures(process).labels == 4, "they are counted")
        assert process.stop() == 0
        truth.write(truth.labels(7), partition=0)
        run(delete_before(kafka, TopicPartition(settings.labels_topic, 0), 9))
        del truth.ids[4:9]
        process.start()
        until_all_taken(truth, gateway, said=lambda: process.said)
        eventually(lambda: figures(process).labels_expired == 5, "the lost ones are counted")
        assert "messages 4 to 8 were removed before they were read" in process.said
        assert process.stop() == 0
    finally:
        process.kill()
    assert sorted(taken(gateway)) == sorted(truth.ids)


async def delete_before(address: str, partition: TopicPartition, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_records({partition: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


@pytest.mark.ci
def test_a_broker_that_goes_and_comes_back_and_a_batch_that_it_damaged(
    tmp_path: Path, gateway: Gateway
) -> None:
    with running_broker(tmp_path / "broker") as broker:
        settings = settings_with_labels(broker.address, request_timeout_s=3.0)
        truth = Truth(broker.address, settings)
        process = ShipperProcess(tmp_path / "state", broker.address, settings, gateway.url).start()
        try:
            truth.write(truth.labels(3), partition=0)
            until_all_taken(truth, gateway, said=lambda: process.said)
            broker.kill()
            eventually(lambda: figures(process).labels_away, "it says that the broker is away")
            broker.start()
            truth.write(truth.labels(3), partition=0)
            until_all_taken(truth, gateway, said=lambda: process.said)
            eventually(lambda: not figures(process).labels_away, "it says that it is over")
            assert process.stop() == 0
            for _ in range(3):  # a batch each
                truth.write(truth.labels(2), partition=0)
            damage(tmp_path / "broker" / "data", settings.labels_topic, truth.ids[8])
            del truth.ids[8:10]
            process.start()
            until_all_taken(truth, gateway, said=lambda: process.said)
            truth.write(truth.labels(2), partition=0)
            until_all_taken(truth, gateway, said=lambda: process.said)
            eventually(lambda: not figures(process).labels_away, "it says that it is over")
            assert process.stop() == 0
        finally:
            process.kill()
        (letter,) = letters(broker.address, settings)
    assert (letter["dlq.partition"], letter["dlq.offset"]) == ("0", "8")
    assert "damaged" in letter["dlq.reason"]
    assert set(taken(gateway)) == set(truth.ids)


def damage(folder: Path, topic: str, text: str) -> None:
    """Turn `text` round where a broker that runs keeps it, in partition 0."""
    (segment,) = folder.glob(f"{topic}-0/*.log")
    content, word = segment.read_bytes(), text.encode()
    assert content.count(word) == 1
    with segment.open("r+b") as file:
        file.seek(content.index(word))
        file.write(word[::-1])
