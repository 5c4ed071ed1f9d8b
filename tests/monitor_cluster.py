"""Monitors of one group on a real broker: their topics, machines, traffic, and what is right."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventlog import MemoryLog, Record
from eventlog.core.marks import heartbeat_record
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.topics import partition_of
from monitor.core.tree import unpack
from monitor.service import core_settings
from monitor.settings import MonitorSettings
from monitor.task import Parts, open_parts
from registry_client import open_source
from tests.broker.topics import make_topics, run, settings_for_test
from tests.monitor_process import Admin, Home, Process, wait_for
from tests.monitor_world import MODEL, START_NS, Traffic, Version

GOOD, BAD = Version("1"), Version("2", accuracy=0.5)
SETTINGS = MonitorSettings(
    port=0, tolerance=0.05, loss_tolerance=0.03, rows_min=100, lag_max_s=1e12, window_blocks=20,
    session_s=6.0, handover_s=1.0,
)  # fmt: skip


class Cluster:
    """Topics of their own, a registry and keys that all monitors share, and what is sent."""

    def __init__(self, address: str, path: Path, partitions: int = 3, **settings: Any) -> None:
        self.address, self.path = address, path
        self.kafka = settings_for_test(partitions=partitions, **settings)
        self.topics = make_topics(address, self.kafka)
        run(self._make_others())
        self.first = Home(path / "first", GOOD, BAD)
        self.log = KafkaLog(address, self.kafka)
        self.number = partition_of(MODEL, partitions)

    async def _make_others(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            compacted = {"cleanup.policy": "compact"}
            answer = await admin.create_topics(
                [
                    NewTopic(
                        self.topics.monitor, self.kafka.partitions, 1, topic_configs=compacted
                    ),
                    NewTopic(self.topics.dead_letters, 1, 1),
                ]
            )
            assert all(code == 0 for _, code, *_ in answer.topic_errors), answer
        finally:
            await admin.close()

    def home(self, name: str, *, keys: bool = True) -> Home:
        """Another machine's state directory."""
        home = Home(self.path / name)
        (home.path / "id.keys").unlink()
        if keys:
            shutil.copy(self.first.path / "id.keys", home.path)
        return home

    def monitor(self, home: Home, admin: Admin, **settings: Any) -> Process:
        return Process(
            home,
            admin,
            replace(SETTINGS, instance=home.path.name, **settings),
            registry_dir=str(self.first.path / "registry"),
            bootstrap=self.address,
            kafka=asdict(self.kafka),
        )

    def append(self, log: object, producer: str, records: list[Record]) -> None:
        self.log.append([self.first._with_digest(record) for record in records])

    def traffic(self, **fields: Any) -> Traffic:
        traffic = Traffic(MemoryLog(), append=self.append, stable=GOOD, **fields)
        self.log.append([heartbeat_record(name, 0, START_NS) for name in traffic.producers])
        return traffic

    def uninterrupted(self) -> Parts:
        """What one engine makes of all that was sent, in one go."""
        log = KafkaLog(self.address, self.kafka, only={self.number})
        lateness = replace(SETTINGS, lateness_s=SETTINGS.shipping_s)
        parts = open_parts(
            self.path / "uninterrupted" / "monitor.db",
            core_settings(lateness),
            log,
            self.first.ids.decode,
            open_source(self.first.path / "registry", ""),
            partitions=(f"predictions/{self.number}", f"labels/{self.number}"),
        )
        while parts.engine.read(1000):
            parts.engine.close_blocks(lambda closed: None)
        log.close()
        return parts

    def stored(self, home: Home) -> bytes:
        path = home.path / "monitor" / "partitions" / str(self.number) / "monitor.db"
        if not path.exists():
            return b""
        with closing(sqlite3.connect(path)) as database:
            rows = database.execute("SELECT data FROM state").fetchall()
        return bytes(rows[0][0]) if rows else b""

    def settled(self, home: Home, want: bytes) -> None:
        """Wait until a monitor has stored this state."""
        try:
            wait_for("its state is the same", lambda: self.stored(home) == want)
        except AssertionError as error:
            lines = differing(unpack(self.stored(home)), unpack(want))
            raise AssertionError("\n".join(lines)) from error


def partitions_of(process: Process) -> list[int]:
    state = process.state()
    if not state or "kafka" not in state:
        return []
    return [item["number"] for item in state["kafka"]["partitions"]]


def differing(got: Any, want: Any, path: str = "") -> list[str]:
    """Where two trees are not the same, so that a failure can be read."""
    if isinstance(got, dict) and isinstance(want, dict):
        names = sorted({*got, *want}, key=str)
        return [
            line
            for name in names
            for line in differing(got.get(name), want.get(name), f"{path}/{name}")
        ]
    same = got.tobytes() == want.tobytes() if hasattr(got, "tobytes") else got == want
    return [] if same else [f"{path}: {got!r:.200} != {want!r:.200}"]


def rows_of(process: Process) -> int:
    state = process.state()
    return state["models"].get(MODEL, {}).get("rows", 0) if state else 0
