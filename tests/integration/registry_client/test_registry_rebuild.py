import logging
import os
import sqlite3
from pathlib import Path

import pytest

from registry_client import EmbeddedRegistry, FileRole, Unavailable, fetch
from tests.registry_models import plain_model
from tests.spoiled_schema import spoil_schema


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    registry = EmbeddedRegistry(tmp_path / "registry")
    for model, versions in (("a", 2), ("b", 12)):
        for value in range(versions):
            registry.push(model, {"model.onnx": (FileRole.MODEL, plain_model(value))})
    registry.set_alias("a", "champion", "1", reason="first")
    registry.set_alias("a", "champion", "2", reason="second")
    registry.set_alias("b", "champion", "11")
    return registry.directory


def contents(registry: EmbeddedRegistry) -> object:
    return [
        (
            model,
            [registry.manifest(model, version) for version in registry.versions(model)],
            registry.aliases(model),
            registry.alias_history(model, "champion"),
            registry.alias(model, "champion")[1],
        )
        for model in registry.models()
    ]


def overwrite(folder: Path, data: bytes, offset: int = 0) -> None:
    with open(folder / "index.db", "r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def drop_index(folder: Path) -> None:
    (folder / "index.db").unlink()


def empty_index(folder: Path) -> None:
    (folder / "index.db").write_bytes(b"")


DAMAGES = {
    "garbage": lambda folder: (folder / "index.db").write_bytes(os.urandom(8192)),
    "a lost header": lambda folder: overwrite(folder, b"\0" * 100),
    "lost pages": lambda folder: overwrite(folder, b"\xff" * 4096, 4096),
    "a cut file": lambda folder: os.truncate(folder / "index.db", 5000),
    "a flipped bit in the schema": lambda folder: spoil_schema(folder / "index.db"),
    "an empty file": empty_index,
    "no file": drop_index,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_rebuilt_with_everything_in_it(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(EmbeddedRegistry(folder))
    DAMAGES[damage](folder)
    with caplog.at_level(logging.WARNING, "registry_client"):
        rebuilt = EmbeddedRegistry(folder)
    assert contents(rebuilt) == before
    (note,) = rebuilt.notes
    assert [record.getMessage() for record in caplog.records] == [note]
    assert "rebuilt from 14 manifests and 2 aliases" in note
    assert "\n" not in note
    with fetch(rebuilt, "a", "2") as fetched:
        assert fetched.manifest.version == "2"
    assert rebuilt.set_alias("a", "champion", "1", expected="2") == 3
    assert EmbeddedRegistry(folder).notes == []


def test_the_damaged_file_is_kept_aside(folder: Path) -> None:
    garbage = os.urandom(8192)
    (folder / "index.db").write_bytes(garbage)
    (note,) = EmbeddedRegistry(folder).notes
    (aside,) = folder.glob("index.db.corrupt-*")
    assert aside.name in note
    assert aside.read_bytes() == garbage


def test_a_file_that_cannot_be_read_back_is_skipped_and_counted(folder: Path) -> None:
    (folder / "manifests" / "a" / "1.json").write_bytes(b"{}")
    (folder / "manifests" / "b" / "7.json").rename(folder / "manifests" / "a" / "7.json")
    (folder / "manifests" / "b" / "evil.json").symlink_to("/etc/passwd")
    (folder / "aliases" / "b" / "champion.json").write_bytes(b"[")
    drop_index(folder)
    rebuilt = EmbeddedRegistry(folder)
    assert rebuilt.versions("a") == ["2"]
    assert rebuilt.versions("b") == [str(n) for n in range(1, 13) if n != 7]
    assert rebuilt.aliases("a") == {"champion": "2"}
    assert rebuilt.alias("a", "champion")[1] == 2
    assert rebuilt.aliases("b") == {}
    assert "12 manifests and 1 aliases (4 unreadable files skipped)" in rebuilt.notes[0]


def test_an_index_of_a_newer_program_is_left_alone(folder: Path) -> None:
    connection = sqlite3.connect(folder / "index.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unavailable, match="schema 99"):
        EmbeddedRegistry(folder)
    assert not list(folder.glob("index.db.corrupt-*"))


def test_a_new_registry_has_nothing_to_say(tmp_path: Path) -> None:
    assert EmbeddedRegistry(tmp_path / "new").notes == []


def test_what_a_killed_push_left_behind_goes_after_a_day(folder: Path) -> None:
    old, fresh = folder / "tmp" / "old", folder / "tmp" / "fresh"
    for path in (old, fresh):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    EmbeddedRegistry(folder)
    assert not old.exists()
    assert fresh.exists()
