"""Hostile names through every entry point: no file outside the folder is touched."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry_client import (
    EmbeddedRegistry,
    FileRole,
    InvalidName,
    Manifest,
    RegistryError,
    TritonRepository,
    fetch,
)
from registry_client.paths import open_beneath
from tests.registry_models import external_model, plain_model
from tests.registry_names import HOSTILE_NAMES

OPENED: list[str] | None = None


EVENTS = ("open", "os.scandir", "os.listdir", "os.rename", "os.remove")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if OPENED is not None and event in EVENTS:
        OPENED.append(str(arguments[0]))


sys.addaudithook(_watch)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths that this process opens, lists, renames or removes from now on."""
    global OPENED  # noqa: PLW0603
    OPENED = []
    yield OPENED
    OPENED = None


MODEL = {"model.onnx": (FileRole.MODEL, plain_model())}


def entry_points(
    embedded: EmbeddedRegistry, triton: TritonRepository, name: str
) -> list[Callable[[], object]]:
    return [
        lambda: embedded.versions(name),
        lambda: embedded.aliases(name),
        lambda: embedded.alias(name, "champion"),
        lambda: embedded.alias("m", name),
        lambda: embedded.alias_history(name, "champion"),
        lambda: embedded.alias_history("m", name),
        lambda: embedded.manifest(name, "1"),
        lambda: embedded.manifest("m", name),
        lambda: embedded.push(name, MODEL),
        lambda: embedded.push("m", MODEL, version=name),
        lambda: embedded.set_alias(name, "champion", "1"),
        lambda: embedded.set_alias("m", name, "1"),
        lambda: embedded.set_alias("m", "champion", name),
        lambda: embedded.verify(name),
        lambda: embedded.verify("m", name),
        lambda: fetch(embedded, name, "1"),
        lambda: fetch(embedded, "m", name),
        lambda: triton.versions(name),
        lambda: triton.aliases(name),
        lambda: triton.alias(name, "champion"),
        lambda: triton.alias("m", name),
        lambda: triton.manifest(name, "1"),
        lambda: triton.manifest("m", name),
        lambda: fetch(triton, name, "1"),
        lambda: fetch(triton, "m", name),
        lambda: open_beneath(triton.directory, name),
    ]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_opens_nothing_outside(tmp_path: Path, name: str, opened: list[str]) -> None:
    inside = tmp_path / "inside"
    embedded = EmbeddedRegistry(inside / "registry")
    embedded.push("m", MODEL)
    version = inside / "repo" / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(plain_model())
    triton = TritonRepository(inside / "repo")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    opened.clear()
    for enter in entry_points(embedded, triton, name):
        with pytest.raises(InvalidName):
            enter()
    for path in opened:  # relative ones are opened beneath a folder that is inside
        assert path.startswith(str(inside)) or path in ("m", "1", "config.pbtxt", "model.onnx")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_inside_a_manifest_or_a_model_is_refused(tmp_path: Path, name: str) -> None:
    embedded = EmbeddedRegistry(tmp_path / "registry")
    with pytest.raises(RegistryError):
        embedded.push("m", {**MODEL, name: (FileRole.EXTRA, b"x")})
    document = embedded.push("m", MODEL).to_json()
    quoted = ascii(name).strip("'\"").encode()
    with pytest.raises(RegistryError):
        Manifest.from_json(document.replace(b"model.onnx", quoted))
    if name.isprintable() and name:
        with pytest.raises(RegistryError):
            embedded.push("m", {"model.onnx": (FileRole.MODEL, external_model(name))})
    assert embedded.versions("m") == ["1"]


def test_the_watch_sees_what_is_opened(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "seen").write_bytes(b"")
    os.close(open_beneath(tmp_path, "seen"))
    assert str(tmp_path / "seen") in opened
    assert "seen" in opened
