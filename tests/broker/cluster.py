"""Three brokers, each a voter of the controllers' quorum too, as small clusters run them."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.broker.broker import START_S, Broker
from tests.broker.topics import run

NODES = (1, 2, 3)
# One broker's absence is noticed within seconds; Kafka's defaults are for data centres.
SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "5000",
}


@dataclass(frozen=True, slots=True)
class Brokers:
    """By their node ids."""

    nodes: dict[int, Broker]

    @property
    def address(self) -> str:
        """Of all of them, as an operator writes it."""
        return ",".join(node.address for node in self.nodes.values())

    def format(self) -> None:
        """As one node, whose folder the others copy: each format is a JVM of its own."""
        first, *others = self.nodes.values()
        first.format()
        for node in others:
            target = node.folder / "data"
            shutil.copytree(first.folder / "data", target)
            meta = target / "meta.properties"
            lines = meta.read_text().splitlines()
            kept = [line for line in lines if not line.startswith(("node.id", "directory.id"))]
            node_id = f"node.id={node.settings['node.id']}"
            meta.write_text("\n".join([*kept, node_id]) + "\n")

    def start(self) -> None:
        """All at once: a quorum needs two, and what runs already stays as it is."""
        down = [node for node in self.nodes.values() if not node.is_running]
        for node in down:
            node.start(wait=False)
        for node in down:
            node.wait_ready()

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()

    def leader(self, topic: str, partition: int = 0) -> Broker:
        """Waits until there is one."""
        deadline = time.monotonic() + START_S
        while (found := run(_leader(self.address, topic, partition))) not in self.nodes:
            assert time.monotonic() < deadline, f"nobody leads {topic}/{partition}"
            time.sleep(0.1)
        return self.nodes[found]

    def others(self, node: Broker) -> list[Broker]:
        return [other for other in self.nodes.values() if other is not node]


async def _leader(address: str, topic: str, partition: int) -> int:
    """Its node's id; -1: nobody leads it now."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, enable_auto_commit=False)
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        found = consumer._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        return -1 if found is None else int(found)
    finally:
        await consumer.stop()


@contextmanager
def running_cluster(folder: Path) -> Iterator[Brokers]:
    nodes = {node: Broker(folder / str(node), SETTINGS | {"node.id": str(node)}) for node in NODES}
    voters = ",".join(f"{n}@127.0.0.1:{nodes[n].controller_port}" for n in NODES)
    for broker in nodes.values():
        broker.settings["controller.quorum.voters"] = voters
    brokers = Brokers(nodes)
    try:
        brokers.format()
        brokers.start()
        yield brokers
    finally:
        brokers.stop()
