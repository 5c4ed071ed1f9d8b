"""From the configuration document to a monitor of a group."""

import socket
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from eventlog.settings import KafkaSettings
from monitor.core.settings import CoreSettings
from monitor.kafka.group_monitor import GroupMonitor, Place
from monitor.kafka.membership import Member
from monitor.kafka.shared_ids import SharedIds
from monitor.service import core_settings
from monitor.settings import MonitorSettings
from monitor.world import World

PARTITIONS = "partitions"  # folder of one folder per partition


def open_group_monitor(world: World) -> GroupMonitor:
    settings = world.settings
    kafka = KafkaSettings(**world.document["kafka"])
    ids = SharedIds(world.state_dir)
    ids.known  # noqa: B018 - says at the start when there are no keys
    return GroupMonitor(
        Place(
            world.document["bootstrap"],
            kafka,
            member(settings, kafka, world.state_dir),
            world.home / PARTITIONS,
            settings.handover_s,
        ),
        shared_settings(settings),
        ids,
        world.source,
        world.automate,
        world.published,
    )


def shared_settings(settings: MonitorSettings) -> CoreSettings:
    """Rows come by way of shippers, whose ways differ."""
    lateness_s = max(settings.lateness_s, settings.shipping_s)
    return core_settings(replace(settings, lateness_s=lateness_s))


def member(settings: MonitorSettings, kafka: KafkaSettings, state_dir: Path) -> Member:
    """Two monitors of one host have state directories of their own, and so two names."""
    folder = sha256(str(state_dir.absolute()).encode()).hexdigest()[:6]
    return Member(
        f"{kafka.namespace}-monitor",
        settings.instance or f"{socket.gethostname()}-{folder}",
        settings.session_s,
    )
