"""Every durable file damaged between two starts: set aside, named, and the system serves."""

import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from driftgate.story.models import ensure_first_version
from driftgate.story.system import System, wait_for
from tests.faults.test_ledger_after_kills import healthy
from tests.kills import victims
from tests.spoiled_schema import spoil_schema

pytestmark = [pytest.mark.ci, pytest.mark.timeout(300)]
ROWS_PER_S = 400.0


def traffic(system: System) -> None:
    """A second of requests with their labels, of which none may fail."""
    before = sum(len(journal.requests) for journal in system.journals)
    system.send_traffic()
    time.sleep(1.0)
    system.end_traffic()
    sent = [request for journal in system.journals for request in journal.requests]
    assert len(sent) > before
    assert not any(request.failed for request in sent)


def all_read(system: System) -> bool:
    """Nothing waits, and nothing is on its way from a worker or to the books; a loss stays."""
    return not any(line["spooled"] or line["unexplained"] for line in system.ledger())


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a system that was killed as a whole in mid-traffic."""
    state = tmp_path_factory.mktemp("aged")
    with System(state, ROWS_PER_S) as system:
        ensure_first_version(system.registry_dir)
        system.start()
        traffic(system)
        wait_for("a cached copy of what serves", lambda: [*state.glob("cache/*/manifest.json")], 30)
        system.send_traffic()
        time.sleep(1.0)
        assert system._up is not None
        up = system._up.pid
        kinds = {kind: victims(up, kind) for kind in ("supervisor", "monitor", "worker")}
        for pid in (up, *kinds["supervisor"], *kinds["monitor"], *kinds["worker"]):
            os.kill(pid, signal.SIGKILL)
        system._up.wait()
    return state


def garbage(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes((b"\xde\xad\xbe\xef" * (size // 4 + 16))[: max(size, 64)])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_folded(path: Path) -> None:
    """Cut a database whose write-ahead log has been folded into it."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    cut(path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def with_wal(pattern: str) -> tuple[str, ...]:
    return pattern, f"{pattern}-wal"


Damage = Callable[[Path], None]
# What is done to which files, and the file that a line must name ("": nothing was lost).
CASES: dict[str, tuple[Damage, tuple[str, ...], str]] = {
    "blobs with a flipped bit": (flip, ("registry/blobs/**/*",), ""),
    "cached bytes with a flipped bit": (flip, ("cache/*/*",), ""),
    "registry index of garbage": (garbage, with_wal("registry/index.db"), "index.db"),
    "segments of garbage": (garbage, with_wal("log/*.db"), ".db"),
    # The end of a write-ahead log that is gone reads as never written: rows lost in a crash.
    "segments cut in half": (cut, with_wal("log/*.db"), ""),
    "ledger slabs cut in half": (cut, ("log/*.slab",), ".slab"),
    "ledger slabs of garbage": (garbage, ("log/*.slab",), ".slab"),
    "control log of garbage": (garbage, with_wal("control.db"), "control.db"),
    "control log and snapshot of garbage": (
        garbage, (*with_wal("control.db"), "control.snapshot.json"), "control.db",
    ),
    "audit of garbage": (garbage, with_wal("audit.db"), "audit.db"),
    "audit head of garbage": (garbage, ("audit.head",), ""),
    "monitor state of garbage": (garbage, with_wal("monitor/monitor.db"), "monitor.db"),
    "every schema with a flipped bit": (
        spoil_schema,
        ("log/*.db", "control.db", "audit.db", "monitor/monitor.db", "registry/index.db"),
        "monitor.db",
    ),
    "monitor state cut in half": (cut_folded, ("monitor/monitor.db",), "monitor.db"),
    # What is left may well be a sound, older state.
    "the monitor's write-ahead log cut in half": (cut, ("monitor/monitor.db-wal",), ""),
    "id keys of garbage": (garbage, ("id.keys",), "id.keys"),
    "id keys cut in half": (cut, ("id.keys",), "id.keys"),
    "an admin token of garbage": (garbage, ("admin.token",), "admin.token"),
    "an empty admin token": (empty, ("admin.token",), ""),
    "what ran, of garbage": (garbage, ("run/*",), ""),
    "positions of garbage": (garbage, ("log/positions/*",), ""),
    "everything at once": (
        garbage,
        (*with_wal("log/*.db"), "log/*.slab", *with_wal("control.db"), *with_wal("audit.db"),
         *with_wal("monitor/monitor.db"), "id.keys", "admin.token", "run/*", "log/positions/*",
         *with_wal("registry/index.db")),
        "control.db",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "patterns", "named"), CASES.values(), ids=CASES)
def test_a_damaged_file_is_named_and_the_system_serves_its_last_good_state(
    aged: Path, tmp_path: Path, damage: Damage, patterns: tuple[str, ...], named: str
) -> None:
    state = tmp_path / "state"
    shutil.copytree(aged, state, ignore=shutil.ignore_patterns("*.sock"))
    shutil.rmtree(state / "journal")
    damaged = [path for pattern in patterns for path in state.glob(pattern) if path.is_file()]
    assert damaged
    for path in damaged:
        path.chmod(0o600)
        damage(path)
    with System(state, ROWS_PER_S) as system:
        system.start()
        wait_for("both workers", lambda: healthy(system), 60)
        assert system.deployment()["stable"]["version"] == "1"
        traffic(system)
        wait_for("the log is read", lambda: all_read(system), 60)
        for line in system.ledger():
            assert line["acknowledged"] == line["delivered"] + sum(line["gaps"].values()), line
        said = system.log_path.read_text()
    lines = [line for line in said.splitlines() if "set aside" in line]
    if named:
        assert any(named in line for line in lines), said
    assert "Traceback" not in said, said
    assert json.loads((state / "log/positions/monitor.json").read_text())
