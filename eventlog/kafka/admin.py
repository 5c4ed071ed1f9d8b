"""Making the topics, comparing them with what they should be, and naming what is dangerous."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from eventlog.core.record import LogError
from eventlog.kafka.cluster import close_client
from eventlog.kafka.connect import client_arguments, explain
from eventlog.kafka.failure import Unavailable, sentence
from eventlog.kafka.topic_plan import (
    Difference,
    FoundTopic,
    TopicPlan,
    dangers,
    differences,
    plan_topics,
)
from eventlog.settings import KafkaSettings

_SET_ON_TOPIC = 1  # config_source of DescribeConfigs
SETTLE_POLL_S = 0.05
PATIENCE = 4.0  # request timeouts of a whole visit


class AdminRefused(LogError):
    """The brokers will not do what was asked."""


class Did(StrEnum):
    """What became of a topic."""

    CREATED = "created"
    EXISTS = "exists"
    DIFFERS = "differs"
    ALTERED = "altered"


@dataclass(frozen=True, slots=True)
class TopicReport:
    """differences: what is, or was, not as planned."""

    name: str
    did: Did
    plan: TopicPlan
    differences: Sequence[Difference] = ()

    @property
    def alterable(self) -> list[Difference]:
        return [item for item in self.differences if item.is_alterable]


@dataclass(slots=True)
class _Found:
    brokers: int
    topics: dict[str, FoundTopic] = field(default_factory=dict)


async def init_topics(
    bootstrap: str, settings: KafkaSettings, *, alter: bool = False, dry_run: bool = False
) -> list[TopicReport]:
    """Make what is missing; with `alter`, also set what differs.

    dry_run: the brokers check what would be done, and nothing is.
    Raises: Unavailable, AdminRefused.
    """
    plans = plan_topics(settings)
    async with _visit(bootstrap, settings) as admin:
        found = (await _look(admin, [plan.name for plan in plans])).topics
        await _create(admin, [p for p in plans if p.name not in found], dry_run=dry_run)
        reports = []
        for plan in plans:
            report = _compare(plan, found.get(plan.name), alter=alter)
            if report.did is Did.ALTERED and not dry_run:
                await _alter(admin, found[plan.name], report.alterable)
            reports.append(report)
        if not dry_run:
            await _settle(admin, reports)
        return reports


def _compare(plan: TopicPlan, found: FoundTopic | None, *, alter: bool) -> TopicReport:
    if found is None:
        return TopicReport(plan.name, Did.CREATED, plan)
    differing = differences(plan, found)
    report = TopicReport(plan.name, Did.DIFFERS if differing else Did.EXISTS, plan, differing)
    return replace(report, did=Did.ALTERED) if alter and report.alterable else report


async def check_topics(bootstrap: str, settings: KafkaSettings) -> list[str]:
    """What is dangerous about the topics as they are, in sentences.

    Raises: Unavailable, AdminRefused (this user may not look).
    """
    async with _visit(bootstrap, settings) as admin:
        found = await _look(admin, [plan.name for plan in plan_topics(settings)])
        sentences = dangers(settings, found.topics, found.brokers)
        if await _creates_by_itself(admin):
            sentences.append(
                "the brokers make a missing topic by themselves, with their own settings"
                " (auto.create.topics.enable)"
            )
        return sentences


async def count_brokers(bootstrap: str, settings: KafkaSettings) -> int:
    """Raises: Unavailable."""
    async with _visit(bootstrap, settings) as admin:
        return (await _look(admin, ())).brokers


@asynccontextmanager
async def _visit(bootstrap: str, settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, for a bounded time."""
    admin = None
    try:
        async with asyncio.timeout(PATIENCE * settings.request_timeout_s):
            try:
                admin = AIOKafkaAdminClient(**client_arguments(bootstrap, settings))
                await admin.start()
            except (OSError, KafkaError) as error:
                raise Unavailable(await explain(bootstrap, settings, error)) from error
            yield admin
    except (OSError, KafkaError) as error:
        raise Unavailable(f"kafka: {sentence(error)}") from error
    finally:
        if admin is not None:
            await close_client(admin._client)  # noqa: SLF001


