"""The sender against a real broker: order, acknowledgement, and what it says when it cannot."""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from eventlog import encode_predictions, fake_rows
from eventlog.core.kafka_message import Message, Placed, place
from eventlog.core.marks import heartbeat_record
from eventlog.core.record import Record
from eventlog.kafka.connect import explain
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.sender import Addressed, Sender
from eventlog.kafka.topics import partition_of
from loadtests.gateway import free_ports
from tests.broker.broker import Broker, running_broker
from tests.broker.topics import make_topics, read_topic, run, settings_for_test

A = "aaaaaa"


def data(first: int, count: int = 3, *, model: str = "m") -> Record:
    return encode_predictions(
        fake_rows(first, count, model=model, ts_ns=10**18 + 1 + first), A, first
    )


def placed(records: list[Record], partitions: int = 3) -> list[Placed]:
    return [item for record in records for item in place(record, partitions)]


def numbers(messages: list[object]) -> list[int]:
    return [int(dict(m.headers)["first_sequence"]) for m in messages]  # type: ignore[attr-defined]


def test_records_arrive_in_their_partitions_in_order(kafka: str) -> None:
    settings = settings_for_test(batch_bytes=2048)  # several batches
    topics = make_topics(kafka, settings)
    models = [f"model-{n}" for n in range(7)]

    async def send() -> int:
        sender = Sender(kafka, settings)
        try:
            for start in range(0, 40, 10):
                records = [data(start + n, 1, model=models[n % 7]) for n in range(10)]
                await sender.send(placed([*records, heartbeat_record(A, start + 10, start)]))
            return sender.partitions
        finally:
            await sender.close(5.0)

    assert run(send()) == 3
    found = read_topic(kafka, topics.predictions)
    assert len(found) == 40 + 4 * 3
    for partition in range(3):
        assert numbers(mine := [m for m in found if m.partition == partition]) == sorted(
            numbers(mine)
        )
    rows = [m for m in found if m.key is not None]
    assert sorted(numbers(rows)) == list(range(40))
    assert all(m.partition == partition_of(m.key.decode(), 3) for m in rows)
    assert {m.timestamp for m in rows} == {10**12 + 1}  # the youngest row's, in whole ms
    assert len(read_topic(kafka, topics.labels)) == 4 * 3


def test_a_record_beyond_the_limit_is_named_before_anything_is_sent(kafka: str) -> None:
    settings = settings_for_test(message_bytes_max=5000)
    topics = make_topics(kafka, settings)
    items = placed([data(0), data(3, 900), data(903)])

    async def send() -> Unsendable:
        sender = Sender(kafka, settings)
        try:
            with pytest.raises(Unsendable, match="message_bytes_max is 5000") as refusal:
                await sender.send(items)
            await sender.send([item for item in items if item is not refusal.value.placed])
            return refusal.value
        finally:
            await sender.close(5.0)

    assert run(send()).placed is items[1]
    assert numbers(read_topic(kafka, topics.predictions)) == [0, 903]


def test_a_record_that_the_topic_refuses_is_named_and_the_rest_goes_on(kafka: str) -> None:
    settings = settings_for_test()
    topics = make_topics(kafka, settings, max_message_bytes="4000")
    noise = np.random.default_rng(0).random((900, 3), dtype=np.float32)  # not compressible
    large = encode_predictions(fake_rows(3, 900, inputs={"x": noise}), A, 3)
    items = placed([data(0), large, data(903), data(906, model="other")])

    async def send() -> Unsendable:
        sender = Sender(kafka, settings)
        try:
            with pytest.raises(Unsendable, match=r"max\.message\.bytes") as refusal:
                await sender.send(items)
            await sender.send([items[2], items[3]])
            await sender.send(placed([data(909)]))
            return refusal.value
        finally:
            await sender.close(5.0)

    assert run(send()).placed is items[1]
    assert set(numbers(read_topic(kafka, topics.predictions))) == {0, 903, 906, 909}


