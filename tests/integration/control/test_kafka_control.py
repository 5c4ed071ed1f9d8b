"""Gateways on a control topic of a real broker."""

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from protos import control_pb2 as pb
from serving.admin_client import AdminError
from serving.core.rollout_state import Deployment
from serving.store.desired_state import OutOfReachError
from serving.store.kafka_control_log import KafkaControlLog
from serving.store.shared_log import SharedSnapshot
from tests.broker.broker import Broker
from tests.broker.link import Link, linked_broker
from tests.broker.topics import run, settings_for_test

from .conftest import FakeGateway, eventually
from .shared_gateways import alike, folded_anew, share, shared

SEED = 20261128


def control_settings(address: str) -> KafkaSettings:
    """Of a namespace with its control topics."""
    settings = settings_for_test(control_timeout_s=2.0, control_wait_s=5.0)
    topics = Topics(settings.namespace)

    async def make() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            kept = NewTopic(topics.control, 1, 1, topic_configs={"retention.ms": "-1"})
            compact = {"cleanup.policy": "compact"}
            snapshots = NewTopic(topics.control_snapshots, 1, 1, topic_configs=compact)
            response = await admin.create_topics([kept, snapshots])
            assert all(code == 0 for _, code, *_ in response.topic_errors), response
        finally:
            await admin.close()

    run(make())
    return settings


def proposal(number: int) -> pb.Proposal:
    return pb.Proposal(gateway="g", id=str(number), command=pb.Command(id=f"c{number}", model="m"))


def test_what_was_appended_is_read_in_order_and_a_snapshot_comes_back(kafka: str) -> None:
    settings = control_settings(kafka)

    async def test() -> None:
        log = KafkaControlLog(kafka, settings)
        assert await log.open() == (0, 0)
        assert await log.read(0, 0.2) == []
        assert await log.newest_snapshot() is None
        for number in range(3):
            await log.append(proposal(number))
        found = await log.read(0, 5.0)
        while len(found) < 3:
            found += await log.read(found[-1].offset + 1, 5.0)
        assert [entry.offset for entry in found] == [0, 1, 2]
        assert [pb.Proposal.FromString(entry.value).id for entry in found] == ["0", "1", "2"]
        assert (await log.read(1, 5.0))[0].offset == 1
        for position in (1, 3):
            await log.keep_snapshot(SharedSnapshot(position, {"m": Deployment("m")}, "d"))
        assert await log.newest_snapshot() == SharedSnapshot(3, {"m": Deployment("m")}, "d")
        assert await log.open() == (0, 3)
        await log.close()
        with pytest.raises(OutOfReachError):
            await log.append(proposal(9))

    run(test())


def test_a_topic_that_does_not_exist_is_out_of_reach_and_said_so(kafka: str) -> None:
    settings = settings_for_test(control_timeout_s=2.0)

    async def test() -> None:
        log = KafkaControlLog(kafka, settings)
        with pytest.raises(OutOfReachError):
            await log.open()
        await log.close()

    run(test())


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Link]]:
    with linked_broker(tmp_path_factory.mktemp("broker")) as pair:
        yield pair


Pair = tuple[FakeGateway, FakeGateway]


@pytest.fixture
def pair(broker: tuple[Broker, Link], make_gateway: Callable[..., FakeGateway]) -> Pair:
    """Two gateways of one registry on one control topic; the second one behind the link."""
    node, link = broker
    settings = control_settings(node.address)
    one, two = make_gateway(workers=1), make_gateway(workers=1)
    share(one, node.address, settings, one)
    share(two, link.address, settings, one)
    return one, two


def test_a_rollback_at_one_gateway_takes_effect_on_all(pair: Pair) -> None:
    one, two = pair
    one.push()
    one.push("other", champion=False)
    for gateway in pair:
        gateway.start()
    eventually(lambda: alike(one, two) and one.deployment()["stable"]["version"] == "1")
    assert one.tell("START", version={"version": "2"}, steps=[100])["workers"] == 1
    eventually(lambda: two.arms() == [{"2": 100}])
    result = two.tell("ROLLBACK", reason="complaints")
    assert not result["diverged"]
    eventually(lambda: one.arms() == [{"1": 100}] and alike(one, two))
    refused = one.tell("ROLLBACK")
    assert "quarantined" in refused["error"]
    one.push("cannot load", champion=False)
    two.tell("START", version={"version": "3"})
    eventually(lambda: len(one.deployment()["quarantined"]) == 2 and alike(one, two))
    assert [gateway.stop() for gateway in pair] == [0, 0]


