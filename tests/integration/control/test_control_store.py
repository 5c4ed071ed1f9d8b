"""The store keeps what it accepted: through restarts, kills and damaged files."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from serving.core.rollout_codec import command_to_proto
from serving.core.rollout_state import (
    Accepted,
    Command,
    Origin,
    Refused,
    Repeated,
    Verb,
    Version,
)
from serving.store.audit import verify_audit
from serving.store.control_log import ConflictError, SqliteControlLog
from serving.store.control_store import ControlStore, version_named
from serving.store.files import StoreError
from tests.spoiled_schema import spoil_schema

V1, V2, V3 = (Version(str(n), f"{n}" * 64) for n in (1, 2, 3))


def command(id: str, verb: Verb, version: Version | None = None, *, ts_ns: int = 1) -> Command:
    return Command(id, ts_ns, "ann", Origin.CLI, "digits", verb, version)


def filled(folder: Path) -> ControlStore:
    store = ControlStore(folder, 0)
    for item in (
        command("a", Verb.ADOPT, V1),
        command("b", Verb.START, V2),
        command("c", Verb.ADVANCE),
    ):
        assert isinstance(store.apply(item).outcome, Accepted)
    return store


def reopened(store: ControlStore, folder: Path) -> ControlStore:
    store.close()
    return ControlStore(folder, 9)


def test_a_restart_folds_to_the_same_state(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    store = reopened(store, tmp_path)
    assert store.deployments == before
    assert verify_audit(tmp_path) == (3, [])
    store.close()


def test_a_repeated_command_gets_its_first_answer(tmp_path: Path) -> None:
    store = filled(tmp_path)
    first = store.apply(command("d", Verb.ROLLBACK, ts_ns=77)).result
    store = reopened(store, tmp_path)
    again = store.apply(command("d", Verb.ROLLBACK, ts_ns=99))
    assert isinstance(again.outcome, Repeated)
    assert again.result.duplicate
    assert again.result.accepted_ns == 77
    assert again.result.after.generation == first.after.generation
    assert store.deployment("digits").generation == first.after.generation
    store.close()


@pytest.mark.parametrize(("model", "verb"), [("digits", Verb.PAUSE), ("other", Verb.ROLLBACK)])
def test_an_id_of_another_command_is_refused(tmp_path: Path, model: str, verb: Verb) -> None:
    store = filled(tmp_path)
    store.apply(command("d", Verb.ROLLBACK))
    before = dict(store.deployments)
    again = store.apply(Command("d", 2, "ann", Origin.CLI, model, verb))
    assert isinstance(again.outcome, Refused)
    assert not again.result.accepted
    assert "ROLLBACK of digits" in again.result.error
    assert store.deployments == before
    store.close()


def test_a_refused_command_is_audited_and_changes_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    applied = store.apply(command("d", Verb.START, V1))
    assert isinstance(applied.outcome, Refused)
    assert not applied.result.accepted
    assert store.deployments == before
    assert store.entries("digits", 3, 10)[0].kind == "refused"
    store.close()


def test_a_dry_run_leaves_no_trace(tmp_path: Path) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    applied = store.apply(command("d", Verb.ROLLBACK), dry_run=True)
    assert applied.result.accepted
    assert applied.result.dry_run
    assert applied.result.after.generation == 4
    assert store.deployments == before
    assert verify_audit(tmp_path) == (3, [])
    assert not store.seen("d")
    store.close()


def test_a_log_refuses_an_append_after_an_entry_that_is_not_the_last(tmp_path: Path) -> None:
    store = filled(tmp_path)
    other = SqliteControlLog(tmp_path / "control.db")
    result = store.apply(command("x", Verb.NOTE), dry_run=True).result
    with pytest.raises(ConflictError):
        other.append(command_to_proto(command("x", Verb.NOTE)), result, 2)
    assert other.append(command_to_proto(command("x", Verb.NOTE)), result, 3) == 4
    other.close()
    store.close()


@pytest.mark.parametrize(
    "damage", ["header", "middle", "schema", "empty", "missing", "truncated log"]
)
def test_a_damaged_log_is_set_aside_and_the_last_good_state_serves(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    store.close()
    spoil(tmp_path / "control.db", damage)
    store = ControlStore(tmp_path, 9)
    assert store.deployments == before
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("control.db is damaged")
    assert "from the snapshot" in said[0]
    if damage != "missing":
        assert list(tmp_path.glob("control.db.damaged-*"))
    assert isinstance(store.apply(command("d", Verb.ROLLBACK)).outcome, Accepted)
    after = dict(store.deployments)
    store = reopened(store, tmp_path)
    assert store.deployments == after
    assert verify_audit(tmp_path)[1] == []
    store.close()


def spoil(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[0:64] = b"\xff" * 64
        path.write_bytes(data)
    elif damage == "middle":
        for offset in range(4096, len(data), 4096):
            data[offset : offset + 64] = b"\xee" * 64
        path.write_bytes(data)
    elif damage == "schema":
        spoil_schema(path)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    else:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("DELETE FROM commands WHERE sequence = 3")
        connection.close()


def test_without_a_snapshot_the_audit_log_restores_the_state(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    store.close()
    spoil(tmp_path / "control.db", "header")
    (tmp_path / "control.snapshot.json").write_text("not a snapshot")
    store = ControlStore(tmp_path, 9)
    assert store.deployments == before
    assert "from the audit log" in capfd.readouterr().err
    store.close()


@pytest.mark.parametrize("damage", ["header", "schema"])
def test_a_damaged_audit_log_is_set_aside_and_its_length_remembered(
    tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    store.close()
    spoil(tmp_path / "audit.db", damage)
    store = ControlStore(tmp_path, 9)
    assert store.deployments == before
    assert "audit.db is damaged" in capfd.readouterr().err
    entries = store.entries("", 0, 10)
    assert entries[0].kind == "chain-restarted"
    assert '"entries_before":3' in entries[0].body
    assert verify_audit(tmp_path)[1] == []
    store.close()


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE entries SET body = replace(body, 'ann', 'eve') WHERE sequence = 2",
        "DELETE FROM entries WHERE sequence = 2",
        "DELETE FROM entries WHERE sequence = 3",
        "UPDATE entries SET sequence = 9 WHERE sequence = 3",
    ],
)
def test_verify_finds_what_was_done_to_the_audit_log(tmp_path: Path, tamper: str) -> None:
    store = filled(tmp_path)
    connection = sqlite3.connect(tmp_path / "audit.db", isolation_level=None)
    connection.execute(tamper)
    connection.close()
    assert verify_audit(tmp_path)[1]
    store.close()


def test_verify_says_that_an_audit_log_cannot_be_read(tmp_path: Path) -> None:
    filled(tmp_path).close()
    spoil(tmp_path / "audit.db", "schema")
    read, (said,) = verify_audit(tmp_path)
    assert read == 0
    assert said.startswith("audit.db cannot be read")


def test_an_audit_log_without_its_head_is_not_called_whole(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.close()
    (tmp_path / "audit.head").unlink()
    assert "audit.head is missing" in verify_audit(tmp_path)[1][0]


@pytest.mark.parametrize("tamper", ["truncated", "rewritten", "no head", "no log"])
def test_a_restart_does_not_hide_what_was_done_to_the_audit_log(
    tmp_path: Path, tamper: str, capfd: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    store.close()
    if tamper == "no log":
        for path in tmp_path.glob("audit.db*"):
            path.unlink()
    elif tamper == "no head":
        (tmp_path / "audit.head").unlink()
    else:
        connection = sqlite3.connect(tmp_path / "audit.db", isolation_level=None)
        connection.execute(
            "DELETE FROM entries WHERE sequence = 3"
            if tamper == "truncated"
            else f"UPDATE entries SET digest = '{'0' * 64}' WHERE sequence = 3"
        )
        connection.close()
    store = ControlStore(tmp_path, 9)
    assert "audit.db is damaged" in capfd.readouterr().err
    assert store.entries("", 0, 10)[0].kind == "chain-restarted"
    assert store.deployments == before
    assert isinstance(store.apply(command("d", Verb.ROLLBACK)).outcome, Accepted)
    assert list(tmp_path.glob("audit.db.damaged-*"))
    store.close()


@pytest.mark.parametrize("name", ["control.db", "audit.db"])
def test_a_file_that_is_only_locked_is_not_set_aside(tmp_path: Path, name: str) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    store.close()
    blocker = sqlite3.connect(tmp_path / name, isolation_level=None)
    blocker.execute("PRAGMA locking_mode=EXCLUSIVE")
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=f"{name} cannot be used now: database is locked"):
        ControlStore(tmp_path, 9)
    blocker.close()
    store = ControlStore(tmp_path, 9)
    assert store.deployments == before
    assert not list(tmp_path.glob("*.damaged-*"))
    assert verify_audit(tmp_path) == (3, [])
    store.close()


def test_an_entry_that_a_crash_kept_from_the_audit_log_is_written_at_start(
    tmp_path: Path,
) -> None:
    store = filled(tmp_path)
    result = store.apply(command("d", Verb.ROLLBACK), dry_run=True).result
    result.dry_run = False
    store.close()
    log = SqliteControlLog(tmp_path / "control.db")
    log.append(command_to_proto(command("d", Verb.ROLLBACK)), result, 3)
    log.close()
    store = ControlStore(tmp_path, 9)
    assert store.deployment("digits").candidate is None
    last = store.entries("digits", 3, 10)[-1]
    assert last.kind == "accepted"
    assert '"recovered":true' in last.body
    assert verify_audit(tmp_path)[1] == []
    store.close()


def test_a_disk_that_refuses_leaves_the_state_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path)
    before = dict(store.deployments)
    blocker = sqlite3.connect(tmp_path / "control.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    store._log._connection.execute("PRAGMA busy_timeout=10")  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        store.apply(command("d", Verb.ROLLBACK))
    assert store.deployments == before
    blocker.execute("ROLLBACK")
    blocker.close()
    assert isinstance(store.apply(command("d", Verb.ROLLBACK)).outcome, Accepted)
    store.close()


WRITER = """
import sys
from pathlib import Path
from serving.store.control_store import ControlStore
from serving.core.rollout_state import Command, Origin, Verb, Version
store = ControlStore(Path(sys.argv[1]), 0)
n = store.deployment("digits").generation
if n == 0:
    first = Version("1", "1" * 64)
    store.apply(Command("adopt", 1, "ann", Origin.CLI, "digits", Verb.ADOPT, first))
print("open", flush=True)
for n in range(n, n + 100000):
    version = Version(str(n + 2), f"{n + 2:064x}")
    result = store.apply(Command(f"s{n}", n + 2, "ann", Origin.CLI, "digits", Verb.START, version))
    print(result.result.after.generation, flush=True)
"""


@pytest.mark.parametrize("round", range(3))
def test_what_was_answered_survives_a_kill_in_mid_append(tmp_path: Path, round: int) -> None:
    seen = 1
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for _ in range(5 + 3 * round):
            seen = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        seen = int(rest[-2]) if len(rest) > 1 else seen
        process.stdout.close()
        process.wait()
        store = ControlStore(tmp_path, 9)
        assert store.deployment("digits").generation in {seen, seen + 1}
        assert verify_audit(tmp_path)[1] == []
        assert store.audit.last_command_sequence() == store.deployment("digits").generation
        store.close()


def test_a_version_is_found_by_its_name_in_what_has_served(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.apply(command("d", Verb.ABORT))
    assert version_named(store.deployment("digits"), "2") == V2
    assert version_named(store.deployment("digits"), "9") is None
    store.close()
