"""The topics of one namespace.

Partition p of `predictions` and partition p of `labels` belong together: both are
keyed by model, with Kafka's own default partitioner, so whoever owns one partition
number owns whole models, and a producer in any language that keys by model lands
beside us.
"""

from dataclasses import dataclass

from aiokafka.partitioner import murmur2

from eventlog.core.record import LABELS, PREDICTIONS


@dataclass(frozen=True, slots=True)
class Topics:
    """Names; every one ends in the version of what is in it."""

    namespace: str

    def stream(self, name: str) -> str:
        """The topic of a stream of records."""
        return f"{self.namespace}.{name}.v1"

    @property
    def predictions(self) -> str:
        return self.stream(PREDICTIONS)

    @property
    def labels(self) -> str:
        return self.stream(LABELS)

    @property
    def dead_letters(self) -> str:
        """Records that could not be understood or not be sent, as they were."""
        return f"{self.namespace}.predictions.dlq.v1"

    @property
    def control(self) -> str:
        """One partition, every command in order, kept for ever."""
        return f"{self.namespace}.control.v1"

    @property
    def control_snapshots(self) -> str:
        """Compacted: what the commands up to an offset fold into."""
        return f"{self.namespace}.control-snapshots.v1"

    @property
    def monitor(self) -> str:
        """Compacted, as many partitions as `predictions`: who owns one, its state, its actions."""
        return f"{self.namespace}.monitor.v1"


def partition_of(model: str, partitions: int) -> int:
    """Where the records of `model` are, of so many partitions."""
    number: int = murmur2(model.encode()) & 0x7FFFFFFF
    return number % partitions
