"""A supervisor with fake workers: starts, keeps, replaces, takes over, ends."""

import os
import shutil
import signal
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Callable

import pytest

from serving.supervisor.sockets import CANNOT_START, NOT_NOW

from .conftest import FakeGateway, eventually


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def rows_counted(gateway: FakeGateway) -> float:
    url = f"http://127.0.0.1:{gateway.ports['metrics']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("driftgate_inference"))


def test_it_adopts_the_champion_and_every_worker_serves_it(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    status = gateway.admin.status()
    assert status["ready"]
    assert status["degraded"] == []
    assert [item["state"] for item in status["workers"]] == ["ready", "ready"]
    digits = status["models"]["digits"]
    assert digits["deployment"]["stable"]["version"] == "1"
    assert digits["loaded"]["1"]["workers"] == 2
    assert digits["applied_generation"] == 1
    assert gateway.arms() == [{"1": 100}, {"1": 100}]


def test_a_gateway_without_models_is_ready_and_takes_the_first_one(gateway: FakeGateway) -> None:
    gateway.start()
    assert gateway.admin.status()["ready"]
    gateway.push()
    eventually(lambda: gateway.arms() == [{"1": 100}, {"1": 100}])


def test_an_alias_that_moves_starts_a_rollout_with_the_configured_steps(
    make_gateway: Callable[..., FakeGateway],
) -> None:
    gateway = make_gateway(rollout_steps=(10, 100))
    gateway.push()
    gateway.start()
    gateway.push("better")
    eventually(lambda: gateway.arms() == [{"1": 90, "2": 10}] * 2)
    result = gateway.tell("ADVANCE")
    assert result["accepted"]
    assert int(result["applied_ns"]) >= int(result["accepted_ns"])
    assert result["workers"] == 2
    assert gateway.arms() == [{"2": 100}] * 2
    assert gateway.deployment()["previous"]["version"] == "1"


def test_a_rollback_goes_to_the_version_kept_warm_with_the_registry_gone(
    gateway: FakeGateway,
) -> None:
    gateway.push()
    gateway.start()
    gateway.push("other")
    eventually(lambda: gateway.arms() == [{"1": 95, "2": 5}] * 2)
    assert gateway.tell("PROMOTE")["workers"] == 2
    shutil.move(gateway.state / "registry", gateway.state / "gone")
    result = gateway.tell("ROLLBACK", reason="complaints")
    assert result["workers"] == 2
    assert gateway.arms() == [{"1": 100}] * 2
    assert result["undo"] == f"driftgate rollout undo digits --if-generation {3 + 1}"
    assert gateway.tell("UNDO")["workers"] == 2
    assert gateway.arms() == [{"2": 100}] * 2


def test_a_candidate_that_cannot_be_loaded_is_aborted_and_quarantined(
    gateway: FakeGateway,
) -> None:
    gateway.push()
    gateway.start()
    gateway.push("cannot load")
    eventually(lambda: gateway.deployment()["quarantined"])
    deployment = gateway.deployment()
    assert deployment["phase"] == "STABLE"
    assert "golden samples" in deployment["history"][-1]["reason"]
    assert deployment["history"][-1]["actor"] == "supervisor"
    assert gateway.arms() == [{"1": 100}] * 2
    status = gateway.admin.status()
    assert status["ready"]
    assert any("golden samples" in item for item in status["degraded"])
    assert "quarantined" in gateway.tell("START", version={"version": "2"})["error"]


def test_a_candidate_that_ends_every_worker_that_loads_it_is_aborted(
    gateway: FakeGateway,
) -> None:
    gateway.push()
    gateway.start()
    gateway.push("ends the worker")
    eventually(lambda: gateway.deployment()["quarantined"])
    assert "workers ended while they loaded it" in gateway.deployment()["history"][-1]["reason"]
    eventually(lambda: gateway.arms() == [{"1": 100}] * 2)
    assert gateway.deployment()["phase"] == "STABLE"
    assert gateway.admin.status()["ready"]


def test_a_first_version_that_ends_every_worker_makes_room_for_the_next(
    gateway: FakeGateway,
) -> None:
    gateway.start()
    gateway.push("ends the worker")
    eventually(lambda: gateway.deployment()["quarantined"])
    gateway.push()
    eventually(lambda: gateway.arms() == [{"2": 100}] * 2)


def test_a_stable_that_cannot_be_loaded_gives_way_to_the_one_that_serves(
    gateway: FakeGateway,
) -> None:
    gateway.push()
    gateway.start()
    gateway.push("cannot load", champion=False)
    gateway.tell("START", version={"version": "2"}, steps=[100])
    eventually(lambda: gateway.deployment()["stable"]["version"] == "1")
    assert gateway.arms() == [{"1": 100}] * 2
    assert len(gateway.deployment()["quarantined"]) == 1


def test_a_first_version_that_cannot_be_loaded_makes_room_for_the_next(
    gateway: FakeGateway,
) -> None:
    gateway.push("cannot load")
    gateway.start()
    eventually(lambda: gateway.deployment()["phase"] == "EMPTY")
    gateway.push("works")
    eventually(lambda: gateway.arms() == [{"2": 100}] * 2)


def test_a_weight_waits_until_the_candidate_is_loaded(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    gateway.push("slow to load", champion=False)
    command = {"verb": "START", "model": "digits", "version": {"version": "2"}}
    result = gateway.admin.apply(command, wait_ms=0)
    assert result["accepted"]
    assert result["applied_ns"] == "0"
    assert gateway.arms() == [{"1": 100}] * 2
    assert gateway.admin.status()["models"]["digits"]["applied_generation"] < 2
    eventually(lambda: gateway.arms() == [{"1": 95, "2": 5}] * 2)


def test_workers_that_serve_load_one_after_the_other(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    gateway.push("slow to load")
    eventually(lambda: gateway.arms() == [{"1": 95, "2": 5}] * 2)
    lines = [path.read_text() for path in (gateway.state / "run").glob("*.loads")]
    times = sorted(
        (int(began), int(ended))
        for version, began, ended in (line.split() for line in "".join(lines).splitlines())
        if version == "2"
    )
    (_, first_ended), (second_began, _) = times
    assert first_ended < second_began


def test_a_version_that_nothing_names_is_unloaded(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    for number in ("2", "3"):
        gateway.push(number, champion=False)
        assert gateway.tell("START", version={"version": number}, steps=[100])["workers"] == 2

    def loaded() -> set[str]:
        return set(gateway.admin.status()["models"]["digits"]["loaded"])

    eventually(lambda: loaded() == {"2", "3"})
    eventually(lambda: len(list((gateway.state / "cache").iterdir())) >= 2)


def test_a_killed_worker_is_replaced_and_its_counts_stay(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    before = gateway.pids()
    assert rows_counted(gateway) == 20
    os.kill(before[0], signal.SIGKILL)

    def replaced() -> bool:
        now = gateway.pids()
        return len(now) == 2 and before[0] not in now

    eventually(replaced)
    assert rows_counted(gateway) == 30
    assert gateway.arms() == [{"1": 100}] * 2
    assert gateway.admin.status()["ready"]
    assert "ended: SIGKILL" in gateway.errors()


def test_workers_that_die_at_once_are_started_ever_later_and_the_rest_is_told(
    gateway: FakeGateway,
) -> None:
    gateway.state.mkdir(exist_ok=True)
    (gateway.state / "crash").touch()
    gateway.push()
    gateway.launch()
    eventually(lambda: gateway.errors().count("SIGKILL") >= 4)
    status = eventually(gateway.admin.status)
    assert not status["ready"]
    assert "0 of 2 workers serve" in status["degraded"]
    (gateway.state / "crash").unlink()
    eventually(lambda: gateway.admin.status()["ready"])


def test_sigterm_drains_every_worker_and_ends_with_0(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    pids = gateway.pids()
    assert gateway.stop() == 0
    assert not any(alive(pid) for pid in pids)
    assert list((gateway.state / "run").glob("*.sock")) == []


def test_a_killed_supervisor_is_relieved_by_the_next_one(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    old = gateway.pids()
    gateway.push("other")
    eventually(lambda: gateway.arms() == [{"1": 95, "2": 5}] * 2)
    before = gateway.deployment()
    gateway.process.kill()
    gateway.process.wait()
    assert all(alive(pid) for pid in old)
    gateway.start()
    eventually(lambda: not any(alive(pid) for pid in old))
    assert len(gateway.pids()) == 2
    assert gateway.deployment() == before
    assert gateway.arms() == [{"1": 95, "2": 5}] * 2
    assert rows_counted(gateway) == 40
    assert gateway.admin.verify_audit()["ok"]


def test_a_start_with_the_registry_gone_serves_the_last_good_state(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    eventually(lambda: any((gateway.state / "cache").glob("*/manifest.json")))
    assert gateway.stop() == 0
    shutil.rmtree(gateway.state / "registry")
    (gateway.state / "registry").write_text("not a registry")
    gateway.start()
    assert gateway.arms() == [{"1": 100}] * 2
    status = gateway.admin.status()
    assert status["ready"]
    assert not status["registry"]["up"]
    assert "the registry cannot be read" in status["degraded"][0]


def test_a_damaged_blob_at_start_is_named_and_the_cache_serves(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    eventually(lambda: any((gateway.state / "cache").glob("*/manifest.json")))
    assert gateway.stop() == 0
    for blob in (gateway.state / "registry").rglob("*"):
        if blob.is_file() and blob.stat().st_size == len_of_model(gateway):
            blob.chmod(0o600)
            data = bytearray(blob.read_bytes())
            data[40] ^= 1
            blob.write_bytes(data)
    gateway.start()
    assert gateway.arms() == [{"1": 100}] * 2


def len_of_model(gateway: FakeGateway) -> int:
    return gateway.registry.manifest("digits", "1").model_file.bytes


def test_sighup_replaces_the_supervisor_in_place_and_every_worker(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    old, ports = gateway.pids(), gateway.ports
    gateway.process.send_signal(signal.SIGHUP)
    assert gateway.process.stdout is not None
    assert gateway.process.stdout.readline().startswith("ready ")
    assert gateway.process.poll() is None
    assert gateway.ports == ports
    eventually(lambda: not any(alive(pid) for pid in old))
    eventually(lambda: len(gateway.pids()) == 2)
    assert gateway.arms() == [{"1": 100}] * 2
    assert gateway.stop() == 0


def test_signals_in_quick_succession_lose_no_listener_and_none_is_lost(
    gateway: FakeGateway,
) -> None:
    gateway.push()
    gateway.start()
    before = gateway.pids()
    for _ in range(60):  # over all of the time that an exec and the imports take
        gateway.process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        assert gateway.process.poll() is None
    eventually(lambda: len(gateway.pids()) == 2 and not {*before} & {*gateway.pids()})
    gateway.process.send_signal(signal.SIGHUP)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(30) == 0
    assert not list((gateway.state / "run").glob("*.sock"))


def test_a_start_that_a_lock_prevents_is_one_line_and_may_be_tried_again(
    gateway: FakeGateway,
) -> None:
    gateway.push()
    gateway.start()
    assert gateway.stop() == 0
    blocker = sqlite3.connect(gateway.state / "control.db", isolation_level=None)
    blocker.execute("PRAGMA locking_mode=EXCLUSIVE")
    blocker.execute("BEGIN EXCLUSIVE")
    gateway.launch()
    assert gateway.process.wait(30) == NOT_NOW
    (line,) = gateway.errors().splitlines()
    assert line.startswith("error: the state directory ")
    assert "control.db cannot be used now: database is locked" in line
    blocker.close()
    gateway.start()
    assert gateway.arms() == [{"1": 100}] * 2


def test_one_supervisor_per_state_directory(gateway: FakeGateway) -> None:
    gateway.start()
    gateway.launch()
    assert gateway.process.wait(30) == CANNOT_START
    assert "another gateway runs in" in gateway.errors()


@pytest.mark.parametrize("port", ["http_port", "grpc_port", "admin_port", "metrics_port"])
def test_a_port_of_another_program_is_not_shared(
    make_gateway: Callable[..., FakeGateway], port: str
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        gateway = make_gateway(**{port: other.getsockname()[1]})
        gateway.launch()
        assert gateway.process.wait(30) == CANNOT_START
        assert f"is in use; free it or set {port}" in gateway.errors()


def test_the_admin_port_is_not_opened_to_a_network_by_accident(
    make_gateway: Callable[..., FakeGateway],
) -> None:
    gateway = make_gateway(admin_host="0.0.0.0")
    gateway.launch()
    assert gateway.process.wait(30) == CANNOT_START
    assert "set admin_plaintext = true" in gateway.errors()


def test_what_happened_is_audited_with_the_time_it_took(gateway: FakeGateway) -> None:
    gateway.push()
    gateway.start()
    gateway.push("cannot load")
    eventually(lambda: gateway.deployment()["quarantined"])

    def told() -> list[tuple[str, str | None]]:
        return [(item["kind"], item["body"].get("verb")) for item in gateway.admin.audit("digits")]

    eventually(lambda: ("live", "abort") in told())
    verbs = [
        item["body"]["command"]["verb"]
        for item in gateway.admin.audit("digits")
        if item["kind"] == "accepted"
    ]
    assert verbs == ["ADOPT", "START", "ABORT"]
    assert ("live", "adopt") in told()
    assert ("load-failed", None) in told()
