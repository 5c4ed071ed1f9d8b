"""What topics should be, what differs, and what is dangerous about them."""

from dataclasses import replace

from eventlog.kafka.topic_plan import FoundTopic, TopicPlan, dangers, differences, plan_topics
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings

SETTINGS = KafkaSettings(namespace="n", partitions=4)
TOPICS = Topics("n")


def as_planned(plan: TopicPlan, replication: int = 3) -> FoundTopic:
    configs = {"min.insync.replicas": "2", **plan.configs}
    return FoundTopic(plan.name, plan.partitions, replication, configs, plan.configs)


def found(settings: KafkaSettings = SETTINGS) -> dict[str, FoundTopic]:
    return {plan.name: as_planned(plan) for plan in plan_topics(settings)}


def with_configs(name: str, **configs: str) -> dict[str, FoundTopic]:
    topics = found()
    changed = {key.replace("_", "."): value for key, value in configs.items()}
    topics[name] = replace(topics[name], configs={**topics[name].configs, **changed})
    return topics


def test_topics_as_planned_neither_differ_nor_are_dangerous() -> None:
    for plan in plan_topics(SETTINGS):
        assert differences(plan, as_planned(plan)) == []
    assert dangers(SETTINGS, found(), 3) == []


def test_the_plan_keeps_commands_for_ever_and_state_compacted() -> None:
    plans = {plan.name: plan for plan in plan_topics(SETTINGS)}
    assert plans[TOPICS.control].partitions == 1
    assert plans[TOPICS.control].configs["retention.ms"] == "-1"
    assert plans[TOPICS.control].configs["cleanup.policy"] == "delete"
    for name in (TOPICS.monitor, TOPICS.control_snapshots):
        assert plans[name].configs["cleanup.policy"] == "compact"
    counts = [plans[n].partitions for n in (TOPICS.predictions, TOPICS.labels, TOPICS.monitor)]
    assert counts == [4, 4, 4]


def test_the_plan_has_room_for_the_largest_message() -> None:
    large = replace(SETTINGS, message_bytes_max=5_000_000)
    for plan in plan_topics(large):
        if plan.name != TOPICS.control:
            assert int(plan.configs["max.message.bytes"]) > 5_000_000


def test_differences_name_both_values() -> None:
    plan = plan_topics(replace(SETTINGS, replication=2))[0]
    topic = replace(
        as_planned(plan), partitions=9, configs={**plan.configs, "retention.ms": "1000"}
    )
    assert [str(item) for item in differences(plan, topic)] == [
        "partitions is 9, and should be 4",
        "replication is 3, and should be 2",
        "retention.ms is 1000, and should be 604800000",
    ]
    assert [item.is_alterable for item in differences(plan, topic)] == [False, False, True]


def test_a_missing_topic_is_named() -> None:
    topics = found()
    del topics[TOPICS.monitor]
    assert dangers(SETTINGS, topics, 3) == [
        "topic n.monitor.v1 does not exist; `driftgate log init` makes it"
    ]


def only(sentences: list[str], text: str) -> None:
    assert len(sentences) == 1, sentences
    assert text in sentences[0]


def test_each_danger_is_named_with_its_topic() -> None:
    alone = found()
    alone[TOPICS.labels] = replace(
        alone[TOPICS.labels],
        replication=1,
        configs={**alone[TOPICS.labels].configs, "min.insync.replicas": "1"},
    )
    only(dangers(SETTINGS, alone, 3), "n.labels.v1 has one replica")
    assert dangers(SETTINGS, alone, 1) == []
    for configs, text in (
        ({"min_insync_replicas": "1"}, "acknowledged is gone"),
        ({"min_insync_replicas": "4"}, "nothing can be written"),
        ({"unclean_leader_election_enable": "true"}, "unclean.leader.election"),
        ({"cleanup_policy": "compact,delete"}, "is compacted"),
        ({"message_timestamp_type": "LogAppendTime"}, "LogAppendTime"),
        ({"max_message_bytes": "100000"}, "takes messages of 100000 bytes"),
    ):
        only(dangers(SETTINGS, with_configs(TOPICS.predictions, **configs), 3), text)
    for configs, text in (
        ({"cleanup_policy": "compact"}, "is compacted"),
        ({"retention_ms": "604800000"}, "commands would be forgotten"),
        ({"retention_bytes": "1000"}, "commands would be forgotten"),
    ):
        only(dangers(SETTINGS, with_configs(TOPICS.control, **configs), 3), text)
    only(
        dangers(SETTINGS, with_configs(TOPICS.monitor, cleanup_policy="delete"), 3), "state expires"
    )


def test_partitions_that_do_not_fit_together_are_named() -> None:
    topics = found()
    topics[TOPICS.labels] = replace(topics[TOPICS.labels], partitions=5)
    only(dangers(SETTINGS, topics, 3), "n.predictions.v1 4, n.labels.v1 5, n.monitor.v1 4")
    topics = found()
    topics[TOPICS.control] = replace(topics[TOPICS.control], partitions=2)
    only(dangers(SETTINGS, topics, 3), "commands have no order")


def test_topics_of_applications_are_planned_where_they_are_named() -> None:
    settings = replace(SETTINGS, labels_topic="truth", rows_topic="rows")
    plans = {plan.name: plan for plan in plan_topics(settings)}
    assert plans["truth"].partitions == plans["rows"].partitions == 4
    assert plans["truth"].configs["cleanup.policy"] == "delete"
    topics = found(settings)
    assert dangers(settings, topics, 3) == []
    del topics["truth"]
    assert dangers(settings, topics, 3) == [
        "topic truth does not exist; `driftgate log init` makes it"
    ]


def test_of_the_topic_of_labels_only_what_loses_labels_is_dangerous() -> None:
    settings = replace(SETTINGS, labels_topic="truth")
    topics = found(settings)
    own = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1000"}
    topics["truth"] = replace(topics["truth"], configs={**topics["truth"].configs, **own})
    assert dangers(settings, topics, 3) == []
    compacted = {**topics["truth"].configs, "cleanup.policy": "compact,delete"}
    topics["truth"] = replace(topics["truth"], configs=compacted)
    assert dangers(settings, topics, 3) == [
        "topic truth is compacted: of labels with the same key only the last would stay"
    ]