def test_a_gateway_that_was_cut_off_acts_alone_and_finds_back(
    pair: Pair, broker: tuple[Broker, Link]
) -> None:
    one, two = pair
    _, link = broker
    one.push()
    one.push("other", champion=False)
    for gateway in pair:
        gateway.start()
    one.tell("START", version={"version": "2"}, steps=[100])
    eventually(lambda: two.arms() == [{"2": 100}])
    link.cut()
    try:
        assert two.tell("ROLLBACK")["diverged"]
        assert two.arms() == [{"1": 100}]
        with pytest.raises(AdminError, match="only rollback, abort and hold") as refusal:
            two.tell("START", version={"version": "2"}, force=True)
        assert refusal.value.status == 503
        assert one.tell("HOLD", hold_until_ns=2 * 10**18)["accepted"]
        assert one.arms() == [{"2": 100}]
        assert shared(two)["diverged"] == ["digits"]
        assert two.stop() == 0
        two.start()
        assert shared(two)["diverged"] == ["digits"]
        assert two.arms()[-1] == {"1": 100}
    finally:
        link.heal()
    eventually(lambda: alike(one, two) and one.arms() == [{"1": 100}])
    assert int(one.deployment()["generation"]) == 4


def test_a_frozen_broker_keeps_no_rollback_and_no_exit_waiting(
    pair: Pair, broker: tuple[Broker, Link]
) -> None:
    one, two = pair
    node, _ = broker
    one.push()
    one.push("other", champion=False)
    for gateway in pair:
        gateway.start()
    one.tell("START", version={"version": "2"}, steps=[100])
    eventually(lambda: alike(one, two))
    node.freeze()
    try:
        assert one.tell("ROLLBACK")["diverged"]
        assert one.arms() == [{"1": 100}]
        assert one.stop() == 0
    finally:
        node.thaw()
    one.start()
    eventually(lambda: alike(one, two) and two.arms() == [{"1": 100}])


def test_a_command_that_comes_twice_under_one_id_takes_effect_once(
    pair: Pair, broker: tuple[Broker, Link]
) -> None:
    one, two = pair
    node, _ = broker
    one.push()
    one.push("other", champion=False)
    for gateway in pair:
        gateway.start()
    eventually(lambda: alike(one, two))
    start = {"id": "typed-once", "version": {"version": "2"}, "steps": [100]}
    first = one.tell("START", **start)
    again = two.tell("START", **start)  # at another gateway, which has only read of it
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert again["accepted"]
    asyncio.run(append_twice(node.address, one))
    eventually(lambda: alike(one, two) and one.arms() == [{"1": 100}])
    deployment = one.deployment()
    assert int(deployment["generation"]) == int(first["after"]["generation"]) + 1
    assert [item["verb"] for item in deployment["history"]].count("ROLLBACK") == 1


async def append_twice(address: str, gateway: FakeGateway) -> None:
    """As a gateway does whose first try was taken, and never heard so."""
    log = KafkaControlLog(address, gateway.config.kafka)
    await log.open()
    command = pb.Command(
        id="sent-twice", model="digits", verb=pb.Verb.ROLLBACK, actor="ann", origin="cli"
    )
    for number in range(2):
        await log.append(pb.Proposal(gateway="g", id=f"try-{number}", command=command))
    await log.close()


