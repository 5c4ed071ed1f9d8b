"""Where model bytes come from: a registry that may be gone, and what was good last.

`look` reads what the registry holds; `ModelCache` keeps, by digest, the versions
that workers have loaded, so that a gateway starts from its last good state when
the registry is down or damaged. Both are read through `registry_client.fetch`,
which verifies every byte on its way into sealed memory.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from eventlog.settings import ModelLogSettings
from registry_client import (
    Corrupt,
    Fetched,
    FileRole,
    Manifest,
    ManifestFile,
    NotFound,
    RegistryError,
    Source,
    TensorSpec,
    fetch,
)
from registry_client.core.config_batching import BATCHING_KEYS
from serving.core.rollout_state import Version

CHAMPION = "champion"
# What a worker needs; the reference profile is the monitor's.
ROLES = (FileRole.MODEL, FileRole.EXTERNAL, FileRole.GOLDEN, FileRole.WARMUP)
# What a manifest may say of serving and a worker understands.
SERVING_KEYS = (
    "max_batch_size",
    "log_mode",
    "sample_rate",
    *BATCHING_KEYS,
    "instance_count",
    "version_policy",
    "warmup",
    "padding",
)
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Champion:
    """Where a model's champion alias points; `serial` rises whenever it moves."""

    version: Version
    serial: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a registry held at one moment, and what was wrong with it."""

    champions: Mapping[str, Champion] = field(default_factory=dict)
    error: str = ""  # the registry as a whole
    model_errors: Mapping[str, str] = field(default_factory=dict)


def look(source: Source, known: Mapping[str, Champion]) -> Look:
    """Read every model's champion; blocking. known: the last look, to save reading manifests."""
    champions: dict[str, Champion] = {}
    errors: dict[str, str] = {}
    try:
        models = source.models()
    except (RegistryError, OSError) as error:
        return Look(error=str(error))
    for model in models:
        try:
            champion = _champion(source, model, known.get(model))
        except (RegistryError, OSError) as error:
            errors[model] = str(error)
            continue
        if champion is not None:
            champions[model] = champion
    return Look(champions, "", errors)


def _champion(source: Source, model: str, known: Champion | None) -> Champion | None:
    version, serial = source.alias(model, CHAMPION)
    if version is None:
        return None
    if known is not None and (known.serial, known.version.version) == (serial, version):
        return known
    return Champion(Version(version, source.manifest(model, version).digest), serial)


def resolve(source: Source, model: str, reference: str) -> Version:
    """A version by number or by @alias, with its digest; blocking.

    Raises: RegistryError if there is none.
    """
    name = reference
    if reference.startswith("@"):
        found = source.aliases(model).get(reference[1:])
        if found is None:
            raise NotFound(f"model {model} has no alias {reference[1:]}")
        name = found
    return Version(name, source.manifest(model, name).digest)


def newest(source: Source, model: str) -> Version:
    """The champion of a model, else its highest version; blocking.

    Raises: RegistryError if there is none.
    """
    versions = source.versions(model)
    if not versions:
        raise NotFound("no such model in the repository")
    name = source.aliases(model).get(CHAMPION, versions[-1])
    return Version(name, source.manifest(model, name).digest)


class MovedError(Corrupt):
    """The registry's version has other content than the one that was asked for."""


def obtain(
    source: Callable[[], Source], cache: "ModelCache", model: str, version: Version
) -> Fetched:
    """The verified bytes of a version from the registry, else from the cache; blocking.

    Raises: RegistryError or OSError, the registry's own, if neither has it.
    """
    try:
        return _exactly(source(), model, version)
    except (RegistryError, OSError):
        with contextlib.suppress(RegistryError, OSError):
            return _exactly(cache.source(version.digest), model, version)
        raise


def _exactly(source: Source, model: str, version: Version) -> Fetched:
    fetched = fetch(source, model, version.version, ROLES)
    if fetched.manifest.digest != version.digest:
        fetched.close()
        raise MovedError(
            f"model {model} version {version.version} has changed in the registry "
            f"(digest {fetched.manifest.digest[:12]}, not {version.digest[:12]})"
        )
    return fetched