def test_any_message_can_be_sent(kafka: str) -> None:
    settings = settings_for_test()
    topics = make_topics(kafka, settings)
    message = Message(b"m", b"value", [("why", b"because")], 123_456)

    async def send() -> None:
        sender = Sender(kafka, settings)
        try:
            await sender.send_messages([Addressed(topics.labels, None, message)])
            with pytest.raises(Unavailable, match="no partition 3"):
                await sender.send_messages([Addressed(topics.labels, 3, message)])
        finally:
            await sender.close(5.0)

    run(send())
    (found,) = read_topic(kafka, topics.labels)
    assert (found.key, found.value, found.timestamp) == (b"m", b"value", 123_456)
    assert list(found.headers) == [("why", b"because")]
    assert found.partition == partition_of("m", 3)


def test_a_missing_topic_is_said_in_a_sentence(kafka: str) -> None:
    async def send() -> None:
        sender = Sender(kafka, settings_for_test(request_timeout_s=0.5))
        try:
            with pytest.raises(Unavailable, match="a topic does not exist; `driftgate log init`"):
                await sender.start()
        finally:
            await sender.close(5.0)

    run(send())


def test_nobody_at_the_address_is_said_in_a_sentence() -> None:
    async def send() -> None:
        sender = Sender(f"127.0.0.1:{free_ports(1)[0]}", settings_for_test())
        try:
            with pytest.raises(Unavailable, match="refused"):
                await sender.send([])
        finally:
            await sender.close(5.0)

    run(send())


def test_a_broker_that_is_down_is_not_taken_for_the_reason_while_another_answers(
    kafka: str,
) -> None:
    down = f"127.0.0.1:{free_ports(1)[0]}"
    settings = settings_for_test()
    reason = f"kafka cannot be used: no answer in time, and {down}: connection refused"
    for addresses in (f"{down},{kafka}", f"{kafka},{down}"):
        assert run(explain(addresses, settings, TimeoutError())) == reason
    alone = f"kafka cannot be used: {down}: connection refused"
    assert run(explain(down, settings, TimeoutError())) == alone


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


async def until_unavailable(sender: Sender, items: list[Placed]) -> str:
    while True:
        try:
            await sender.send(items)
        except Unavailable as failure:
            return str(failure)


@pytest.mark.ci
def test_a_broker_that_dies_is_reported_and_used_again_when_it_is_back(broker: Broker) -> None:
    settings = settings_for_test(request_timeout_s=1.0)
    topics = make_topics(broker.address, settings)

    async def send() -> None:
        sender = Sender(broker.address, settings)
        try:
            await sender.send(placed([data(0)]))
            await asyncio.to_thread(broker.kill)
            assert await until_unavailable(sender, placed([data(3)]))
            await asyncio.to_thread(broker.start)
            while True:
                try:
                    await sender.send(placed([data(3)]))
                except Unavailable:
                    continue
                return
        finally:
            await sender.close(5.0)

    run(send())
    assert set(numbers(read_topic(broker.address, topics.predictions))) == {0, 3}


@pytest.mark.ci
def test_closing_ends_in_time_while_the_broker_is_frozen(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for_test(request_timeout_s=300.0)  # nothing would give up by itself
    make_topics(broker.address, settings)

    async def send() -> float:
        sender = Sender(broker.address, settings)
        await sender.send(placed([data(0)]))
        broker.freeze()
        try:
            sending = asyncio.create_task(sender.send(placed([data(3)])))
            await asyncio.sleep(0.2)  # on its way; were it not, closing would be easier
            began = time.monotonic()
            await sender.close(3.0)
            took = time.monotonic() - began
            with pytest.raises(Unavailable, match="closed"):
                await sending
            with pytest.raises(Unavailable, match="closed"):
                await sender.send(placed([data(3)]))
            return took
        finally:
            broker.thaw()

    assert run(send()) < 60.0  # bounded; the broker would have answered never
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.ci
def test_a_send_that_is_cancelled_leaves_a_sender_that_works(broker: Broker) -> None:
    settings = replace(settings_for_test(), request_timeout_s=300.0)
    topics = make_topics(broker.address, settings)

    async def send() -> None:
        sender = Sender(broker.address, settings)
        try:
            await sender.send(placed([data(0)]))
            broker.freeze()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await sender.send(placed([data(3)]))
            broker.thaw()
            await sender.send(placed([data(3)]))
        finally:
            broker.thaw()
            await sender.close(5.0)

    run(send())
    assert set(numbers(read_topic(broker.address, topics.predictions))) == {0, 3}
