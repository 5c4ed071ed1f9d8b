"""What the monitors of all gateways have consumed, as the topic of their states tells it."""

from collections.abc import Mapping
from contextlib import closing

from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from monitor.core.tree import unpack
from monitor.kafka.handover_topic import HandoverTopic


def consumed_rows(bootstrap: str, settings: KafkaSettings) -> Mapping[str, int]:
    """Prediction rows of each producer in DATA records that were taken account of.

    As of when the owner of each partition last handed its state over, which is up to
    `monitor.handover_s` ago. Raises: Unavailable.
    """
    rows: dict[str, int] = {}
    topic = HandoverTopic(bootstrap, settings, Topics(settings.namespace).monitor)
    with closing(topic):
        for number in range(topic.partitions()):
            parts = topic.read(number).state() or {}
            if "engine" not in parts:  # its owner has not taken a step yet
                continue
            for producer, count in unpack(parts["engine"])["delivered"].items():
                rows[producer] = rows.get(producer, 0) + count
    return rows
