import os
import resource
import sqlite3
from pathlib import Path

import pytest

from registry_client import (
    Conflict,
    Corrupt,
    EmbeddedRegistry,
    FileRole,
    Invalid,
    NotFound,
    TensorSpec,
    Unavailable,
    Unsafe,
)
from tests.registry_models import external_model, plain_model

WEIGHTS = bytes(range(64))


@pytest.fixture
def registry(tmp_path: Path) -> EmbeddedRegistry:
    return EmbeddedRegistry(tmp_path / "registry")


def push(registry: EmbeddedRegistry, model: str = "m", value: float = 1.0) -> str:
    files = {"model.onnx": (FileRole.MODEL, plain_model(value))}
    return registry.push(model, files).version


def push_external(registry: EmbeddedRegistry, weights: Path | bytes = WEIGHTS) -> str:
    files: dict[str, tuple[FileRole, Path | bytes]] = {
        "model.onnx": (FileRole.MODEL, external_model("w.bin")),
        "w.bin": (FileRole.EXTERNAL, weights),
    }
    return registry.push("m", files).version


def blob_of(registry: EmbeddedRegistry, version: str, name: str) -> Path:
    manifest = registry.manifest("m", version)
    sha256 = next(file.sha256 for file in manifest.files if file.name == name)
    return registry.directory / "blobs" / "sha256" / sha256


def test_what_is_pushed_is_there_as_pushed(registry: EmbeddedRegistry) -> None:
    pushed = registry.push(
        "m",
        {"model.onnx": (FileRole.MODEL, plain_model())},
        inputs=[TensorSpec("x", "FP32", (-1, 4))],
        lineage={"commit": "1a2b"},
        serving={"max_batch_size": 8},
    )
    assert registry.manifest("m", "1") == pushed
    assert registry.models() == ["m"]
    assert registry.versions("m") == ["1"]
    with registry.open(pushed, pushed.model_file) as stream:
        assert stream.read() == plain_model()


def test_versions_count_up_and_sort_as_numbers(registry: EmbeddedRegistry) -> None:
    files = {"model.onnx": (FileRole.MODEL, plain_model())}
    assert registry.push("m", files, version="9").version == "9"
    assert push(registry) == "10"
    assert registry.versions("m") == ["9", "10"]


def test_a_version_never_changes(registry: EmbeddedRegistry) -> None:
    push(registry)
    before = registry.manifest("m", "1")
    with pytest.raises(Conflict, match="exists already"):
        registry.push("m", {"model.onnx": (FileRole.MODEL, plain_model(2))}, version="1")
    assert registry.manifest("m", "1") == before


def test_a_blob_is_read_only(registry: EmbeddedRegistry) -> None:
    push(registry)
    assert blob_of(registry, "1", "model.onnx").stat().st_mode & 0o777 == 0o444


def test_equal_files_are_stored_once(registry: EmbeddedRegistry) -> None:
    push(registry)
    push(registry, "other")
    assert len(list((registry.directory / "blobs" / "sha256").iterdir())) == 1


def test_a_path_and_its_bytes_store_alike(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS)
    push_external(registry, tmp_path / "w")
    push_external(registry, WEIGHTS)
    assert blob_of(registry, "1", "w.bin") == blob_of(registry, "2", "w.bin")


def test_pushing_again_repairs_a_damaged_blob(registry: EmbeddedRegistry) -> None:
    push(registry)
    damage(blob_of(registry, "1", "model.onnx"), 5)
    assert registry.verify("m", "1")
    push(registry)
    assert registry.verify("m") == []


def test_external_data_that_is_not_pushed_is_refused_and_nothing_is_listed(
    registry: EmbeddedRegistry,
) -> None:
    with pytest.raises(Unsafe, match=r"'w\.bin', which the manifest does not list"):
        registry.push("m", {"model.onnx": (FileRole.MODEL, external_model("w.bin"))})
    files: dict[str, tuple[FileRole, Path | bytes]] = {
        "model.onnx": (FileRole.MODEL, external_model("w.bin")),
        "w.bin": (FileRole.EXTRA, WEIGHTS),
    }
    with pytest.raises(Unsafe):
        registry.push("m", files)
    assert registry.models() == []


def test_a_file_that_is_no_model_is_refused(registry: EmbeddedRegistry) -> None:
    for data in (b"", b"not a model", plain_model()[:50]):
        with pytest.raises(Corrupt, match="model m version 1"):
            registry.push("m", {"model.onnx": (FileRole.MODEL, data)})
    with pytest.raises(Invalid, match="exactly one"):
        registry.push("m", {"w.bin": (FileRole.EXTERNAL, b"")})
    assert registry.models() == []


