"""Topics made and compared on a real broker."""

import json
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError

from driftgate.cli import main
from eventlog.kafka.admin import AdminRefused, Did, check_topics, init_topics
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.topics import Topics
from loadtests.gateway import free_ports
from tests.broker.topics import run, settings_for_test


def test_topics_are_made_once_and_as_planned(kafka: str) -> None:
    settings = settings_for_test()
    first = run(init_topics(kafka, settings))
    assert {report.did for report in first} == {Did.CREATED}
    assert {report.did for report in run(init_topics(kafka, settings))} == {Did.EXISTS}
    assert run(check_topics(kafka, settings)) == []


def test_a_broker_that_has_not_heard_of_a_new_topic_is_asked_again(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe, asked = AIOKafkaAdminClient.describe_configs, 0

    async def late(admin: AIOKafkaAdminClient, resources: list[Any]) -> Any:
        nonlocal asked
        asked += 1
        answers = await describe(admin, resources)
        if asked == 1:
            first = answers[0].resources
            first[0] = (UnknownTopicOrPartitionError.errno, *first[0][1:])
        return answers

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_configs", late)
    reports = run(init_topics(kafka, settings_for_test()))
    assert {report.did for report in reports} == {Did.CREATED}
    assert asked == 2


def test_a_dry_run_makes_nothing(kafka: str) -> None:
    settings = settings_for_test()
    assert {r.did for r in run(init_topics(kafka, settings, dry_run=True))} == {Did.CREATED}
    missing = run(check_topics(kafka, settings))
    assert len(missing) == 6
    assert all("does not exist" in sentence for sentence in missing)


def test_what_differs_is_reported_and_changed_only_on_demand(kafka: str) -> None:
    settings = settings_for_test()
    run(init_topics(kafka, settings))
    changed = replace(settings, retention_s=60.0, partitions=5)
    for _ in range(2):  # looking changes nothing
        reports = {r.name: r for r in run(init_topics(kafka, changed))}
        predictions = reports[Topics(settings.namespace).predictions]
        assert predictions.did is Did.DIFFERS
        assert [item.setting for item in predictions.differences] == ["partitions", "retention.ms"]
    altered = run(init_topics(kafka, changed, alter=True))
    assert altered[0].did is Did.ALTERED
    (left,) = run(init_topics(kafka, changed))[0].differences
    assert (left.setting, left.found, left.wanted) == ("partitions", "3", "5")
    # What the topic had of its own is still there.
    assert run(check_topics(kafka, settings)) == []


def test_what_brokers_refuse_is_said(kafka: str) -> None:
    with pytest.raises(AdminRefused, match="replication factor"):
        run(init_topics(kafka, settings_for_test(replication=3)))


def test_nobody_at_the_address_is_said() -> None:
    with pytest.raises(Unavailable, match="connection refused"):
        run(check_topics(f"127.0.0.1:{free_ports(1)[0]}", settings_for_test()))


def test_the_command_makes_topics(kafka: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = settings_for_test().namespace
    arguments = ["log", "init", "--log-kafka", kafka, "--kafka-namespace", name]
    assert main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"created  {name}.predictions.v1  6 partitions, retention.ms=604800000" in out
    assert "nothing was changed" in out
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [topic["did"] for topic in document["topics"]] == ["created"] * 6
    assert main([*arguments, "--kafka-retention-s", "60"]) == 0
    assert "retention.ms is 604800000, and should be 60000" in capsys.readouterr().out


def test_the_command_says_that_there_is_no_kafka(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "init"]) == 2
    assert "log.kafka is not set" in capsys.readouterr().err
    address = f"127.0.0.1:{free_ports(1)[0]}"
    assert main(["log", "init", "--log-kafka", address]) == 1
    assert "connection refused" in capsys.readouterr().err


def test_doctor_says_how_kafka_is(kafka: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_for_test()
    arguments = ["doctor", "--log-kafka", kafka, "--kafka-namespace", settings.namespace]
    main(arguments)
    out = capsys.readouterr().out
    assert f"ok   kafka: 1 brokers behind {kafka}" in out
    assert f"FAIL kafka topics: topic {settings.namespace}.control.v1 does not exist" in out
    run(init_topics(kafka, settings))
    main(arguments)
    assert "ok   kafka topics: as they should be" in capsys.readouterr().out
    main(["doctor", "--log-kafka", f"127.0.0.1:{free_ports(1)[0]}"])
    assert "FAIL kafka: kafka cannot be used: 127.0.0.1" in capsys.readouterr().out