async def _look(admin: AIOKafkaAdminClient, names: Collection[str]) -> _Found:
    """Asked without the wish to have them created."""
    request = MetadataRequest(list(names), allow_auto_topic_creation=False)
    answer = await admin._send_request(request)  # noqa: SLF001
    found = _Found(len(answer.brokers))
    there = {}
    for code, name, _, partitions in answer.topics:
        if for_code(code) is not UnknownTopicOrPartitionError:
            _check(code, name)
            there[name] = partitions
    for name, configs in (await _configs(admin, ConfigResourceType.TOPIC, list(there))).items():
        partitions = there[name]
        replicas = min(len(partition[3]) for partition in partitions)
        found.topics[name] = FoundTopic(
            name,
            len(partitions),
            replicas,
            {key: value for key, value, _ in configs},
            {key: value for key, value, source in configs if source == _SET_ON_TOPIC},
        )
    return found


async def _configs(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: Sequence[str]
) -> dict[str, list[tuple[str, str, int]]]:
    """Key, value and source of every setting that has a value. Raises: AdminRefused.

    A topic that the broker which is asked has not heard of yet is left out: with several
    of them, it need not be the one that knew its name.
    """
    if not names:
        return {}
    found: dict[str, list[tuple[str, str, int]]] = {}
    for answer in await admin.describe_configs([ConfigResource(kind, name) for name in names]):
        for code, message, _, name, entries in answer.resources:
            if for_code(code) is UnknownTopicOrPartitionError:
                continue
            _check(code, name, message)
            found[name] = [(e[0], e[1], e[3]) for e in entries if e[1] is not None]
    return found


async def _create(admin: AIOKafkaAdminClient, plans: Sequence[TopicPlan], *, dry_run: bool) -> None:
    """Raises: AdminRefused."""
    if not plans:
        return
    topics = [
        # The empty assignment is how the library lets -1 through.
        NewTopic(plan.name, plan.partitions, plan.replication, _assignments(plan), plan.configs)
        for plan in plans
    ]
    answer = await admin.create_topics(topics, validate_only=dry_run)
    for name, code, *message in answer.topic_errors:
        if for_code(code) is not TopicAlreadyExistsError:  # somebody else was quicker
            _check(code, name, *message)


async def _settle(admin: AIOKafkaAdminClient, reports: Sequence[TopicReport]) -> None:
    """Until a broker knows topics and settings: it hears a moment after the controller."""
    changed = [item for item in reports if item.did in (Did.CREATED, Did.ALTERED)]
    while changed:
        found = (await _look(admin, [item.name for item in changed])).topics
        if all(item.name in found and _is_done(item, found[item.name]) for item in changed):
            return
        await asyncio.sleep(SETTLE_POLL_S)


def _is_done(report: TopicReport, found: FoundTopic) -> bool:
    left = (item for item in differences(report.plan, found) if item.is_alterable)
    return report.did is Did.CREATED or not any(left)


def _assignments(plan: TopicPlan) -> dict[int, list[int]] | None:
    return {} if plan.replication == -1 else None


async def _alter(
    admin: AIOKafkaAdminClient, topic: FoundTopic, wanted: Sequence[Difference]
) -> None:
    """The request replaces all of a topic's own settings, so it names those that stay."""
    configs = {**topic.overrides, **{item.setting: item.wanted for item in wanted}}
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, configs)
    for answer in await admin.alter_configs([resource]):
        for code, message, _, name in answer.resources:
            _check(code, name, message)


async def _creates_by_itself(admin: AIOKafkaAdminClient) -> bool:
    """False also where this user may not look."""
    node = str(admin._client.get_random_node())  # noqa: SLF001
    try:
        found = await _configs(admin, ConfigResourceType.BROKER, [node])
    except AdminRefused:
        return False
    return ("auto.create.topics.enable", "true") in [(k, v) for k, v, _ in found[node]]


def _check(code: int, name: str, message: Any = None) -> None:
    if code:
        raise AdminRefused(f"{name}: {message or sentence(for_code(code)())}")
