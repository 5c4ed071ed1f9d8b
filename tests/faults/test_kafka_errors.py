"""Brokers that answer with an error, or late, or not at all: what our clients make of it.

The brokers are librdkafka's mock; what only a real one can show is shown elsewhere.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import errors
from aiokafka.errors import KafkaError

from eventlog import LogSettings, encode_predictions, fake_rows
from eventlog.core.kafka_message import Message
from eventlog.core.record import Record
from eventlog.kafka import ship
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.sender import Addressed, Sender
from eventlog.kafka.ship import Shipper
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from monitor.kafka.membership import Member, Membership
from protos import control_pb2 as pb
from serving.store.desired_state import OutcomeUnknownError
from serving.store.kafka_control_log import KafkaControlLog
from serving.store.shared_log import SharedEntry
from tests.broker.mock_brokers import Api, MockBrokers, mock_brokers
from tests.broker.topics import read_topic, run, settings_for_test
from tests.shipping import Producer, arrived, eventually

BROKERS = (1, 2, 3)
PASSING: Sequence[type[KafkaError]] = (
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.RequestTimedOutError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
    errors.UnknownTopicOrPartitionError,
    errors.KafkaStorageError,
)
READING: Sequence[type[KafkaError]] = (*PASSING[:3], *PASSING[-2:])


@pytest.fixture
def brokers() -> Iterator[MockBrokers]:
    with mock_brokers(len(BROKERS)) as made:
        yield made


def topics_for_test(
    brokers: MockBrokers, partitions: int = 1, request_timeout_s: float = 2.0
) -> KafkaSettings:
    settings = settings_for_test(partitions=partitions, request_timeout_s=request_timeout_s)
    topics = Topics(settings.namespace)
    for name in (topics.predictions, topics.labels):
        brokers.create_topic(name, partitions)
    for name in (topics.dead_letters, topics.control, topics.control_snapshots):
        brokers.create_topic(name, 1)
    return settings


def message(settings: KafkaSettings, text: str) -> list[Addressed]:
    topic = Topics(settings.namespace).predictions
    return [Addressed(topic, 0, Message(b"m", text.encode(), [], 10**12))]


def values(brokers: MockBrokers, settings: KafkaSettings) -> list[str]:
    topic = Topics(settings.namespace).predictions
    return [found.value.decode() for found in read_topic(brokers.address, topic)]


def test_what_passes_is_tried_again_and_what_was_sent_is_there_once(brokers: MockBrokers) -> None:
    settings = topics_for_test(brokers)

    async def send() -> None:
        sender = Sender(brokers.address, settings)
        try:
            for error in PASSING:
                brokers.fail(Api.PRODUCE, [error])
                await sender.send_messages(message(settings, error.__name__))
        finally:
            await sender.close(5.0)

    run(send())
    assert values(brokers, settings) == [error.__name__ for error in PASSING]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.OutOfOrderSequenceNumber, "lost track of this producer"),
        (errors.InvalidProducerEpoch, "another producer took this one's place"),
        (errors.UnknownProducerId, "lost track of this producer"),
        (errors.TopicAuthorizationFailedError, "may not use the topic"),
        (errors.CorruptRecordException, "arrived damaged"),
        (errors.UnknownError, "could not say why"),
    ],
)
def test_what_ends_a_producer_is_said_and_the_next_producer_goes_on(
    brokers: MockBrokers, error: type[KafkaError], reason: str
) -> None:
    settings = topics_for_test(brokers)

    async def send() -> None:
        sender = Sender(brokers.address, settings)
        try:
            await sender.send_messages(message(settings, "before"))
            brokers.fail(Api.PRODUCE, [error])
            with pytest.raises(Unavailable, match=reason):
                await sender.send_messages(message(settings, "refused"))
            # Only a new producer asks for an id, and meets this.
            brokers.fail(Api.INIT_PRODUCER_ID, [errors.ClusterAuthorizationFailedError])
            with pytest.raises(Unavailable, match="may not do that on the cluster"):
                await sender.send_messages(message(settings, "without an id"))
            await sender.send_messages(message(settings, "after"))
        finally:
            await sender.close(5.0)

    run(send())
    assert values(brokers, settings) == ["before", "after"]


def test_of_a_batch_that_is_refused_whole_the_message_that_is_meant_is_found(
    brokers: MockBrokers,
) -> None:
    settings = topics_for_test(brokers)
    three = [message(settings, text)[0] for text in ("one", "large", "three")]

    async def send() -> Unsendable:
        sender = Sender(brokers.address, settings)
        try:
            await sender.start()
            too_large = errors.MessageSizeTooLargeError
            brokers.fail(Api.PRODUCE, [too_large])
            await sender.send_messages([three[0], three[2]])  # alone, each of them is taken
            brokers.fail(Api.PRODUCE, [too_large, errors.NoError, too_large])
            with pytest.raises(Unsendable, match=r"max\.message\.bytes") as refusal:
                await sender.send_messages(three)
            return refusal.value
        finally:
            await sender.close(5.0)

    assert run(send()).index == 1
    assert values(brokers, settings) == ["one", "three", "one"]


def test_an_answer_that_was_lost_costs_a_duplicate_and_no_order(brokers: MockBrokers) -> None:
    settings = topics_for_test(brokers, request_timeout_s=0.5)

    async def send() -> None:
        sender = Sender(brokers.address, settings)
        try:
            await sender.send_messages(message(settings, "1"))
            for broker in BROKERS:  # written, but said so when nobody waits any more
                brokers.delay(Api.PRODUCE, broker, 800)
            await sender.send_messages(message(settings, "2"))
            await sender.send_messages(message(settings, "3"))
        finally:
            await sender.close(5.0)

    run(send())
    assert values(brokers, settings) == ["1", "2", "2", "3"]


def test_a_producer_starts_while_its_coordinator_loads_and_follows_a_leader_that_moves(
    brokers: MockBrokers,
) -> None:
    settings = topics_for_test(brokers)
    topic = Topics(settings.namespace).predictions

    async def send() -> None:
        sender = Sender(brokers.address, settings)
        try:
            brokers.fail(Api.INIT_PRODUCER_ID, [errors.GroupLoadInProgressError] * 3)
            for broker in (2, 3, 1, 2):
                await sender.send_messages(message(settings, str(broker)))
                brokers.lead(topic, 0, broker)
        finally:
            await sender.close(5.0)

    run(send())
    assert values(brokers, settings) == ["2", "3", "1", "2"]


def record(first: int) -> Record:
    rows = fake_rows(first, 5, model="m", ts_ns=10**18 + first)
    return encode_predictions(rows, "aaaaaa", 10**18 + first)


def test_a_reader_asks_again_and_misses_nothing(brokers: MockBrokers) -> None:
    settings = topics_for_test(brokers, partitions=2)
    log = KafkaLog(brokers.address, settings)
    try:
        log.append([record(first) for first in range(0, 100, 5)])
        brokers.fail(Api.LIST_OFFSETS, READING)
        ends = log.end()
        position: dict[str, int] = {}
        found: list[int] = []
        while position.get("predictions/0", 0) + position.get("predictions/1", 0) < 20:
            brokers.fail(Api.FETCH, READING[len(found) % 5 :][:1])
            for stored in log.read(position, 3):
                found.append(stored.record.first_sequence)
                position[stored.partition] = stored.offset
        assert sorted(found) == list(range(0, 100, 5))
        assert {name: end for name, end in ends.items() if end} == position
    finally:
        log.close()


STORM: Sequence[type[KafkaError]] = (
    *PASSING,
    errors.OutOfOrderSequenceNumber,
    errors.CorruptRecordException,
    errors.NoError,
)


@pytest.mark.parametrize("strikes", [15, pytest.param(100, marks=pytest.mark.ci)])
def test_in_a_storm_of_errors_the_shipper_loses_no_row_and_no_order(
    brokers: MockBrokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strikes: int
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    monkeypatch.setattr(ship, "BACKOFF_S", (0.01,))
    monkeypatch.setattr(ship, "BATCH_RECORDS", 8)
    settings = topics_for_test(brokers, partitions=3, request_timeout_s=0.5)
    topics = Topics(settings.namespace)
    for folder in ("log", "run"):
        (tmp_path / folder).mkdir()
    producer = Producer(tmp_path / "log", "aaaaaa")
    producer.write(1)
    sender = Sender(brokers.address, settings)
    fields = LogSettings(kafka="unused")
    shipper = Shipper(tmp_path / "log", tmp_path / "run", sender, fields, settings)

    def strike() -> None:
        kind = chance.random()
        if kind < 0.2:
            brokers.lead(topics.predictions, chance.randrange(3), chance.choice(BROKERS))
        elif kind < 0.3:
            brokers.delay(Api.PRODUCE, chance.choice(BROKERS), 700)
        else:
            api = chance.choice([Api.PRODUCE, Api.PRODUCE, Api.INIT_PRODUCER_ID, Api.METADATA])
            passing = PASSING[:3] if api is Api.METADATA else STORM
            brokers.fail(api, [chance.choice(passing) for _ in range(chance.randint(1, 2))])

    def shipped() -> int:
        return shipper._shipped.consumed.rows("aaaaaa")

    async def work() -> None:
        running = asyncio.create_task(shipper.run())
        for _ in range(strikes):
            producer.write(5)
            strike()
            await asyncio.sleep(chance.uniform(0.0, 0.15))
        while not (running.done() or shipped() == producer.rows):  # noqa: ASYNC110 - from outside
            await asyncio.sleep(0.05)
        shipper.stop()
        await running

    run(work())
    producer.crash()
    mine = arrived(brokers.address, settings)["aaaaaa"]  # and that all came in order
    assert mine.accounted.runs() == ((0, producer.rows),)
    assert mine.labels.runs() == ((0, producer.labels),)
    assert shipper.figures.dead_letters == 0
    print(f"{shipper.figures.retries} batches sent again, {mine.twice} rows came twice")


def command(number: int) -> pb.Proposal:
    told = pb.Command(id=f"c{number}", model="m", verb=pb.Verb.HOLD, actor="ann", origin="cli")
    return pb.Proposal(gateway="g", id=str(number), command=told)


def test_a_command_whose_answer_was_lost_is_not_taken_for_one_that_was_not_taken(
    brokers: MockBrokers,
) -> None:
    settings = replace(topics_for_test(brokers), control_timeout_s=1.0)
    brokers.lead(Topics(settings.namespace).control, 0, 1)

    async def tell() -> list[pb.Proposal]:
        log = KafkaControlLog(brokers.address, settings)
        await log.open()
        brokers.fail(Api.PRODUCE, PASSING[:4])
        await log.append(command(0))
        brokers.delay(Api.PRODUCE, 1, 1500)
        with pytest.raises(OutcomeUnknownError, match="not known whether"):
            await log.append(command(1))
        await log.open()
        await log.append(command(1))
        found: list[SharedEntry] = []
        brokers.fail(Api.FETCH, READING)
        while len(found) < 3:
            found += await log.read(len(found), 1.0)
        await log.close()
        return [pb.Proposal.FromString(entry.value) for entry in found[:3]]

    assert [entry.command.id for entry in run(tell())] == ["c0", "c1", "c1"]


def test_a_monitor_joins_its_group_while_the_coordinator_loads_and_moves(
    brokers: MockBrokers,
) -> None:
    settings = topics_for_test(brokers, partitions=2)
    topic, group = Topics(settings.namespace).predictions, f"{settings.namespace}-monitor"
    moved = errors.NotCoordinatorForGroupError
    brokers.fail(Api.FIND_COORDINATOR, [errors.GroupCoordinatorNotAvailableError] * 2)
    brokers.fail(Api.JOIN_GROUP, [errors.GroupLoadInProgressError, moved])
    membership = Membership(brokers.address, settings, topic, Member(group, "one", 30.0))
    try:
        eventually(lambda: membership.assigned == {0, 1}, "it is a member")
        brokers.fail(Api.OFFSET_COMMIT, [errors.GroupLoadInProgressError, moved])
        membership.commit({0: 5})
        assert membership.assigned == {0, 1}
        assert membership.failure == ""
    finally:
        membership.close()
