"""What the topics should be, and which settings of those that are there are dangerous."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings

FOREVER = "-1"
BROKERS_BOUND = 1_048_588  # Kafka's default max.message.bytes
# A bound is on the batch as it is stored: an encoding's overhead comes on top of a record.
BATCH_OVERHEAD = 64 * 1024
_LOG_NEEDS = {
    "cleanup.policy": "delete",
    "compression.type": "producer",  # brokers need not unpack what we have packed
    "message.timestamp.type": "CreateTime",
    # The broker's bound of an hour would refuse the records of a clock that is ahead.
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "unclean.leader.election.enable": "false",
}


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as `driftgate log init` makes it. replication: -1 leaves it to the brokers."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as it is. configs: effective values; overrides: those set on the topic itself."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]
    overrides: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    setting: str
    found: str
    wanted: str

    @property
    def is_alterable(self) -> bool:
        """Not partitions: models would move to others, away from what is known of them."""
        return self.setting not in ("partitions", "replication")

    def __str__(self) -> str:
        return f"{self.setting} is {self.found}, and should be {self.wanted}"


def plan_topics(settings: KafkaSettings) -> list[TopicPlan]:
    """Every topic of the namespace, in the order in which they matter, and those that other
    programs read and write.
    """
    topics, many = Topics(settings.namespace), settings.partitions
    bound = max(BROKERS_BOUND, _bytes_needed(settings))
    records = {
        **_LOG_NEEDS,
        "retention.ms": str(round(settings.retention_s * 1000)),
        "max.message.bytes": str(bound),
    }
    letters = {**records, "max.message.bytes": str(bound + BATCH_OVERHEAD)}
    control = {**_LOG_NEEDS, "retention.ms": FOREVER, "retention.bytes": FOREVER}
    compacted = {
        **_LOG_NEEDS,
        "cleanup.policy": "compact",
        "max.message.bytes": str(bound),
        # The newest segment is never compacted, and whoever takes over reads all there is.
        "segment.bytes": str(64 * 1024 * 1024),
        "min.cleanable.dirty.ratio": "0.1",
    }
    if settings.min_insync_replicas:
        insync = {"min.insync.replicas": str(settings.min_insync_replicas)}
        for configs in (records, letters, control, compacted):
            configs.update(insync)
    plans = (
        (topics.predictions, many, records),
        (topics.labels, many, records),
        (topics.dead_letters, 1, letters),
        (topics.control, 1, control),
        (topics.control_snapshots, 1, compacted),
        (topics.monitor, many, compacted),
        *([(settings.labels_topic, many, records)] if settings.labels_topic else []),
        *([(settings.rows_topic, many, records)] if settings.rows_topic else []),
    )
    return [TopicPlan(name, n, settings.replication or -1, c) for name, n, c in plans]


def differences(plan: TopicPlan, found: FoundTopic) -> list[Difference]:
    """Where a topic is not as planned; what the plan does not speak of is the operator's."""
    differing = []
    if found.partitions != plan.partitions:
        differing.append(Difference("partitions", str(found.partitions), str(plan.partitions)))
    if plan.replication not in (-1, found.replication):
        differing.append(Difference("replication", str(found.replication), str(plan.replication)))
    for key, wanted in plan.configs.items():
        value = found.configs.get(key)
        if value is not None and value != wanted:  # None: these brokers do not know it
            differing.append(Difference(key, value, wanted))
    return differing


def dangers(settings: KafkaSettings, found: Mapping[str, FoundTopic], brokers: int) -> list[str]:
    """What can lose records or stop the system, in sentences."""
    topics = Topics(settings.namespace)
    names = [plan.name for plan in plan_topics(settings)]
    sentences = [
        f"topic {name} does not exist; `driftgate log init` makes it"
        for name in names
        if name not in found
    ]
    present = [found[name] for name in names if name in found]
    for topic in present:
        sentences += _durability(topic, brokers)
        if topic.name == settings.labels_topic:
            sentences += _of_applications(topic)
            continue
        compacted = topic.name in (topics.control_snapshots, topics.monitor)
        sentences += _content(topic, compacted=compacted, settings=settings)
        if topic.name == topics.control:
            sentences += _control(topic)
    paired = [t for t in present if t.name in (topics.predictions, topics.labels, topics.monitor)]
    sentences += _counts(paired)
    return sentences


def _bytes_needed(settings: KafkaSettings) -> int:
    return max(settings.message_bytes_max, settings.batch_bytes) + BATCH_OVERHEAD


def _durability(topic: FoundTopic, brokers: int) -> Iterator[str]:
    insync = int(topic.configs.get("min.insync.replicas", "1"))
    if topic.replication == 1 and brokers > 1:
        yield f"topic {topic.name} has one replica: it is gone with its broker"
    if topic.replication > 1 and insync == 1:
        yield (
            f"topic {topic.name} has min.insync.replicas 1: what one broker has acknowledged"
            " is gone with it"
        )
    if insync > topic.replication:
        yield (
            f"topic {topic.name} asks for {insync} replicas in sync and has"
            f" {topic.replication}: nothing can be written to it"
        )
    if topic.configs.get("unclean.leader.election.enable") == "true":
        yield (
            f"topic {topic.name} has unclean.leader.election.enable: acknowledged records may"
            " be lost when a broker is"
        )


def _content(topic: FoundTopic, *, compacted: bool, settings: KafkaSettings) -> Iterator[str]:
    policy = topic.configs.get("cleanup.policy", "delete")
    if compacted and policy != "compact":
        yield f"topic {topic.name} has cleanup.policy {policy}, not compact: its state expires"
    if not compacted and "compact" in policy:
        yield (
            f"topic {topic.name} is compacted: only the last record of each model would stay,"
            " and records without a model are refused"
        )
    if topic.configs.get("message.timestamp.type") == "LogAppendTime":
        yield (
            f"topic {topic.name} stamps messages when they arrive (LogAppendTime): rows cannot"
            " be found by their time"
        )
    bound, needed = topic.configs.get("max.message.bytes"), _bytes_needed(settings)
    if bound is not None and int(bound) < min(needed, BROKERS_BOUND):
        yield (
            f"topic {topic.name} takes messages of {bound} bytes; kafka.message_bytes_max and"
            f" kafka.batch_bytes need {needed}"
        )


def _of_applications(topic: FoundTopic) -> Iterator[str]:
    """How large its messages are and what time they bear is for those who write them."""
    if "compact" in topic.configs.get("cleanup.policy", "delete"):
        yield (
            f"topic {topic.name} is compacted: of labels with the same key only the last would stay"
        )


def _control(topic: FoundTopic) -> Iterator[str]:
    if topic.partitions != 1:
        yield f"topic {topic.name} has {topic.partitions} partitions: commands have no order"
    for key in ("retention.ms", "retention.bytes"):
        value = topic.configs.get(key, FOREVER)
        if value != FOREVER:
            yield f"topic {topic.name} has {key} {value}: commands would be forgotten"


def _counts(topics: Sequence[FoundTopic]) -> Iterator[str]:
    if len({topic.partitions for topic in topics}) > 1:
        counts = ", ".join(f"{topic.name} {topic.partitions}" for topic in topics)
        yield (
            f"topics differ in their number of partitions ({counts}): a model's labels and state"
            " would not be where its predictions are"
        )
