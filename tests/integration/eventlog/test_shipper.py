"""The shipper: what arrives in Kafka, what it remembers, and what it does without Kafka."""

import asyncio
import errno
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventlog import (
    LogSettings,
    PredictionWriter,
    SqliteLog,
    encode_predictions,
    fake_rows,
    ledger,
    read_position,
    rows_numbered,
)
from eventlog import writer as writer_module
from eventlog.core.kafka_message import Placed
from eventlog.core.record import PREDICTIONS, RecordKind
from eventlog.kafka import ship, shipped
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.figures import read_figures
from eventlog.kafka.sender import Addressed
from eventlog.kafka.ship import Shipper
from eventlog.kafka.topics import Topics, partition_of
from eventlog.positions import MONITOR_GROUP, SHIPPER_GROUP, ConsumedTally, publish_position
from eventlog.settings import KafkaSettings
from loadtests.gateway import free_ports
from tests.broker.broker import Broker, running_broker
from tests.broker.topics import make_topics, read_topic, run, settings_for_test
from tests.shipping import MODELS, Producer, ShipperProcess, arrived, eventually
from tests.small_disk import small_disk

A, B = "aaaaaa", "bbbbbb"


def make_all_topics(address: str, settings: KafkaSettings, **configs: str) -> Topics:
    topics = make_topics(address, settings, **configs)

    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topics.dead_letters, 1, 1)])
        finally:
            await admin.close()

    run(make())
    return topics


class FakeKafka:
    """Takes what is sent, unless `fail` says otherwise."""

    partitions = 2

    def __init__(self, fail: Callable[[], Exception | None] = lambda: None) -> None:
        self.fail, self.placed, self.letters = fail, list[Placed](), list[Addressed]()
        self.closed = False

    async def start(self) -> None:
        if failure := self.fail():
            raise failure

    async def send(self, placed: Sequence[Placed]) -> None:
        if failure := self.fail():
            raise failure
        self.placed += placed

    async def send_messages(self, messages: Sequence[Addressed]) -> None:
        self.letters += messages

    async def close(self, timeout_s: float) -> None:
        self.closed = True


def shipper(tmp_path: Path, outlet: Any, **settings: Any) -> Shipper:
    log_dir, run_dir = tmp_path / "log", tmp_path / "run"
    for folder in (log_dir, run_dir):
        folder.mkdir(exist_ok=True)
    fields = LogSettings(kafka="unused", **settings)
    return Shipper(log_dir, run_dir, outlet, fields, KafkaSettings())


def run_until(made: Shipper, condition: Callable[[], Any]) -> None:
    async def work() -> None:
        async with asyncio.timeout(60):
            running = asyncio.create_task(made.run())
            while not condition() and not running.done():  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.01)
            made.stop()
            await running

    asyncio.run(work())


def numbers(placed: Sequence[Placed], producer: str = A) -> list[int]:
    """First sequences of records with predictions."""
    return [
        item.record.first_sequence
        for item in placed
        if item.record.producer == producer
        and item.record.kind is RecordKind.DATA
        and item.stream == PREDICTIONS
    ]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ship, "BACKOFF_S", (0.01,))
    monkeypatch.setattr(ship, "IDLE_S", 0.01)