@pytest.mark.ci
def test_the_command_line_sends_a_command_again_while_its_fate_is_unknown(
    pair: Pair, broker: tuple[Broker, Link]
) -> None:
    one, two = pair
    node, _ = broker
    one.push()
    one.push("other", champion=False)
    for gateway in pair:
        gateway.start()
    eventually(lambda: alike(one, two))
    generation = int(one.deployment()["generation"])
    command = [sys.executable, "-m", "driftgate", "rollout", "start", "digits", "2"]
    options = ["--steps", "100", "--timeout", "60", "--state-dir", str(one.state)]
    port = {"DRIFTGATE_GATEWAY__ADMIN_PORT": str(one.ports["admin"])}
    node.freeze()
    try:
        typed = subprocess.Popen(
            [*command, *options], env=os.environ | port, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        time.sleep(one.config.kafka.control_timeout_s + 1.0)  # the first try is over
    finally:
        node.thaw()
    said, _ = typed.communicate(timeout=90)
    assert typed.returncode == 0, said
    eventually(lambda: alike(one, two) and two.arms() == [{"2": 100}])
    assert int(one.deployment()["generation"]) == generation + 1
    proposals = shared(one)["folded_offset"] + 1
    print(f"{proposals} entries: {said}")


class Caller(threading.Thread):
    """An operator and a monitor at one gateway, with seeded whims."""

    def __init__(self, gateway: FakeGateway, name: str, count: int, halfway: Any) -> None:
        super().__init__(name=name)
        self.gateway, self._count, self._halfway = gateway, count, halfway
        self._random = random.Random(f"{SEED}-{name}")
        self.outcomes: dict[str, int] = {}
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            generation = 0
            for number in range(self._count):
                self._halfway(number)
                self._count_outcome(*self._tell(number))
                now = int(self.gateway.deployment()["generation"])
                assert now >= generation, f"{self.name}: from {generation} to {now}"
                generation = now
        except BaseException as failure:
            self.failure = failure

    def _tell(self, number: int) -> tuple[str, str]:
        whim = self._random
        version = {"version": {"version": whim.choice("123")}}
        fields = whim.choice(
            [
                *[{"verb": "START", "steps": [5, 50, 100], "force": True, **version}] * 4,
                {"verb": "START", "steps": [100], **version},
                *({"verb": verb} for verb in ("ADVANCE", "PROMOTE", "PAUSE", "RESUME", "UNDO")),
                *({"verb": verb} for verb in ("ABORT", "ROLLBACK", "RELEASE", "ROLLBACK")),
                {"verb": "SET_WEIGHT", "weight": whim.randrange(110)},
                {"verb": "HOLD", "hold_until_ns": time.time_ns() + 10**7},
                {"verb": "NOTE", "origin": "monitor", "fence": whim.randrange(4)},
                {"verb": "ADVANCE", "origin": "monitor", "fence": whim.randrange(1, 4)},
                {"verb": "ROLLBACK", "origin": "monitor", "fence": whim.randrange(1, 4)},
            ]
        )
        if fields.get("origin") == "monitor":
            fields["rollout"] = self.gateway.deployment()["rollout"]
        if whim.random() < 0.1:
            fields["expected_generation"] = self.gateway.deployment()["generation"]
        command = {"origin": "cli", "model": "digits", "id": f"{self.name}-{number}", **fields}
        try:
            result = self.gateway.admin.apply(command, wait_ms=0)
        except AdminError as error:
            if error.status != 503:
                raise
            return "out of reach", error.sentence
        if result["accepted"]:
            return "diverged" if result["diverged"] else "accepted", "-"
        return "refused", result["error"]

    def _count_outcome(self, outcome: str, why: str) -> None:
        assert why
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


@pytest.mark.ci
@pytest.mark.timeout(900)
def test_a_thousand_interleaved_commands_with_one_gateway_cut_off_for_a_while(
    pair: Pair, broker: tuple[Broker, Link]
) -> None:
    print(f"seed {SEED}")
    one, two = pair
    node, link = broker
    one.push()
    for words in ("two", "three"):
        one.push(words, champion=False)
    for gateway in pair:
        gateway.start()
    eventually(lambda: alike(one, two))

    def cuts(number: int) -> None:
        if number == 150:
            link.cut()
        elif number == 350:
            link.heal()
            eventually(lambda: shared(two)["up"])

    callers = [
        Caller(one, "one", 500, lambda _: None),
        Caller(two, "two", 500, cuts),
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
        assert caller.failure is None, (caller.failure, caller.gateway.errors())
        print(caller.name, caller.outcomes)
    eventually(lambda: alike(one, two))
    outcomes = [caller.outcomes for caller in callers]
    assert "out of reach" not in outcomes[0]
    assert outcomes[1]["diverged"] > 0
    assert outcomes[1]["out of reach"] > 0
    assert all(item["accepted"] and item["refused"] for item in outcomes)
    print(one.deployment()["generation"], shared(one)["folded_offset"])
    for gateway in pair:
        assert gateway.admin.verify_audit()["problems"] == []
    folded = asyncio.run(folded_anew(node.address, one.config.kafka))
    assert folded == one.deployment()
