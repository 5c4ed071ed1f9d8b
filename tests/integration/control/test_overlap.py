"""Real workers under load: nobody notices a reload, or a supervisor that was killed."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.settings import GatewaySettings
from serving.supervisor.config import SupervisorConfig

from .conftest import FakeGateway, eventually

pytestmark = pytest.mark.ci

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]})


class Load:
    """Clients that keep asking, with kept and with new connections."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self.versions: set[str] = set()
        self._port = port
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(keep,)) for keep in (True, True, False)
        ]

    def _ask(self, keep: bool) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("POST", "/v2/models/digits/infer", BODY)
                response = connection.getresponse()
                document = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                connection.close()
                connection = None
                continue
            if response.status != 200:
                self.failed.append(str(document))
            else:
                self.answered += 1
                self.versions.add(document["model_version"])
            if not keep or response.getheader("connection") == "close":
                connection.close()
                connection = None
            time.sleep(0.002)
        if connection is not None:
            connection.close()

    @contextmanager
    def running(self) -> Iterator["Load"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def some_more(self, count: int = 200) -> None:
        target = self.answered + count
        eventually(lambda: self.answered >= target)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[FakeGateway]:
    gateway = FakeGateway(tmp_path, drain_s=10.0)
    gateway.argv = ("-m", "serving")
    gateway.push()
    yield gateway.start()
    gateway.clean_up()


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_no_request_fails_through_rollouts_a_reload_and_a_killed_supervisor(
    real: FakeGateway,
) -> None:
    ports = real.ports
    with Load(ports["http"]).running() as load:
        load.some_more()
        real.push("v2", champion=False)
        assert real.tell("START", version={"version": "2"}, steps=[50, 100])["workers"] == 2
        load.some_more()
        assert load.versions == {"1", "2"}
        assert real.tell("PROMOTE")["workers"] == 2
        assert real.tell("ROLLBACK")["workers"] == 2
        load.some_more()
        old = real.pids()
        real.process.send_signal(signal.SIGHUP)
        eventually(lambda: gone(old))
        load.some_more()
        assert load.failed == []
        old = real.pids()
        real.process.kill()
        real.process.wait()
        load.some_more()
        real.config = SupervisorConfig(
            real.state,
            real.state / "registry",
            GatewaySettings(
                **{f"{name}_port": port for name, port in ports.items()},
                workers=2,
                drain_s=10.0,
            ),
        )
        real.start()
        eventually(lambda: gone(old))
        load.some_more()
    assert load.failed == []
    assert real.stop() == 0


def test_a_killed_worker_costs_at_most_what_it_had_in_flight(real: FakeGateway) -> None:
    with Load(real.ports["http"]).running() as load:
        load.some_more()
        victim = real.pids()[0]
        os.kill(victim, signal.SIGKILL)

        def replaced() -> bool:
            now = real.pids()
            return len(now) == 2 and victim not in now

        eventually(replaced)
        load.some_more()
    assert len(load.failed) <= 3  # one request at a time on each of three connections
    assert real.stop() == 0
    for line in real.books():
        assert line.acknowledged == line.spooled + sum(line.gaps.values())
