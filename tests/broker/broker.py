"""A real Apache Kafka on loopback: a KRaft node that tests may kill, freeze and start again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loadtests.gateway import free_ports
from tests.conftest import require

ROOT = Path(__file__).parent.parent.parent
POM = Path(__file__).parent / "pom.xml"
JARS = ROOT / ".cache" / "kafka"  # resolved once; a change of the pom resolves anew
CLUSTER = "ZHJpZnRnYXRlLXRlc3RzMA"  # 16 bytes, as Kafka writes them
START_S = 120.0
# One small broker among many tests: the JVM should start fast, not run fast.
JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def jars() -> Path:
    """The folder with Kafka's jars. Skips the test without Java or Maven."""
    require("java")
    done = JARS / "pom.xml"
    if not done.exists() or done.read_bytes() != POM.read_bytes():
        mvn = require("mvn")
        JARS.parent.mkdir(exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="kafka-", dir=JARS.parent))
        command = [mvn, "-q", "-B", "-f", POM, "dependency:copy-dependencies"]
        subprocess.run([*command, f"-DoutputDirectory={scratch}"], check=True, timeout=600)
        shutil.copy(POM, scratch)
        shutil.rmtree(JARS, ignore_errors=True)
        scratch.rename(JARS)
    return JARS


class Broker:
    """One node, its data in `folder`; its address stays the same over restarts."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, str] | None = None,
        listeners: dict[str, str] | None = None,
    ) -> None:
        """settings: of server.properties, over ours; listeners: more of them, name to protocol."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        more = listeners or {}
        self.port, self.controller_port, *ports = free_ports(2 + len(more))
        self.ports = {"PLAINTEXT": self.port, **dict(zip(more, ports, strict=True))}
        public = ",".join(f"{name}://127.0.0.1:{port}" for name, port in self.ports.items())
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **more}
        self.settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"{public},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": public,
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
            "log.dirs": str(folder / "data"),
            "auto.create.topics.enable": "false",
            # Tests have clocks of their own; a topic that says nothing keeps what it has.
            "log.retention.ms": "-1",
            "offsets.topic.num.partitions": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._classpath = f"{jars()}/*"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def address_of(self, listener: str) -> str:
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def format(self, *options: str) -> None:
        """Make its data directory, unless there is one. options: as of `kafka-storage format`."""
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in self.settings.items()))
        if (self.folder / "data" / "meta.properties").exists():
            return
        command = ["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(path), *options]
        self._run(command)

    def start(self, *, wait: bool = True) -> None:
        self.format()
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *JVM, "-cp", self._classpath, "kafka.Kafka", "server.properties"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Until it answers; a broker accepts connections before it knows its own topics."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                tail = (self.folder / "broker.log").read_text()[-2000:]
                raise AssertionError(f"the broker ended with {self._process.returncode}: {tail}")
            if self._answers():
                return
            time.sleep(0.1)
        raise AssertionError("the broker did not answer in time")

    def _answers(self) -> bool:
        """Whether it answers ApiVersions, which it does once it has joined its quorum."""
        request = b"\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"  # key 18, version 0, no client id
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(len(request).to_bytes(4, "big") + request)
                return len(connection.recv(4)) == 4
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL: what it had answered is in the page cache."""
        self._signal(signal.SIGKILL)
        self._reap()

    def shut_down(self) -> None:
        """SIGTERM: it hands over what it leads, and leaves the replicas in sync."""
        self._signal(signal.SIGTERM)
        self._reap()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it in whatever state it is; harmless if it is down."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.kill()
        self._reap()

    def tool(self, name: str, *arguments: str) -> str:
        """Run one of Kafka's own tools, e.g. `org.apache.kafka.tools.TopicCommand`."""
        return self._run([name, *arguments])

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            ["java", *JVM, "-cp", self._classpath, *command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_S,
        )
        if done.returncode:
            raise AssertionError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout


@contextmanager
def running_broker(folder: Path, settings: dict[str, str] | None = None) -> Iterator[Broker]:
    """A broker of its own, for tests that hurt it."""
    broker = Broker(folder, settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker that all tests share, who keep to namespaces of their own.

    That of `KAFKA_BOOTSTRAP` where it is set.
    """
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with running_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.address
