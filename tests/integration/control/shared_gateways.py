"""Gateways that share control through a topic: how they are made so, and whether they agree."""

import dataclasses
from typing import Any

from eventlog.settings import KafkaSettings, LogSettings
from protos import control_pb2 as pb
from serving.core.replica import Replica
from serving.core.rollout_codec import command_from_proto, deployment_to_proto
from serving.store.kafka_control_log import KafkaControlLog
from serving.supervisor.admin import to_document

from .conftest import FakeGateway


def share(gateway: FakeGateway, address: str, kafka: KafkaSettings, first: FakeGateway) -> None:
    """Before its start: on the control topic at `address`, with the registry of `first`."""
    gateway.config = dataclasses.replace(
        gateway.config,
        log=LogSettings(kafka=address),
        kafka=kafka,
        registry_dir=first.config.registry_dir,
    )


def shared(gateway: FakeGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.admin.status()["control"]["kafka"]
    return found


def alike(*gateways: FakeGateway) -> bool:
    states = [shared(gateway) for gateway in gateways]
    assert all(state["up"] and not state["diverged"] for state in states)
    assert len({state["folded_offset"] for state in states}) == 1
    first = gateways[0].deployment()
    return all(gateway.deployment() == first for gateway in gateways)


async def folded_anew(address: str, kafka: KafkaSettings, model: str = "digits") -> dict[str, Any]:
    """What a reader of the whole topic, without any snapshot, makes of `model`."""
    log = KafkaControlLog(address, kafka)
    _, end = await log.open()
    replica = Replica()
    while replica.position < end:
        for entry in await log.read(replica.position, 5.0):
            command = command_from_proto(pb.Proposal.FromString(entry.value).command)
            replica, _ = replica.fold(entry.offset, command)
    await log.close()
    document: dict[str, Any] = to_document(deployment_to_proto(replica.deployment(model)))
    return document
