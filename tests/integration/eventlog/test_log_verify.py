"""`driftgate log stats --verify`: the whole log is read and held against what was numbered."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eventlog import ConsumedTally, LogSettings, PredictionWriter, SqliteLog, fake_rows
from eventlog.core.record import StoredRecord
from eventlog.kafka.log import KafkaLog
from eventlog.positions import SHIPPER_GROUP, publish_position
from eventlog.retention import enforce_retention
from eventlog.verify import verify_spool, verify_topic
from tests import shipping
from tests.broker.topics import make_topics, settings_for_test
from tests.broker.topics import run as run_async
from tests.integration.eventlog.log_commands import run
from tests.shipping import Producer

A, B = "aaaaaa", "bbbbbb"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path


def consume(directory: Path, group: str, records: int = 10_000) -> list[StoredRecord]:
    log, tally = SqliteLog(directory), ConsumedTally()
    found = log.read({}, records)
    for stored in found:
        tally.add(stored)
    log.close()
    publish_position(directory, group, tally.consumed())
    return found


def verified(state: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = run(state, "stats", "--verify", "-o", "json", *words)
    return code, json.loads(capsys.readouterr().out)["verified"]


def test_a_sound_log_is_verified_also_where_its_beginning_is_gone(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    producers = [Producer(state / "log", name, segment_bytes=30_000) for name in (A, B)]
    for producer in producers:
        producer.write(80)
        producer.end()
    consume(state / "log", "monitor", 60)
    settings = LogSettings(retention_s=1e9, retention_bytes=200_000)
    assert enforce_retention(state / "log", settings, 0)
    code, document = verified(state, capsys)
    assert code == 0
    total = document["total"]
    assert total["earlier"] > 0
    assert total["acknowledged"] == sum(producer.rows for producer in producers)
    assert total["found"] + total["earlier"] + sum(total["gaps"].values()) == total["acknowledged"]


def test_a_log_that_was_read_and_removed_whole_is_sound(state: Path) -> None:
    producer = Producer(state / "log", A)
    producer.write(20)
    producer.end()
    consume(state / "log", "monitor")
    assert enforce_retention(state / "log", LogSettings(retention_s=1e9, retention_bytes=0), 0)
    assert not list((state / "log").glob("*.db"))
    (verdict,) = verify_spool(state / "log", LogSettings(), 0.0)
    assert (verdict.unexplained, verdict.earlier) == (0, producer.rows)


def test_rows_that_are_gone_are_named(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    producer = Producer(state / "log", A, segment_bytes=1)
    producer.write(4)
    producer.end()
    for path in sorted((state / "log").glob("*.db"))[3:]:
        path.unlink()
    assert run(state, "stats", "--verify") == 1
    output = capsys.readouterr()
    assert f"missing of {A}: 60 to 79" in output.out
    assert "20 rows are not accounted for" in output.err


def test_rows_that_are_gone_before_others_are_a_gap_from_then_on(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    producer = Producer(state / "log", A, segment_bytes=1)
    producer.write(4)
    producer.end()
    sorted((state / "log").glob("*.db"))[1].unlink()
    assert run(state, "stats", "--verify") == 1
    assert "20 rows are not accounted for" in capsys.readouterr().err
    assert run(state, "stats", "--verify") == 0
    assert "corrupt=20" in capsys.readouterr().out


def test_rows_on_their_way_are_waited_for(state: Path) -> None:
    writer = PredictionWriter(state / "log", A, LogSettings(flush_ms=100))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            writer.offer(fake_rows(writer.assign(5), 5))
            stop.wait(0.002)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for _ in range(3):
            (verdict,) = verify_spool(state / "log", LogSettings(), 60.0)
            assert verdict.unexplained == 0
    finally:
        stop.set()
        thread.join()
        writer.close(30.0)


class Topic:
    """A spool, and what of it is in Kafka."""

    def __init__(self, address: str, state: Path) -> None:
        self.settings = settings_for_test()
        make_topics(address, self.settings)
        self.address, self.directory = address, state / "log"
        self.log = KafkaLog(address, self.settings)

    def ship(self, records: list[StoredRecord]) -> None:
        self.log.append([stored.record for stored in records])

    def words(self) -> tuple[str, ...]:
        return (
            *("--log-kafka", self.address),
            *("--kafka-namespace", self.settings.namespace),
        )


@pytest.fixture
def topic(kafka: str, state: Path) -> Any:
    made = Topic(kafka, state)
    yield made
    made.log.close()


def test_the_topic_is_held_against_the_slabs(
    topic: Topic, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    producer = Producer(state / "log", A)
    producer.write(60)
    records = consume(state / "log", SHIPPER_GROUP, 50)
    topic.ship(records)
    topic.ship(records[40:])  # a shipper that was killed sends again
    code, document = verified(state, capsys, *topic.words())
    assert code == 0
    (line,) = document["incarnations"]
    assert line["duplicates"] > 0
    assert line["spooled"] > 0
    assert line["found"] + sum(line["gaps"].values()) + line["spooled"] == producer.rows
    producer.crash()


def test_what_was_said_to_be_shipped_and_is_not_there_is_named(
    topic: Topic, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    producer = Producer(state / "log", A)
    producer.write(20)
    records = consume(state / "log", SHIPPER_GROUP)
    lost = records[3].record
    topic.ship([stored for stored in records if stored.record is not lost])
    producer.end()
    consume(state / "log", SHIPPER_GROUP)
    verdicts = verify_topic(
        state / "log", LogSettings(kafka=topic.address), topic.log, patience_s=0.5
    )
    assert [verdict.missing for verdict in verdicts] == [((lost.first_sequence, lost.rows),)]


def test_what_the_topic_has_dropped_by_age_is_not_called_lost(
    topic: Topic, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "START_NS", time.time_ns() + 10**9)  # younger than its slab
    producer = Producer(state / "log", A)
    producer.write(40)
    topic.ship(consume(state / "log", SHIPPER_GROUP))
    end = {name: last for name, last in topic.log.end().items() if name.startswith("pred")}
    drop_first(topic, {name: last // 2 for name, last in end.items()})
    (verdict,) = verify_topic(state / "log", LogSettings(kafka=topic.address), topic.log, 0.5)
    assert verdict.unexplained == 0
    assert 0 < verdict.expired == producer.rows - verdict.found - sum(verdict.gaps.values())
    producer.crash()


def drop_first(topic: Topic, offsets: dict[str, int]) -> None:
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.records_to_delete import RecordsToDelete

    from eventlog.kafka.topics import Topics

    name = Topics(topic.settings.namespace).predictions

    async def drop() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=topic.address)
        await admin.start()
        try:
            await admin.delete_records(
                {
                    TopicPartition(name, int(partition.split("/")[1])): RecordsToDelete(
                        before_offset=last
                    )
                    for partition, last in offsets.items()
                }
            )
        finally:
            await admin.close()

    run_async(drop())
