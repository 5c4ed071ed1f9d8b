"""The manifest: everything that makes a version what it is, and its identity.

Laws: a manifest's digest is the SHA-256 of its canonical JSON (sorted keys, no
spaces, ASCII, no NaN), so two machines that hold the same manifest name it
alike; reading refuses what would not be written back byte for byte; exactly
one file has the role `model`, and no two files share a name.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from registry_client.core.errors import Corrupt, Invalid, RegistryError
from registry_client.core.names import check_file_name, check_model_name, check_version, shown
from registry_client.core.signature import Feature, TensorSpec

SCHEMA = 1
FILES_MAX = 4_096  # exporters that write one file per tensor stay below this
FEATURES_MAX = 65_536
MANIFEST_BYTES_MAX = 32 * 1024 * 1024

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class FileRole(StrEnum):
    """What a file is for; only `model` and `external` reach ONNX Runtime."""

    MODEL = "model"
    EXTERNAL = "external"
    REFERENCE = "reference"
    GOLDEN = "golden"
    WARMUP = "warmup"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a version. bytes: its size; sha256: lower-case hex."""

    name: str
    role: FileRole
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        check_file_name(self.name)
        if type(self.bytes) is not int or self.bytes < 0:
            raise Invalid(f"file {shown(self.name)}: size {self.bytes!r} is not 0 or more")
        if _SHA256.fullmatch(self.sha256) is None:
            raise Invalid(f"file {shown(self.name)}: {shown(self.sha256)} is not a SHA-256")


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of one model.

    lineage:  where it came from (data digest, code revision, parameters, metrics).
    serving:  how to serve it (max_batch_size, log_mode, sample_rate, ...); what a
              config.pbtxt adds is in `core/triton_config.py`.
    warnings: what a reader did not understand; told to operators, not part of
              the identity.
    """

    model: str
    version: str
    files: tuple[ManifestFile, ...]
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    features: tuple[Feature, ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    serving: Mapping[str, Any] = field(default_factory=dict)
    created_ns: int = 0
    warnings: tuple[str, ...] = field(default=(), compare=False)
    _digest: str = field(default="", init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_model_name(self.model)
        check_version(self.version)
        where = f"manifest of {self.model} version {self.version}"
        if not 1 <= len(self.files) <= FILES_MAX or len(self.features) > FEATURES_MAX:
            raise Invalid(f"{where}: holds no file, or too many files or features")
        if sum(file.role is FileRole.MODEL for file in self.files) != 1:
            raise Invalid(f"{where}: exactly one file must have the role 'model'")
        if type(self.created_ns) is not int or self.created_ns < 0:
            raise Invalid(f"{where}: created_ns {self.created_ns!r} is not 0 or more")
        _check_unique(where, "file", [file.name for file in self.files])
        _check_unique(where, "input", [spec.name for spec in self.inputs])
        _check_unique(where, "output", [spec.name for spec in self.outputs])
        _check_unique(where, "feature", [feature.name for feature in self.features])
        text = _dump(_as_json(self))
        object.__setattr__(self, "_digest", hashlib.sha256(text).hexdigest())

    @property
    def digest(self) -> str:
        """The identity: SHA-256 of the canonical JSON, 64 lower-case hex characters."""
        return self._digest

    @property
    def model_file(self) -> ManifestFile:
        """The ONNX graph."""
        return next(file for file in self.files if file.role is FileRole.MODEL)

    def file(self, role: FileRole) -> ManifestFile | None:
        """The first file of a role, or None."""
        return next((file for file in self.files if file.role is role), None)

    def to_json(self) -> bytes:
        """The canonical JSON, whose SHA-256 is `digest`."""
        return _dump(_as_json(self))

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read what `to_json` wrote. Raises Corrupt for anything else."""
        if len(data) > MANIFEST_BYTES_MAX:
            raise Corrupt(f"manifest of {len(data)} bytes is over the limit {MANIFEST_BYTES_MAX}")
        try:
            manifest = _from_document(json.loads(data))
        except (KeyError, TypeError, ValueError, RecursionError, RegistryError) as exc:
            raise Corrupt(f"manifest cannot be read: {shown(str(exc))}") from exc
        if manifest.to_json() != data:
            raise Corrupt("manifest is not in canonical form: its digest would not be its own")
        return manifest


def _check_unique(where: str, what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"{where}: {what} {shown(twice)} is listed twice")


def _dump(document: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise Invalid(f"lineage and serving must be plain JSON: {shown(str(exc))}") from exc
    return text.encode("ascii")


def _as_json(manifest: Manifest) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": manifest.model,
        "version": manifest.version,
        "files": [
            {"name": f.name, "role": f.role.value, "bytes": f.bytes, "sha256": f.sha256}
            for f in manifest.files
        ],
        "inputs": [tensor_json(spec) for spec in manifest.inputs],
        "outputs": [tensor_json(spec) for spec in manifest.outputs],
        "features": [
            {"name": f.name, "kind": str(f.kind), "tensor": f.tensor, "index": f.index}
            for f in manifest.features
        ],
        "lineage": dict(manifest.lineage),
        "serving": dict(manifest.serving),
        "created_ns": manifest.created_ns,
    }


def tensor_json(spec: TensorSpec) -> dict[str, Any]:
    """A tensor as the wire's metadata spells it: name, datatype, shape."""
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _from_document(document: dict[str, Any]) -> Manifest:
    if document["schema"] != SCHEMA:
        raise ValueError(f"schema {document['schema']!r} is not {SCHEMA}")
    return Manifest(
        model=document["model"],
        version=document["version"],
        files=tuple(
            ManifestFile(f["name"], FileRole(f["role"]), f["bytes"], f["sha256"])
            for f in document["files"]
        ),
        inputs=tuple(_tensor(spec) for spec in document["inputs"]),
        outputs=tuple(_tensor(spec) for spec in document["outputs"]),
        features=tuple(
            Feature(f["name"], f["kind"], f["tensor"], f["index"]) for f in document["features"]
        ),
        lineage=document["lineage"],
        serving=document["serving"],
        created_ns=document["created_ns"],
    )


def _tensor(spec: dict[str, Any]) -> TensorSpec:
    return TensorSpec(spec["name"], spec["datatype"], tuple(spec["shape"]))