def test_a_missing_file_to_push_is_named(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.onnx"):
        registry.push("m", {"model.onnx": (FileRole.MODEL, tmp_path / "nowhere.onnx")})
    assert list((registry.directory / "tmp").iterdir()) == []


def test_a_push_that_does_not_fit_on_the_disk_leaves_nothing(registry: EmbeddedRegistry) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        with pytest.raises(Unavailable, match="cannot be stored: File too large"):
            push_external(registry, os.urandom(128 * 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((registry.directory / "tmp").iterdir()) == []
    assert registry.models() == []
    assert push(registry) == "1"


def test_an_unknown_model_has_no_versions_and_its_manifest_is_not_found(
    registry: EmbeddedRegistry,
) -> None:
    assert registry.versions("nope") == []
    assert registry.aliases("nope") == {}
    assert registry.alias("nope", "champion") == (None, 0)
    with pytest.raises(NotFound, match="nope version 1"):
        registry.manifest("nope", "1")
    with pytest.raises(NotFound):
        registry.verify("nope")


def test_an_alias_moves_only_from_where_the_caller_believes_it(registry: EmbeddedRegistry) -> None:
    push(registry)
    push(registry)
    assert registry.set_alias("m", "champion", "1", expected=None) == 1
    with pytest.raises(Conflict, match="is at 1, not at no version"):
        registry.set_alias("m", "champion", "2", expected=None)
    with pytest.raises(Conflict, match="is at 1, not at 2"):
        registry.set_alias("m", "champion", "2", expected="2")
    assert registry.aliases("m") == {"champion": "1"}
    assert registry.set_alias("m", "champion", "2", expected="1", reason="better") == 2
    assert registry.set_alias("m", "champion", "1") == 3
    assert registry.alias("m", "champion") == ("1", 3)
    history = registry.alias_history("m", "champion")
    assert [(c.serial, c.previous, c.version, c.reason) for c in history] == [
        (1, None, "1", ""),
        (2, "1", "2", "better"),
        (3, "2", "1", ""),
    ]


def test_setting_an_alias_to_where_it_is_changes_nothing(registry: EmbeddedRegistry) -> None:
    push(registry)
    registry.set_alias("m", "champion", "1")
    assert registry.set_alias("m", "champion", "1", expected="1") == 1
    assert len(registry.alias_history("m", "champion")) == 1


def test_an_alias_needs_its_version(registry: EmbeddedRegistry) -> None:
    push(registry)
    with pytest.raises(NotFound):
        registry.set_alias("m", "champion", "2")
    assert registry.aliases("m") == {}


def damage(path: Path, place: int) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_verify_finds_a_flipped_bit_at_every_hundredth_of_a_file(
    registry: EmbeddedRegistry,
) -> None:
    weights = os.urandom(5000)
    push_external(registry, weights)
    blob = blob_of(registry, "1", "w.bin")
    assert registry.verify("m") == []
    for hundredth in range(101):
        place = min(hundredth * len(weights) // 100, len(weights) - 1)
        damage(blob, place)
        (problem,) = registry.verify("m")
        assert "damaged" in problem.text
        assert problem.file == "w.bin"
        damage(blob, place)
    assert registry.verify("m") == []


def test_verify_names_what_else_can_happen_to_a_file(registry: EmbeddedRegistry) -> None:
    push_external(registry)
    blob = blob_of(registry, "1", "w.bin")
    blob.chmod(0o644)
    for contents, text in ((WEIGHTS[:-1], "truncated: 63 of 64"), (WEIGHTS * 2, "longer")):
        blob.write_bytes(contents)
        assert text in registry.verify("m")[0].text
    blob.unlink()
    assert "missing" in registry.verify("m")[0].text
    blob.mkdir()
    assert "not a regular file" in registry.verify("m")[0].text


def test_verify_finds_a_damaged_copy_of_the_manifest(registry: EmbeddedRegistry) -> None:
    push(registry)
    path = registry.directory / "manifests" / "m" / "1.json"
    damage(path, 10)
    assert [problem.file for problem in registry.verify("m")] == ["1.json"]
    path.unlink()
    assert "missing" in registry.verify("m")[0].text


def test_a_manifest_that_was_changed_in_the_index_is_corrupt(registry: EmbeddedRegistry) -> None:
    push(registry)
    push(registry, value=2.0)
    connection = sqlite3.connect(registry.directory / "index.db")
    connection.execute(
        "UPDATE versions SET manifest = (SELECT manifest FROM versions WHERE version = 2)"
        " WHERE version = 1"
    )
    connection.commit()
    connection.close()
    with pytest.raises(Corrupt, match="does not match its digest"):
        registry.manifest("m", "1")
    assert registry.verify("m", "1")
