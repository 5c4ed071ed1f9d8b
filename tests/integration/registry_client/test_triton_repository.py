import logging
import os
from pathlib import Path

import pytest

from registry_client import (
    Corrupt,
    FileRole,
    Invalid,
    NotFound,
    TensorSpec,
    TritonRepository,
    Unsafe,
    open_source,
    verify_version,
)
from tests.registry_models import plain_model


def add(root: Path, model: str, version: str, value: float = 1.0) -> Path:
    path = root / model / version / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(plain_model(value))
    return path


def configure(root: Path, model: str, text: str) -> None:
    (root / model / "config.pbtxt").write_text(text)


def test_a_folder_without_configuration_is_served_by_its_graph(tmp_path: Path) -> None:
    add(tmp_path, "m", "1")
    add(tmp_path, "m", "12")
    add(tmp_path, "m", "2")
    source = open_source(tmp_path / "unused", str(tmp_path))
    assert source.models() == ["m"]
    assert source.versions("m") == ["1", "2", "12"]
    assert source.aliases("m") == {"champion": "12"}
    manifest = source.manifest("m", "12")
    assert manifest.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert manifest.outputs == (TensorSpec("y", "FP32", (-1, 4)),)
    assert manifest.serving == {}
    assert manifest.warnings == ()
    assert not (tmp_path / "unused").exists()
    assert verify_version(source, "m", "12") == []


def test_a_configuration_says_how_to_serve(tmp_path: Path) -> None:
    add(tmp_path, "m", "1")
    configure(
        tmp_path,
        "m",
        'name: "m" max_batch_size: 8 input { name: "x" data_type: TYPE_FP32 dims: 4 }\n'
        "dynamic_batching { } sequence_batching { }",
    )
    manifest = TritonRepository(tmp_path).manifest("m", "1")
    assert manifest.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert manifest.outputs == (TensorSpec("y", "FP32", (-1, 4)),)
    assert manifest.serving == {"max_batch_size": 8, "max_queue_delay_us": 0}
    assert manifest.warnings == (
        "config.pbtxt line 2: 'sequence_batching' is not supported and has no effect",
    )


def test_warm_up_data_is_part_of_the_version_and_confined_to_its_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path, "m", "1")
    sample = (
        "model_warmup { name: 'w' inputs { key: 'x' value {"
        " data_type: TYPE_FP32 dims: 4 input_data_file: 'rows' } } }"
    )
    configure(tmp_path, "m", sample)
    source = TritonRepository(tmp_path)
    with pytest.raises(NotFound, match="warmup/rows"):
        source.manifest("m", "1")
    (tmp_path / "m" / "warmup").mkdir()
    data = tmp_path / "m" / "warmup" / "rows"
    data.symlink_to(tmp_path / "m" / "config.pbtxt")
    with pytest.raises(Unsafe):
        source.manifest("m", "1")
    data.unlink()
    data.write_bytes(bytes(16))
    manifest = source.manifest("m", "1")
    assert [(file.name, file.role) for file in manifest.files] == [
        ("model.onnx", FileRole.MODEL),
        ("warmup/rows", FileRole.WARMUP),
    ]
    with source.open(manifest, manifest.files[1]) as stream:
        assert stream.read() == bytes(16)
    assert verify_version(source, "m", "1") == []
    assert source.versions("m") == ["1"]  # the folder of the data is no version
    assert not caplog.records  # and no mistake
    data.write_bytes(bytes(20))
    assert source.manifest("m", "1").digest != manifest.digest