def log_document(manifest: Manifest, settings: ModelLogSettings) -> dict[str, Any]:
    """What a worker should log of a version: the operator's settings for its model.

    Features come by name; a worker knows tensors, so it is told the place of each that
    the settings name.
    """
    named = {*(settings.keep or ()), *(settings.drop or ()), *(settings.hash or ())}
    places = {
        feature.name: [feature.tensor, feature.index]
        for feature in manifest.features
        if feature.name in named
    }
    return {**asdict(settings), "features": places}


def settings_document(manifest: Manifest, files: Iterable[ManifestFile]) -> dict[str, Any]:
    """How a worker should serve a version, from its manifest; null means the worker's default.

    files: those that the worker gets.
    """
    serving = manifest.serving
    golden = manifest.file(FileRole.GOLDEN)
    return {
        **{key: serving.get(key) for key in SERVING_KEYS},
        "model_filename": manifest.model_file.name,
        "inputs": _specs(manifest.inputs),
        "outputs": _specs(manifest.outputs),
        "golden": golden.name if golden else None,
        "roles": {file.name: file.role.value for file in files},
    }


def _specs(specs: Collection[TensorSpec]) -> list[dict[str, Any]] | None:
    return [
        {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs
    ] or None


class ModelCache:
    """Versions that have been loaded, by digest: `<digest>/manifest.json` and files by sha256."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def source(self, digest: str) -> "CachedVersion":
        return CachedVersion(self._directory / digest)

    def keep(self, fetched: Fetched) -> None:
        """Copy a version in, whole or not at all; nothing happens if it is there; blocking."""
        target = self._directory / fetched.manifest.digest
        if target.exists():
            return
        scratch = self._directory / f"{fetched.manifest.digest}.new"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        for file, descriptor in fetched.files:
            _copy(descriptor, scratch / file.sha256)
        (scratch / "manifest.json").write_bytes(fetched.manifest.to_json())
        os.replace(scratch, target)

    def prune(self, digests: Collection[str]) -> None:
        """Forget every version but these; blocking."""
        if not self._directory.exists():
            return
        for path in self._directory.iterdir():
            if path.name not in digests:
                shutil.rmtree(path, ignore_errors=True)


def _copy(descriptor: int, target: Path) -> None:
    # By offset: the descriptor's position is shared with everyone who holds it.
    with target.open("wb") as file:
        offset = 0
        while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
            file.write(chunk)
            offset += len(chunk)
        file.flush()
        os.fsync(file.fileno())


class CachedVersion:
    """One cached version as a registry of its own, so that `fetch` verifies it again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def models(self) -> list[str]:
        return [self._manifest().model]

    def versions(self, model: str) -> list[str]:
        manifest = self._manifest()
        return [manifest.version] if manifest.model == model else []

    def aliases(self, model: str) -> dict[str, str]:  # noqa: ARG002 - a Source's signature
        return {}

    def alias(self, model: str, alias: str) -> tuple[str | None, int]:  # noqa: ARG002 - as above
        return None, 0

    def manifest(self, model: str, version: str) -> Manifest:
        manifest = self._manifest()
        if (manifest.model, manifest.version) != (model, version):
            raise NotFound(f"{self._directory.name[:12]} is not model {model} version {version}")
        return manifest

    def open(self, manifest: Manifest, file: ManifestFile) -> BinaryIO:  # noqa: ARG002 - as above
        try:
            return (self._directory / file.sha256).open("rb", buffering=0)
        except OSError as error:
            raise NotFound(f"the cached file {file.name} cannot be read: {error}") from error

    def _manifest(self) -> Manifest:
        try:
            return Manifest.from_json((self._directory / "manifest.json").read_bytes())
        except OSError as error:
            raise NotFound(f"{self._directory.name[:12]} is not cached") from error
