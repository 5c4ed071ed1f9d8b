"""What KafkaLog does beyond every log's contract, against a real broker."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.structs import TopicPartition

from eventlog import LogClosed, Record, StoredRecord, encode_predictions, fake_rows
from eventlog.core.kafka_message import Message, to_message
from eventlog.core.marks import heartbeat_record
from eventlog.kafka import cluster
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.topics import Topics, partition_of
from eventlog.log import NOWHERE
from eventlog.settings import KafkaSettings
from loadtests.gateway import free_ports
from tests.broker.broker import Broker, running_broker
from tests.broker.topics import make_topics, run, settings_for_test

A, B = "aaaaaa", "bbbbbb"
MS = 1_000_000


def data(first: int, count: int = 1, *, model: str = "m", at_ms: int = 0, by: str = A) -> Record:
    rows = fake_rows(first, count, model=model, ts_ns=at_ms * MS + 1)
    return encode_predictions(rows, by, at_ms * MS)


def read_all(log: KafkaLog, limit: int = 100) -> list[StoredRecord]:
    position: dict[str, int] = {}
    found: list[StoredRecord] = []
    while batch := log.read(position, limit):
        for stored in batch:
            position[stored.partition] = stored.offset
        found += batch
    return found


def send(address: str, topic: str, partition: int, messages: list[Message]) -> None:
    async def produce() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=address)
        await producer.start()
        try:
            for item in messages:
                await producer.send_and_wait(
                    topic,
                    item.value,
                    item.key,
                    partition,
                    item.timestamp_ms,
                    list(item.headers),
                )
        finally:
            await producer.stop()

    run(produce())


async def with_admin(address: str, work: str, *arguments: object) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await getattr(admin, work)(*arguments)
    finally:
        await admin.close()


def test_what_cannot_be_understood_is_reported_and_passed_over(kafka: str) -> None:
    settings = settings_for_test(partitions=1)
    topics = make_topics(kafka, settings)
    good = [to_message(data(first), topics.predictions, "m") for first in (0, 1)]
    foreign = [Message(b"k", b"hello", (), 5), Message(b"k", None, (), 5)]  # type: ignore[arg-type]
    wrong_topic = to_message(data(7), topics.labels, "m")
    send(kafka, topics.predictions, 0, [*foreign, good[0], wrong_topic, good[1], foreign[0]])
    reported: list[tuple[str, int, int, bytes, str]] = []

    def on_poison(topic: str, partition: int, offset: int, message: Message, reason: str) -> None:
        reported.append((topic, partition, offset, message.value, reason))

    with closing(KafkaLog(kafka, settings, on_poison=on_poison)) as log:
        found = read_all(log, limit=1)
        assert [(s.offset, s.record.first_sequence) for s in found] == [(3, 0), (5, 1)]
        assert log.read({"predictions/0": 5}, 10) == []
    assert [(t, p, offset) for t, p, offset, _, _ in reported] == [
        (topics.predictions, 0, offset) for offset in (0, 1, 3, 5)
    ]
    assert [value for _, _, _, value, _ in reported[:2]] == [b"hello", b""]
    assert "header stream is missing" in reported[0][4]
    assert "it was sent to topic" in reported[2][4]


def test_what_retention_removed_is_a_jump_of_offsets(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for_test(partitions=1)
    topics = make_topics(kafka, settings)
    with closing(KafkaLog(kafka, settings)) as log:
        log.append([data(first) for first in range(5)])
        assert [s.offset for s in log.read({}, 2)] == [1, 2]
        gone = {TopicPartition(topics.predictions, 0): RecordsToDelete(before_offset=4)}
        run(with_admin(kafka, "delete_records", gone))
    with closing(KafkaLog(kafka, settings)) as log:
        assert [s.offset for s in log.read({"predictions/0": 2}, 9)] == [5]
        assert log.read({"predictions/0": 5}, 9) == []
        assert log.end() == {"predictions/0": 5, "labels/0": 0}
        assert [s.offset for s in read_all(log)] == [5]
    assert "predictions/0: messages 2 to 3 are gone from Kafka" in caplog.messages
    caplog.clear()


def test_a_topic_that_was_made_anew_is_said_once(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for_test(partitions=1)
    make_topics(kafka, settings)
    with closing(KafkaLog(kafka, settings)) as log:
        log.append([data(0)])
        for _ in range(2):
            assert log.read({"predictions/0": 9}, 9) == []
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("predictions/0 ends before the position of its reader")
    caplog.clear()


def test_partitions_that_are_added_later_are_read(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "METADATA_S", 0.0)
    settings = settings_for_test(partitions=1)
    topics = make_topics(kafka, settings)
    with closing(KafkaLog(kafka, settings)) as log:
        assert log.end() == {"predictions/0": 0, "labels/0": 0}
        run(with_admin(kafka, "create_partitions", {topics.predictions: NewPartitions(3)}))
        record = to_message(data(0), topics.predictions, "m")
        send(kafka, topics.predictions, 2, [record])
        while not (found := log.read({}, 9)):
            pass
        assert [s.partition for s in found] == ["predictions/2"]


def test_only_the_partitions_that_were_asked_for_are_read(kafka: str) -> None:
    settings = settings_for_test()
    make_topics(kafka, settings)
    models = {partition_of(f"m{n}", 3): f"m{n}" for n in range(5)}
    assert sorted(models) == [0, 1, 2]
    with closing(KafkaLog(kafka, settings)) as log:
        log.append([data(n, model=models[n]) for n in range(3)])
        log.append([heartbeat_record(A, 3, 1)])
        assert len(read_all(log)) == 3 + 6
        assert log.locate(A, 0, 0) is not None
    with closing(KafkaLog(kafka, settings, only=[1])) as log:
        assert {s.partition for s in read_all(log)} == {"predictions/1", "labels/1"}
        assert log.end() == {"predictions/1": 2, "labels/1": 1}
        assert log.locate(A, 0, 0) is None
        assert log.locate(A, 1, 0) is not None


def test_a_partition_can_be_left_alone_and_taken_up_again(kafka: str) -> None:
    settings = settings_for_test(partitions=1)
    make_topics(kafka, settings)
    with closing(KafkaLog(kafka, settings)) as log:
        log.append([data(first) for first in range(3)])
        assert [s.offset for s in log.read({}, 2)] == [1, 2]
        assert log.read({"predictions/0": NOWHERE}, 2) == []
        assert [s.offset for s in log.read({"predictions/0": 2}, 2)] == [3]
        assert [s.offset for s in log.read({"predictions/0": 1}, 9)] == [2, 3]  # and back


def test_reading_on_asks_for_nothing_twice(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for_test(partitions=1)
    make_topics(kafka, settings)
    asked: list[dict[TopicPartition, int]] = []
    fetch = cluster.Cluster.fetch

    async def counted(self: cluster.Cluster, positions: dict[TopicPartition, int], *rest: int):  # type: ignore[no-untyped-def]
        asked.append(dict(positions))
        return await fetch(self, positions, *rest)

    monkeypatch.setattr(cluster.Cluster, "fetch", counted)
    with closing(KafkaLog(kafka, settings)) as log:
        log.append([data(first) for first in range(20)])
        assert len(read_all(log, limit=2)) == 20
    predictions = Topics(settings.namespace).predictions
    positions = [p[TopicPartition(predictions, 0)] for p in asked if len(p) == 2]
    assert positions == [0, 20]  # the chunk, and whether there is more


def test_a_row_is_looked_for_from_its_time_on(kafka: str) -> None:
    settings = settings_for_test(partitions=2)
    make_topics(kafka, settings)
    base = 1_700_000_000_000
    with closing(KafkaLog(kafka, settings)) as log:
        for block in range(40):
            log.append(
                [data(block * 5 + n, model=f"m{n}", at_ms=base + block * 1000) for n in range(5)]
            )
        log.append([data(0, 3, at_ms=base + 7000, by=B)])
        for sequence in (0, 99, 199):
            stored = log.locate(A, sequence, base + sequence // 5 * 1000)
            assert stored is not None
            assert stored.record.first_sequence == sequence
        assert log.locate(A, 50, base + 11_000) is None  # it was before that
        assert log.locate(A, 500, base + 7000) is None  # told by the next record of A
        assert log.locate(A, 500, base + 10**6) is None
        found = log.locate(B, 2, base + 7000)
        assert found is not None
        assert found.record.producer == B


def test_a_log_without_topics_is_empty_and_says_why(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for_test()
    with closing(KafkaLog(kafka, settings)) as log:
        assert (log.read({}, 9), log.end(), log.locate(A, 0, 0)) == ([], {}, None)
        assert sorted(caplog.messages) == [
            f"topic {settings.namespace}.{stream}.v1 does not exist; `driftgate log init` makes it"
            for stream in ("labels", "predictions")
        ]
        caplog.clear()
        make_topics(kafka, settings)
        log.append([data(0)])
        while not log.read({}, 9):
            pass


def test_without_kafka_every_call_says_so() -> None:
    settings = settings_for_test(request_timeout_s=0.5)
    with closing(KafkaLog(f"127.0.0.1:{free_ports(1)[0]}", settings)) as log:
        for call in (
            lambda: log.read({}, 9),
            log.end,
            lambda: log.locate(A, 0, 0),
            lambda: log.append([data(0)]),
        ):
            with pytest.raises(Unavailable, match="connection refused"):
                call()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.mark.ci
def test_closing_frees_a_reader_that_waits_for_a_frozen_broker(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for_test(request_timeout_s=300.0)
    make_topics(broker.address, settings)
    log = KafkaLog(broker.address, settings)
    log.append([data(0)])
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            log.end()
        except LogClosed as error:
            failures.append(error)

    broker.freeze()
    try:
        waiting = threading.Thread(target=wait)
        waiting.start()
        log.close()
        waiting.join(60.0)
        assert [type(failure) for failure in failures] == [LogClosed]
    finally:
        broker.thaw()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.ci
def test_reading_goes_on_when_the_broker_is_back(broker: Broker) -> None:
    settings: KafkaSettings = settings_for_test(request_timeout_s=1.0)
    make_topics(broker.address, settings)
    with closing(KafkaLog(broker.address, settings)) as log:
        log.append([data(0), data(1)])
        assert [s.offset for s in log.read({}, 1)] == [1]
        broker.kill()
        with pytest.raises(Unavailable):
            log.end()
        broker.start()

        async def again() -> list[StoredRecord]:
            while True:
                try:
                    return await asyncio.to_thread(log.read, {"predictions/2": 1}, 9)
                except Unavailable:
                    continue

        assert [s.offset for s in run(again())] == [2]
