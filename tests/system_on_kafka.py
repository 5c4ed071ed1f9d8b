"""The demo's system with its log on Kafka."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from driftgate.story.system import System, wait_for
from driftgate.story.training import MODEL
from eventlog.settings import KafkaSettings


@dataclass
class OnKafka(System):
    """more: further settings, as variables of the environment."""

    address: str = ""
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    mode: str = "async"
    more: Mapping[str, str] = field(default_factory=dict)
    without_kafka: bool = False

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "DRIFTGATE_LOG__KAFKA": self.address,
            "DRIFTGATE_LOG__MODE": self.mode,
            "DRIFTGATE_KAFKA__NAMESPACE": self.kafka.namespace,
            "DRIFTGATE_KAFKA__REQUEST_TIMEOUT_S": "5.0",
            **self.more,
        }

    def start_without_kafka(self) -> None:
        """The gateway is ready; a monitor is not before it knows what is its."""
        self.without_kafka = True
        try:
            self.start()
        finally:
            self.without_kafka = False

    def _ready(self) -> bool:
        if not self.without_kafka:
            return super()._ready()
        return self.reachable(f"http://127.0.0.1:{self.ports.http}/v2/models/{MODEL}/ready")

    def numbered(self) -> int:
        return sum(line["acknowledged"] for line in self.ledger())

    def delivered(self) -> int:
        return sum(line["delivered"] for line in self.ledger())

    def until_drained(self) -> None:
        wait_for(
            "everything is shipped",
            lambda: (
                not any(
                    line["spooled"] or (line["unexplained"] and not line["live"])
                    for line in self.ledger()
                )
            ),
            180,
        )

    def metric(self, name: str, label: str = "") -> float:
        """The sum of its series, on the gateway's port; label: part of what these must say."""
        url = f"http://127.0.0.1:{self.ports.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            lines = reply.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{")) and label in line
        )

    def failed_requests(self) -> int:
        self.refresh()
        return sum(sent.failed for journal in self.journals for sent in journal.requests)
