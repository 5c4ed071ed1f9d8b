"""`driftgate model` as a person uses it: files in, registry and words out."""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from driftgate.commands import model
from driftgate.commands.model import golden_samples
from driftgate.errors import CliError, Exit
from monitor.profile import ReferenceProfile
from registry_client import EmbeddedRegistry, FileRole, fetch, read_file
from tests.registry_models import OPSET, external_model, external_tensor, model_with, plain_model

Command = Callable[..., Any]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a verb; returns what it printed, parsed if it was JSON."""
    parser = argparse.ArgumentParser()
    model.register(parser.add_subparsers())

    def run(*arguments: object, code: int = Exit.OK, as_json: bool = True) -> Any:
        words = ["model", *map(str, arguments), "--state-dir", str(tmp_path / "state")]
        args = parser.parse_args([*words, "-o", "json"] if as_json else words)
        capsys.readouterr()
        assert args.run(args) == code
        text = capsys.readouterr().out
        return json.loads(text) if as_json else text

    return run


@pytest.fixture
def registry(tmp_path: Path) -> EmbeddedRegistry:
    return EmbeddedRegistry(tmp_path / "state" / "registry")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.onnx"
    path.write_bytes(plain_model())
    return path


def refusal(command: Command, *arguments: object) -> str:
    with pytest.raises(CliError) as error:
        command(*arguments)
    return str(error.value)


def golden_arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return dict(archive)


def test_a_push_reads_the_signature_and_points_the_alias(
    command: Command, registry: EmbeddedRegistry, plain: Path
) -> None:
    said = command(
        *("push", "fraud", plain, "--alias", "champion", "--max-batch-size", 16),
        *("--lineage", "commit=1a2b", "data=x=y", "--log-mode", "durable"),
    )
    manifest = registry.manifest("fraud", "1")
    assert said["digest"] == manifest.digest
    assert said["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert said["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
    assert [feature["name"] for feature in said["features"]] == ["x[0]", "x[1]", "x[2]", "x[3]"]
    assert manifest.lineage == {"commit": "1a2b", "data": "x=y"}
    assert manifest.serving == {"max_batch_size": 16, "log_mode": "durable"}
    assert registry.aliases("fraud") == {"champion": "1"}
    assert said["notes"] == ["no reference: the monitor makes one of the version's first traffic"]


def test_a_reference_with_times_is_pushed_and_what_its_hours_lack_is_said(
    command: Command, registry: EmbeddedRegistry, plain: Path, tmp_path: Path
) -> None:
    seconds = np.arange(400) * 3600
    np.savez(tmp_path / "r.npz", x=np.random.default_rng(1).normal(size=(400, 4)), at=seconds)
    said = command("push", "m", plain, "--reference", tmp_path / "r.npz", "--time", "at")
    assert said["notes"] == [
        "by hour of the week: in 168 of 168 hours it has fewer than 100 rows, "
        "by which little can be said"
    ]
    data = read_file(registry, registry.manifest("m", "1"), FileRole.REFERENCE)
    assert data is not None
    season = ReferenceProfile.from_bytes(data).season
    assert season is not None
    assert season.rows.sum() == 400
    assert "--time needs --reference" in refusal(command, "push", "m", plain, "--time", "at")


def test_golden_samples_are_made_and_are_the_same_every_time(
    command: Command, registry: EmbeddedRegistry, plain: Path
) -> None:
    command("push", "m", plain)
    command("push", "m", plain)
    one, two = (
        read_file(registry, registry.manifest("m", version), FileRole.GOLDEN)
        for version in ("1", "2")
    )
    assert one is not None
    assert one == two
    arrays = golden_arrays(one)
    assert set(arrays) == {"input:x", "output:y"}
    assert arrays["input:x"].shape == (8, 4)
    expected = arrays["input:x"].sum(axis=1, keepdims=True).repeat(4, axis=1)
    np.testing.assert_allclose(arrays["output:y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut short", b"", "array"])
def test_golden_samples_that_are_no_archive_are_refused(command, plain, tmp_path, content):
    path = tmp_path / "golden.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    message = refusal(command, "push", "m", plain, "--golden", path)
    assert "cannot be read" in message
    assert "hint: give an .npz file" in message


def test_given_golden_samples_must_be_repeated_by_the_model(
    command: Command, registry: EmbeddedRegistry, plain: Path, tmp_path: Path
) -> None:
    x = np.ones((2, 4), np.float32)
    np.savez(tmp_path / "good.npz", **{"input:x": x})
    command("push", "m", plain, "--golden", tmp_path / "good.npz")
    data = read_file(registry, registry.manifest("m", "1"), FileRole.GOLDEN)
    assert data is not None
    assert golden_arrays(data)["output:y"].tolist() == [[4.0] * 4] * 2
    np.savez(tmp_path / "bad.npz", **{"input:x": x, "output:y": x * 5})
    message = refusal(command, "push", "m", plain, "--golden", tmp_path / "bad.npz")
    assert "do not match the model" in message
    np.savez(tmp_path / "odd.npz", x=x)
    assert "hint: name the arrays" in refusal(
        command, "push", "m", plain, "--golden", tmp_path / "odd.npz"
    )
    assert registry.versions("m") == ["1"]


def test_a_model_that_does_not_repeat_itself_gets_a_note_instead(
    command: Command, tmp_path: Path
) -> None:
    noise = helper.make_node("RandomNormalLike", ["x"], ["y"])
    path = tmp_path / "noise.onnx"
    path.write_bytes(model_with(nodes=[noise]).SerializeToString())
    said = command("push", "m", path)
    assert "no golden samples: the model's outputs are not repeatable" in said["notes"]
    assert [file["role"] for file in said["files"]] == ["model"]


def test_texts_and_whole_numbers_travel_through_golden_samples(
    command: Command, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["u"]), helper.make_node("Identity", ["i"], ["j"])],
        "g",
        [
            helper.make_tensor_value_info("t", TensorProto.STRING, ["n", 1]),
            helper.make_tensor_value_info("i", TensorProto.INT64, ["n"]),
        ],
        [
            helper.make_tensor_value_info("u", TensorProto.STRING, ["n", 1]),
            helper.make_tensor_value_info("j", TensorProto.INT64, ["n"]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=10), tmp_path / "t.onnx")
    said = command("push", "m", tmp_path / "t.onnx")
    assert [(f["name"], f["kind"]) for f in said["features"]] == [
        ("t", "categorical"),
        ("i", "discrete"),
    ]
    data = read_file(registry, registry.manifest("m", "1"), FileRole.GOLDEN)
    assert data is not None
    arrays = golden_arrays(data)
    assert arrays["output:u"].dtype.kind == "S"
    assert np.array_equal(arrays["output:u"], arrays["input:t"])


def test_external_data_is_pushed_by_the_name_that_the_graph_uses(
    command: Command, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    weights = np.eye(4, dtype=np.float32).tobytes()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(weights)
    path = tmp_path / "e.onnx"
    path.write_bytes(external_model("sub/w.bin"))
    message = refusal(command, "push", "m", path)
    assert f"hint: add --external {tmp_path / 'sub' / 'w.bin'}" in message
    command("push", "m", path, "--external", tmp_path / "sub" / "w.bin")
    with fetch(registry, "m", "1") as fetched:
        assert fetched.read("sub/w.bin") == weights


def test_a_hostile_location_in_a_graph_is_refused(
    command: Command, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    path = tmp_path / "e.onnx"
    path.write_bytes(external_model("../../etc/passwd"))
    message = refusal(command, "push", "m", path)
    assert "file name '../../etc/passwd' is not allowed" in message
    assert registry.models() == []


def test_what_cannot_be_served_is_refused_with_error_cause_and_hint(
    command: Command, registry: EmbeddedRegistry, plain: Path, tmp_path: Path
) -> None:
    model_proto = model_with(external_tensor("w.bin"))
    del model_proto.graph.initializer[:]
    model_proto.graph.node[0].input[:] = ["x", "x"]
    model_proto.graph.node[0].op_type = "NoSuchOperator"
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(model_proto.SerializeToString())
    assert "cannot be loaded\n  caused by: " in refusal(command, "push", "m", odd)
    sequence = model_with(nodes=[helper.make_node("SequenceConstruct", ["x"], ["y"])])
    sequence.graph.output[0].CopyFrom(
        helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    )
    odd.write_bytes(sequence.SerializeToString())
    assert "which no request can carry" in refusal(command, "push", "m", odd)
    assert "cannot be read" in refusal(command, "push", "m", tmp_path / "nowhere.onnx")
    odd.write_bytes(b"no model")
    assert "is not an ONNX file, or a damaged one" in refusal(command, "push", "m", odd)
    assert "is a folder" in refusal(command, "push", "m", tmp_path)
    for name in ("../x", "a/b", "", "x\0", "a" * 300):
        assert "is not allowed" in refusal(command, "push", name, plain)
    assert "write each key once" in refusal(command, "push", "m", plain, "--lineage", "a")
    assert "above 0" in refusal(command, "push", "m", plain, "--sample-rate", "0")
    assert registry.models() == []


def test_a_bad_alias_or_version_is_refused_before_anything_is_stored(
    command: Command, registry: EmbeddedRegistry, plain: Path
) -> None:
    refusal(command, "push", "m", plain, "--alias", "12")
    refusal(command, "push", "m", plain, "--version", "v1")
    assert registry.models() == []


def test_list_and_show_say_what_is_there(command: Command, plain: Path) -> None:
    assert command("list", as_json=False) == "no models\n"
    command("push", "m", plain, "--alias", "champion", "--lineage", "commit=1a2b")
    command("push", "m", plain)
    rows = command("list")
    assert [(row["model"], row["version"], row["aliases"]) for row in rows] == [
        ("m", "1", ["champion"]),
        ("m", "2", []),
    ]
    header, first, _ = command("list", as_json=False).splitlines()
    assert header.split() == ["model", "version", "aliases", "digest", "size", "created"]
    assert first.split()[:4] == ["m", "1", "champion", rows[0]["digest"][:12]]
    assert command("show", "m")["version"] == "2"
    text = command("show", "m", "1", as_json=False)
    assert "version  1 champion" in text
    assert "lineage  commit = 1a2b" in text
    assert "input    x FP32 [-1, 4]" in text
    assert "hint: `driftgate model list`" in refusal(command, "show", "nope")


def test_verify_fails_with_a_line_for_what_is_damaged(
    command: Command, registry: EmbeddedRegistry, plain: Path
) -> None:
    command("push", "m", plain)
    command("push", "m", plain)
    assert command("verify", "m", as_json=False).count(": ok") == 2
    sha256 = registry.manifest("m", "1").model_file.sha256
    blob = registry.directory / "blobs" / "sha256" / sha256
    blob.chmod(0o644)
    blob.write_bytes(plain.read_bytes()[:-1])
    text = command("verify", "m", "1", as_json=False, code=Exit.FAILED)
    assert text.startswith("model m version 1: file 'model.onnx' is truncated")
    assert len(text.splitlines()) == 1
    refusal(command, "verify", "nope")


def test_alias_moves_by_compare_and_set_and_prints_its_undo(command: Command, plain: Path) -> None:
    command("push", "m", plain)
    command("push", "m", plain)
    assert command("alias", "m", "champion", 1, "--expect", "none")["serial"] == 1
    assert "is at 1, not at no version" in refusal(
        command, "alias", "m", "champion", 2, "--expect", "none"
    )
    text = command("alias", "m", "champion", 2, "--expect", 1, "--reason", "better", as_json=False)
    assert text.splitlines() == [
        "m: champion is version 2 (was 1)",
        "undo: driftgate model alias m champion 1 --expect 2",
    ]
    history = command("show", "m")["history"]["champion"]
    assert [(change["version"], change["reason"]) for change in history] == [
        ("1", ""),
        ("2", "better"),
    ]


def test_a_triton_folder_can_be_looked_at_but_not_written(
    command: Command, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "repo" / "m" / "3"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(plain.read_bytes())
    (folder.parent / "config.pbtxt").write_text("odd_key: 1")
    monkeypatch.setenv("DRIFTGATE_GATEWAY__MODEL_REPOSITORY", str(tmp_path / "repo"))
    assert [(row["model"], row["version"]) for row in command("list")] == [("m", "3")]
    assert "warning  config.pbtxt line 1: 'odd_key'" in command("show", "m", as_json=False)
    assert command("verify", "m", as_json=False) == "model m version 3: ok\n"
    assert "cannot be written" in refusal(command, "push", "m", plain)


def test_golden_samples_of_given_inputs_hold_what_the_model_says() -> None:
    arrays = golden_arrays(golden_samples(plain_model(2.0), {"x": np.ones((3, 4), np.float32)}))
    assert arrays["output:y"].tolist() == [[8.0] * 4] * 3