def test_everything_arrives_in_order_and_the_books_balance(kafka: str, tmp_path: Path) -> None:
    settings = settings_for_test()
    make_topics(kafka, settings)
    process = ShipperProcess(tmp_path / "state", kafka, settings)
    first = Producer(process.log_dir, A, segment_bytes=50_000)
    second = Producer(process.log_dir, B, segment_bytes=50_000)
    for producer in (first, second):
        producer.write(120)
    second.end()
    process.start()
    try:
        first.write(60)
        process.until_shipped({A: first.rows, B: second.rows})
        eventually(lambda: len(list(process.log_dir.glob("*.db"))) <= 3, "delivered segments go")
        first.end()
    finally:
        assert process.stop() == 0
    found = arrived(kafka, settings)
    for producer in (first, second):
        mine = found[producer.name]
        assert mine.accounted.runs() == ((0, producer.rows),)
        assert mine.labels.runs() == ((0, producer.labels),)
        assert mine.ends == 2 * settings.partitions  # of every partition of both streams
        assert mine.twice == 0
        line = process.lines()[producer.name]
        assert (line.spooled, line.unexplained) == (0, 0)
        assert line.delivered == mine.data.total
        assert line.gaps == {name: gap.total for name, gap in mine.gaps.items()}
    figures = read_figures(tmp_path / "state" / "run")
    assert figures is not None
    assert figures.rows == sum(mine.data.total for mine in found.values())
    assert (figures.lag_rows, figures.away) == (0, "")


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.ci)])
def test_killed_again_and_again_it_loses_nothing(kafka: str, tmp_path: Path, kills: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    settings = settings_for_test(batch_bytes=20_000)
    make_topics(kafka, settings)
    process = ShipperProcess(tmp_path / "state", kafka, settings)
    producers = [Producer(process.log_dir, name, segment_bytes=40_000) for name in (A, B)]
    producers[0].write(300)  # it always finds something to do
    try:
        for _ in range(kills):
            process.start()
            until = time.monotonic() + chance.uniform(0.3, 2.0)
            while time.monotonic() < until:
                chance.choice(producers).write(chance.randint(1, 20))
                time.sleep(chance.uniform(0, 0.02))
            process.kill()
        producers[1].crash()
        process.start()
        process.until_shipped({producer.name: producer.rows for producer in producers})
        assert process.stop() == 0
    finally:
        process.kill()
    found = arrived(kafka, settings)
    for producer in producers:
        mine = found[producer.name]
        assert mine.accounted.runs() == ((0, producer.rows),)
        line = process.lines()[producer.name]
        assert (line.delivered, line.unexplained) == (mine.data.total, 0)


def test_a_record_that_is_too_large_is_a_gap_and_a_dead_letter(kafka: str, tmp_path: Path) -> None:
    settings = settings_for_test(message_bytes_max=60_000)
    topics = make_all_topics(kafka, settings, max_message_bytes="6000")
    process = ShipperProcess(tmp_path / "state", kafka, settings)
    log = SqliteLog(process.log_dir, producer=A)
    noise = np.random.default_rng(0)
    sizes = [10, 1_000, 10, 10_000, 10]  # for Kafka: fits, refused there, fits, beyond ours, fits
    first = 0
    for size in sizes:
        inputs = {"x": noise.random((size, 3), dtype=np.float32)}
        log.append([encode_predictions(fake_rows(first, size, inputs=inputs), A, first)])
        first += size
    process.start()
    try:
        process.until_shipped({A: first})
    finally:
        assert process.stop() == 0
        log.close()
    (line,) = process.lines().values()
    assert (line.delivered, dict(line.gaps)) == (30, {"refused": 11_000})
    mine = arrived(kafka, settings)[A]
    assert mine.data.runs() == ((0, 10), (1010, 10), (11_020, 10))
    assert mine.gaps["refused"].runs() == ((10, 1000), (1020, 10_000))
    letters = [
        {**dict(m.headers), "key": m.key, "value": m.value}
        for m in read_topic(kafka, topics.dead_letters)
    ]
    letters.sort(key=lambda letter: letter["dlq.offset"])
    assert [letter["dlq.offset"] for letter in letters] == [b"2", b"4"]
    assert {letter["dlq.topic"] for letter in letters} == {topics.predictions.encode()}
    assert letters[0]["dlq.partition"] == str(partition_of("m", 3)).encode()
    assert b"max.message.bytes" in letters[0]["dlq.reason"]
    assert b"message_bytes_max" in letters[1]["dlq.reason"]
    assert int(letters[1]["dlq.value_bytes"]) > len(letters[1]["value"])
    assert {letter["producer"] for letter in letters} == {A.encode()}
    figures = read_figures(tmp_path / "state" / "run")
    assert figures is not None
    assert (figures.dead_letters, figures.refused_rows) == (2, 11_000)


def test_told_to_stop_without_a_broker_it_ends_and_the_spool_keeps_all(tmp_path: Path) -> None:
    settings = settings_for_test()
    process = ShipperProcess(tmp_path / "state", f"127.0.0.1:{free_ports(1)[0]}", settings)
    producer = Producer(process.log_dir, A)
    producer.write(30)
    process.start()
    try:
        eventually(lambda: "predictions go on" in process.said, "it says that kafka is away")
        figures = read_figures(tmp_path / "state" / "run")
        assert process.stop() == 0  # within 60 s
    finally:
        process.kill()
    assert figures is not None
    assert process.said.count("\n") == 1, process.said
    producer.end()
    line = process.lines()[A]
    assert line.delivered == line.unexplained == 0
    assert line.spooled + sum(line.gaps.values()) == line.acknowledged == producer.rows


def test_it_names_what_is_dangerous_about_the_topics(kafka: str, tmp_path: Path) -> None:
    settings = settings_for_test()
    make_all_topics(kafka, settings)  # and no control topic
    process = ShipperProcess(tmp_path / "state", kafka, settings).start()
    try:
        eventually(lambda: Topics(settings.namespace).control in process.said, "it has looked")
    finally:
        assert process.stop() == 0


def test_one_state_directory_has_one_shipper(tmp_path: Path) -> None:
    settings = settings_for_test()
    address = f"127.0.0.1:{free_ports(1)[0]}"
    first = ShipperProcess(tmp_path / "state", address, settings).start()
    try:
        eventually((first.log_dir / "positions").exists, "it runs")
        second = ShipperProcess(tmp_path / "state", address, settings).start()
        assert second.process is not None
        assert second.process.wait(60) == 5
        assert "another shipper runs" in second.said
    finally:
        assert first.stop() == 0


def test_the_position_waits_for_kafka(
    tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    def fail() -> Exception | None:
        nonlocal attempts
        attempts += 1
        consumed = read_position(tmp_path / "log", SHIPPER_GROUP)
        assert consumed is not None
        assert not consumed.position
        return Unavailable("kafka cannot be used: gone") if attempts < 6 else None

    (tmp_path / "log").mkdir()
    producer = Producer(tmp_path / "log", A)
    producer.write(10)
    outlet = FakeKafka(fail)
    made = shipper(tmp_path, outlet)
    with caplog.at_level(logging.INFO):
        run_until(made, lambda: outlet.placed)
    assert [r.getMessage() for r in caplog.records] == [
        "kafka cannot be used: gone; predictions go on, their rows wait in the spool",
        "kafka takes records again, after 0 s",
    ]
    assert made.figures.retries == 5
    consumed = read_position(tmp_path / "log", SHIPPER_GROUP)
    assert consumed is not None
    assert consumed.rows(A) == producer.rows
    assert outlet.closed
    producer.crash()


def test_a_batch_is_bounded_in_bytes(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "BATCH_BYTES", 50_000)
    (tmp_path / "log").mkdir()
    producer = Producer(tmp_path / "log", A)
    producer.write(200)
    calls: list[int] = []
    outlet = FakeKafka()
    sending = outlet.send

    async def send(placed: Sequence[Placed]) -> None:
        calls.append(sum(len(item.record.body) for item in placed))
        await sending(placed)

    outlet.send = send  # type: ignore[method-assign]
    made = shipper(tmp_path, outlet)
    run_until(made, lambda: made._shipped.consumed.rows(A) == producer.rows)
    assert len(calls) > 5
    assert max(calls) < 60_000
    producer.crash()


def test_at_first_it_goes_on_where_the_monitor_was(tmp_path: Path, quick: None) -> None:
    (tmp_path / "log").mkdir()
    producer = Producer(tmp_path / "log", A)
    producer.write(10)
    tally, log = ConsumedTally(), SqliteLog(tmp_path / "log")
    for stored in log.read({}, 4):
        tally.add(stored)
    log.close()
    publish_position(tmp_path / "log", MONITOR_GROUP, tally.consumed())
    outlet = FakeKafka()
    made = shipper(tmp_path, outlet)
    run_until(made, lambda: outlet.placed)
    assert min(numbers(outlet.placed)) >= tally.consumed().rows(A)
    assert made._shipped.consumed.rows(A) == producer.rows
    producer.crash()


def test_a_damaged_position_ships_again_what_is_there(
    tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ship, "REMOVE_S", 0.0)
    (tmp_path / "log").mkdir()
    producer = Producer(tmp_path / "log", A, segment_bytes=20_000)
    producer.write(60)
    made = shipper(tmp_path, FakeKafka())
    run_until(made, lambda: made._shipped.consumed.rows(A) == producer.rows)
    (tmp_path / "log" / "positions" / "shipper.json").write_text("{")
    outlet = FakeKafka()
    again = shipper(tmp_path, outlet)
    run_until(again, lambda: again._shipped.consumed.rows(A) == producer.rows)
    assert "shipped again" in caplog.text
    assert 0 < len(numbers(outlet.placed)) < 50
    producer.crash()


def test_a_full_disk_does_not_keep_what_could_go(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position needs a block; what is behind it would free many."""
    monkeypatch.setattr(ship, "REMOVE_S", 0.0)
    (tmp_path / "log").mkdir()
    producer = Producer(tmp_path / "log", A, segment_bytes=20_000)
    producer.write(60)
    reserve = tmp_path / "log" / "shipper.reserve"

    def publish(directory: Path, group: str, consumed: Any, room: Path | None = None) -> None:
        if room is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        publish_position(directory, group, consumed, room)

    reserve.write_bytes(b"")
    made = shipper(tmp_path, FakeKafka())
    before = len(list((tmp_path / "log").glob("*.db")))
    monkeypatch.setattr(shipped, "publish_position", publish)
    run_until(made, lambda: len(list((tmp_path / "log").glob("*.db"))) < before)
    assert reserve.exists()  # for the next time
    producer.crash()


def test_a_disk_that_is_truly_full_is_emptied_by_what_is_shipped(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even SQLite's index of a write-ahead log can be made there, to read one."""
    monkeypatch.setattr(writer_module, "RETRY_S", 0.02)
    away = True
    outlet = FakeKafka(lambda: Unavailable("kafka cannot be used: gone") if away else None)
    with small_disk(tmp_path / "log", 4 * 1024 * 1024):
        settings = LogSettings(flush_ms=2, segment_bytes=300_000)
        writer = PredictionWriter(tmp_path / "log", A, settings)

        def offer() -> PredictionWriter:
            writer.offer(fake_rows(writer.assign(500), 500))
            return writer

        made = shipper(tmp_path, outlet)
        run_until(made, lambda: offer() and "their rows become gaps" in caplog.text)
        time.sleep(0.2)
        away = False
        made = shipper(tmp_path, outlet)
        run_until(made, lambda: offer().gap_rows.get("storage"))
        assert writer.close(30.0)
        made = shipper(tmp_path, outlet)
        numbered = rows_numbered(tmp_path / "log", A)
        run_until(made, lambda: made._shipped.consumed.rows(A) == numbered)
        (line,) = ledger(tmp_path / "log", SHIPPER_GROUP)
    assert (line.spooled, line.unexplained) == (0, 0)
    assert line.gaps.keys() == {"storage"}


def test_a_letter_that_nobody_takes_does_not_hold_up_the_rest(
    tmp_path: Path, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "log").mkdir()
    producer = Producer(tmp_path / "log", A)
    producer.write(10)
    outlet = FakeKafka()
    sending = outlet.send

    async def send(placed: Sequence[Placed]) -> None:
        for index, item in enumerate(placed):
            if item.record.kind is RecordKind.DATA and item.record.first_sequence == 20:
                raise Unsendable(index, "too large", item)
        await sending(placed)

    async def send_messages(messages: Sequence[Addressed]) -> None:
        raise Unavailable("topic x.dlq: a topic does not exist")

    outlet.send, outlet.send_messages = send, send_messages  # type: ignore[method-assign]
    made = shipper(tmp_path, outlet)
    run_until(made, lambda: made._shipped.consumed.rows(A) == producer.rows)
    assert made._shipped.consumed.gaps[A, "refused"] == 20
    assert "a topic does not exist" in caplog.text
    assert made.figures.dead_letters == 0
    producer.crash()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


def hurt(broker: Broker, fault: str) -> Callable[[], None]:
    """Returns what heals it."""
    if fault == "killed":
        broker.kill()
        return broker.start
    broker.freeze()
    return broker.thaw


@pytest.mark.ci
@pytest.mark.parametrize(("fault", "seconds"), [("killed", 20.0), ("frozen", 45.0)])
def test_a_broker_that_is_away_costs_no_row(
    broker: Broker, tmp_path: Path, fault: str, seconds: float
) -> None:
    settings = settings_for_test(request_timeout_s=5.0)
    make_topics(broker.address, settings)
    process = ShipperProcess(tmp_path / "state", broker.address, settings)
    producer = Producer(process.log_dir, A, segment_bytes=50_000)
    producer.write(50)
    process.start()
    try:
        process.until_shipped({A: producer.rows})
        heal = hurt(broker, fault)
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                producer.write(5)
                time.sleep(0.2)
            figures = read_figures(tmp_path / "state" / "run")
        finally:
            heal()
        producer.end()
        process.until_shipped({A: producer.rows})
        assert process.stop() == 0
    finally:
        process.kill()
    assert figures is not None
    assert figures.away
    assert figures.lag_rows > 0
    assert figures.lag_s > 0
    assert process.said.count("predictions go on") == 1, process.said
    assert process.said.count("takes records again") == 1
    assert arrived(broker.address, settings)[A].accounted.runs() == ((0, producer.rows),)


@pytest.mark.ci
def test_told_to_stop_while_the_broker_is_frozen_it_ends(broker: Broker, tmp_path: Path) -> None:
    settings = settings_for_test()
    make_topics(broker.address, settings)
    process = ShipperProcess(tmp_path / "state", broker.address, settings).start()
    producer = Producer(process.log_dir, A)
    producer.write(20)
    try:
        process.until_shipped({A: producer.rows})
        broker.freeze()
        producer.write(20)
        time.sleep(1.0)  # it has begun to send
        assert process.stop() == 0  # a request would wait for 15 s, and twice
    finally:
        broker.thaw()
        process.kill()
    process.start()
    try:
        process.until_shipped({A: producer.rows})
    finally:
        assert process.stop() == 0
    producer.crash()
    assert arrived(broker.address, settings)[A].accounted.runs() == ((0, producer.rows),)


@pytest.mark.ci
def test_a_topic_that_was_deleted_is_shipped_to_once_it_is_made_again(
    broker: Broker, tmp_path: Path
) -> None:
    settings = settings_for_test(request_timeout_s=5.0)
    topics = make_topics(broker.address, settings)
    process = ShipperProcess(tmp_path / "state", broker.address, settings).start()
    producer = Producer(process.log_dir, A)
    producer.write(20)
    before = 0
    try:
        process.until_shipped({A: producer.rows})
        before = producer.rows
        delete_topics(broker.address, topics)
        producer.write(20)
        eventually(lambda: "a topic does not exist" in process.said, "it names what is missing")
        make_topics(broker.address, settings)
        process.until_shipped({A: producer.rows})
        assert process.stop() == 0
    finally:
        process.kill()
    producer.crash()
    mine = arrived(broker.address, settings)[A]
    assert mine.accounted.missing(producer.rows) in ((), ((0, before),))


def delete_topics(address: str, topics: Topics) -> None:
    async def delete() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            await admin.delete_topics([topics.predictions, topics.labels])
        finally:
            await admin.close()

    run(delete())


def test_models_of_the_spools_are_in_several_partitions() -> None:
    assert len({partition_of(model, 3) for model in MODELS}) == 3
