import dataclasses
import hashlib
import json
from typing import Any

import pytest

from registry_client import (
    Corrupt,
    Feature,
    FileRole,
    Invalid,
    InvalidName,
    Manifest,
    ManifestFile,
    TensorSpec,
)

SHA = "ab" * 32
MODEL = ManifestFile("model.onnx", FileRole.MODEL, 10, SHA)


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "model": "fraud",
        "version": "3",
        "files": (MODEL, ManifestFile("w.bin", FileRole.EXTERNAL, 7, SHA)),
        "inputs": (TensorSpec("x", "FP32", (-1, 2)),),
        "outputs": (TensorSpec("y", "INT64", (-1,)),),
        "features": (Feature("age", "continuous", "x", 0),),
        "lineage": {"commit": "1a2b", "metrics": {"auc": 0.9}},
        "serving": {"max_batch_size": 32},
        "created_ns": 17,
    }
    return Manifest(**(values | changes))


def test_the_digest_of_a_known_manifest_never_changes() -> None:
    assert manifest().digest == "c7f1001e51d12ea2066d3964ce97612bce86e415a9bda1df74d83a4be9403071"


def test_the_digest_is_the_sha256_of_the_canonical_json() -> None:
    data = manifest().to_json()
    assert hashlib.sha256(data).hexdigest() == manifest().digest
    assert b" " not in data
    keys = list(json.loads(data))
    assert keys == sorted(keys)


def test_the_order_of_lineage_does_not_change_the_digest() -> None:
    one = manifest(lineage={"a": 1, "b": 2})
    two = manifest(lineage={"b": 2, "a": 1})
    assert one.digest == two.digest


def test_warnings_are_told_but_are_not_part_of_the_identity() -> None:
    warned = manifest(warnings=("something is ignored",))
    assert warned.digest == manifest().digest
    assert warned == manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"version": "4"},
        {"model": "other"},
        {"lineage": {}},
        {"serving": {"max_batch_size": 33}},
        {"created_ns": 18},
        {"features": ()},
        {"inputs": (TensorSpec("x", "FP64", (-1, 2)),)},
        {"files": (dataclasses.replace(MODEL, sha256="cd" * 32),)},
    ],
)
def test_any_other_difference_changes_the_digest(change: dict[str, Any]) -> None:
    assert manifest(**change).digest != manifest().digest


def test_a_manifest_reads_back_as_itself() -> None:
    assert Manifest.from_json(manifest().to_json()) == manifest()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        manifest().to_json() + b" ",
        manifest().to_json().replace(b'"schema":1', b'"schema":2'),
        manifest().to_json().replace(b'"created_ns":17', b'"created_ns":17,"new":1'),
        manifest().to_json().replace(b'"created_ns":17', b'"created_ns":-1'),
        manifest().to_json().replace(b'"version":"3"', b'"version":3'),
        manifest().to_json().replace(b'"model":"fraud"', b'"model":"../x"'),
        manifest().to_json().replace(b'"bytes":10', b'"bytes":-10'),
        manifest().to_json().replace(b'"bytes":10', b'"bytes":10.5'),
        manifest().to_json().replace(b'"name":"w.bin"', b'"name":"../w.bin"'),
        manifest().to_json().replace(b'"lineage":{', b'"lineage":{"n":1e999,'),
        manifest().to_json().replace(b'"continuous"', b'"round"'),
        manifest().to_json().replace(b'"role":"external"', b'"role":"model"'),
    ],
)
def test_anything_else_is_corrupt_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(Corrupt) as refusal:
        Manifest.from_json(data)
    assert "\n" not in str(refusal.value)


def test_exactly_one_file_is_the_model() -> None:
    with pytest.raises(Invalid, match="exactly one"):
        manifest(files=(ManifestFile("w.bin", FileRole.EXTERNAL, 7, SHA),))
    with pytest.raises(Invalid, match="exactly one"):
        manifest(files=(MODEL, dataclasses.replace(MODEL, name="b.onnx")))


def test_no_two_files_share_a_name() -> None:
    with pytest.raises(Invalid, match="listed twice"):
        manifest(files=(MODEL, ManifestFile("model.onnx", FileRole.EXTRA, 7, SHA)))


def test_lineage_must_be_plain_json() -> None:
    with pytest.raises(Invalid, match="plain JSON"):
        manifest(lineage={"when": object()})
    with pytest.raises(Invalid, match="plain JSON"):
        manifest(serving={"rate": float("nan")})


def test_names_inside_a_manifest_are_checked_too() -> None:
    with pytest.raises(InvalidName):
        manifest(model="a/b")
    with pytest.raises(InvalidName):
        ManifestFile("../model.onnx", FileRole.MODEL, 1, SHA)
    with pytest.raises(Invalid, match="SHA-256"):
        ManifestFile("model.onnx", FileRole.MODEL, 1, "AB" * 32)


@pytest.mark.parametrize(
    ("name", "datatype", "shape"),
    [("", "FP32", ()), ("x", "FLOAT", ()), ("x", "FP32", (-2,)), ("x", "FP32", (1,) * 9)],
)
def test_a_tensor_that_the_wire_cannot_say_is_refused(
    name: str, datatype: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(Invalid):
        TensorSpec(name, datatype, shape)


def test_the_model_file_and_files_by_role_are_found() -> None:
    assert manifest().model_file is MODEL
    found = manifest().file(FileRole.EXTERNAL)
    assert found is not None
    assert found.name == "w.bin"
    assert manifest().file(FileRole.GOLDEN) is None