def test_the_version_policy_chooses_versions_and_champion(tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        add(tmp_path, "m", version)
    configure(tmp_path, "m", "version_policy { specific { versions: [1, 2] } }")
    source = TritonRepository(tmp_path)
    assert source.versions("m") == ["1", "2"]
    assert source.aliases("m") == {"champion": "2"}
    with pytest.raises(NotFound):
        source.manifest("m", "3")


def test_another_file_name_and_a_model_that_is_a_folder_are_found(tmp_path: Path) -> None:
    add(tmp_path, "named", "1").rename(tmp_path / "named" / "1" / "net.onnx")
    configure(tmp_path, "named", 'default_model_filename: "net.onnx"')
    inner = tmp_path / "folder" / "1" / "model.onnx" / "model.onnx"
    inner.parent.mkdir(parents=True)
    inner.write_bytes(plain_model())
    source = TritonRepository(tmp_path)
    assert source.manifest("named", "1").model_file.name == "net.onnx"
    manifest = source.manifest("folder", "1")
    with source.open(manifest, manifest.model_file) as stream:
        assert stream.read() == plain_model()


@pytest.mark.parametrize(
    "text",
    [
        'name: "other"',
        "max_batch_size: [",
        'platform: "pytorch_libtorch"',
        'default_model_filename: "../../secret.onnx"',
        'default_model_filename: "/etc/passwd"',
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_for_its_model_only(
    tmp_path: Path, text: str
) -> None:
    add(tmp_path, "m", "1")
    add(tmp_path, "well", "1")
    configure(tmp_path, "m", text)
    source = TritonRepository(tmp_path)
    assert source.models() == ["m", "well"]
    with pytest.raises(Invalid, match="model m: ") as refusal:
        source.aliases("m")
    assert "\n" not in str(refusal.value)
    assert source.aliases("well") == {"champion": "1"}


def test_the_serial_rises_when_the_champion_moves_up_or_down(tmp_path: Path) -> None:
    add(tmp_path, "m", "1")
    source = TritonRepository(tmp_path)
    serials = [source.alias("m", "champion")[1]]
    newer = add(tmp_path, "m", "2")
    serials.append(source.alias("m", "champion")[1])
    newer.unlink()
    newer.parent.rmdir()
    serials.append(source.alias("m", "champion")[1])
    configure(tmp_path, "m", "version_policy { all { } }")
    assert source.alias("m", "champion")[1] == serials[-1]  # it did not move
    assert serials[0] < serials[1] < serials[2]
    assert source.alias("m", "other") == (None, 0)


def test_a_restarted_process_does_not_see_a_lower_serial(tmp_path: Path) -> None:
    add(tmp_path, "m", "1")
    before = TritonRepository(tmp_path).alias("m", "champion")[1]
    assert TritonRepository(tmp_path).alias("m", "champion")[1] == before
    add(tmp_path, "m", "2")
    assert TritonRepository(tmp_path).alias("m", "champion")[1] > before


def test_a_version_counts_once_its_model_file_is_there(tmp_path: Path) -> None:
    add(tmp_path, "m", "1")
    (tmp_path / "m" / "2").mkdir()
    assert TritonRepository(tmp_path).aliases("m") == {"champion": "1"}


def test_folders_that_are_no_models_or_versions_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path, "m", "1")
    add(tmp_path, "m", "01")
    add(tmp_path, "my model", "1")
    (tmp_path / "linked").symlink_to(tmp_path / "m")
    (tmp_path / ".git").mkdir()
    source = TritonRepository(tmp_path)
    with caplog.at_level(logging.WARNING, "registry_client"):
        for _ in range(3):
            assert source.models() == ["m"]
            assert source.versions("m") == ["1"]
    messages = sorted(record.getMessage() for record in caplog.records)
    assert [message.split("'")[1] for message in messages] == ["linked", "m/01", "my model"]


def test_a_changed_file_has_another_digest_and_an_unchanged_one_the_same(tmp_path: Path) -> None:
    path = add(tmp_path, "m", "1")
    source = TritonRepository(tmp_path)
    one = source.manifest("m", "1")
    os.utime(path, (1, 1))
    assert source.manifest("m", "1").digest == one.digest
    path.write_bytes(plain_model(2.0))
    assert source.manifest("m", "1").digest != one.digest


def test_a_file_that_settled_is_read_again_only_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "m", "1")
    source = TritonRepository(tmp_path)
    monkeypatch.setattr("registry_client.triton._SETTLED_NS", -1)
    one = source.manifest("m", "1")

    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("an unchanged file was read again")

    with monkeypatch.context() as patched:
        patched.setattr("registry_client.triton._read", read_again)
        assert source.manifest("m", "1") == one
    (tmp_path / "m" / "1" / "model.onnx").write_bytes(plain_model(2.0))
    assert source.manifest("m", "1").digest != one.digest


def test_a_model_still_being_copied_is_refused(tmp_path: Path) -> None:
    path = add(tmp_path, "m", "1")
    path.write_bytes(plain_model()[:40])
    with pytest.raises(Corrupt, match=r"m/1/model\.onnx: "):
        TritonRepository(tmp_path).manifest("m", "1")


def test_a_repository_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not a folder"):
        TritonRepository(tmp_path / "nowhere")
