"""A Triton model repository read as it is: `<model>/<version>/model.onnx`.

Nothing is written and no file beyond the model, its external data,
`config.pbtxt` and the warm-up data that it names is read. Manifests are made up
from what lies there; the alias `champion` is the highest version that the version
policy allows. Folders whose names are no model names or versions, and links, are
left out and named once in the log.
"""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from registry_client.core.config_warmup import WARMUP_FOLDER, warmup_files
from registry_client.core.errors import Invalid, NotFound, RegistryError, Unavailable
from registry_client.core.manifest import FileRole, Manifest, ManifestFile
from registry_client.core.names import (
    check_alias,
    check_file_name,
    check_model_name,
    check_version,
    shown,
)
from registry_client.core.onnx_wire import OnnxSummary, check_locations
from registry_client.core.pbtxt import TEXT_CHARS_MAX
from registry_client.core.triton_config import TritonConfig, parse_triton_config
from registry_client.paths import open_beneath
from registry_client.verified import CHUNK_BYTES, scan_file

CHAMPION = "champion"
_LOG = logging.getLogger("registry_client")
_CACHE_ENTRIES_MAX = 4_096
# A file changed this recently may change again without its times showing it.
_SETTLED_NS = 2_000_000_000

_Times = tuple[int, int, int, int, int]
_Check = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Known:
    """What one state of a file was found to hold. summary: of model files only."""

    times: _Times
    sha256: str
    summary: OnnxSummary | None


class TritonRepository:
    """Implements Source over a folder that others write."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise NotFound(f"model repository {shown(str(directory))} is not a folder")
        self.directory = directory
        self._known: dict[tuple[str, ...], _Known] = {}
        self._serials: dict[str, tuple[str, int]] = {}
        self._named: set[str] = set()

    def models(self) -> list[str]:
        return [name for name in self._folders((), check_model_name) if self._numbers(name)]

    def versions(self, model: str) -> list[str]:
        check_model_name(model)
        config = self._config(model)
        # A folder that is still being copied becomes a version with its model file.
        present = [
            number
            for number in self._numbers(model)
            if os.path.lexists(self.directory / model / number / config.model_filename)
        ]
        return config.version_policy.select(present)

    def aliases(self, model: str) -> dict[str, str]:
        versions = self.versions(model)
        return {CHAMPION: versions[-1]} if versions else {}

    def alias(self, model: str, alias: str) -> tuple[str | None, int]:
        """serial: the change time of folder or configuration when the champion was first seen.

        A version that comes or goes changes its parent folder's change time, which
        no copying tool can set back; edits that leave the champion where it is do
        not raise the serial of a running process.
        """
        version = self.aliases(model).get(check_alias(alias))
        if version is None:
            return None, 0
        seen = self._serials.get(model)
        if seen is None or seen[0] != version:
            serial = max(self._change_ns(model), seen[1] + 1 if seen else 0)
            self._serials[model] = seen = (version, serial)
        return seen

    def manifest(self, model: str, version: str) -> Manifest:
        """Hash and scan what lies there; unchanged files are not read again."""
        check_model_name(model)
        if check_version(version) not in self.versions(model):
            raise NotFound(f"model {model} version {version} is not in the model repository")
        config = self._config(model)
        folder, name = self._place(model, version, config)
        size, known = self._look(folder, name, with_summary=True)
        summary = known.summary or OnnxSummary()
        files = [ManifestFile(name, FileRole.MODEL, size, known.sha256)]
        for location in check_locations(summary):
            size, external = self._look(folder, location, with_summary=False)
            files.append(ManifestFile(location, FileRole.EXTERNAL, size, external.sha256))
        for location in warmup_files(config.warmup):
            size, sample = self._look((model,), location, with_summary=False)
            files.append(ManifestFile(location, FileRole.WARMUP, size, sample.sha256))
        made = _manifest(model, version, tuple(files), config)
        return _with_graph_signature(made, summary)

    def open(self, manifest: Manifest, file: ManifestFile) -> BinaryIO:
        config = self._config(manifest.model)
        folder, _ = self._place(manifest.model, manifest.version, config)
        if file.role is FileRole.WARMUP:
            folder = (manifest.model,)
        return open(open_beneath(self.directory, file.name, folder), "rb", buffering=0)

    def _place(self, model: str, version: str, config: TritonConfig) -> tuple[tuple[str, ...], str]:
        """(folders, file name) of the model file; Triton also allows a folder of that name."""
        name = check_file_name(config.model_filename)
        folder = (model, version)
        if "/" in name:
            raise Invalid(
                f"model {model}: default_model_filename {shown(name)} is not a plain name"
            )
        inner = self.directory.joinpath(*folder, name)
        if inner.is_dir() and not inner.is_symlink():
            return (*folder, name), "model.onnx"
        return folder, name

    def _look(
        self, folder: tuple[str, ...], name: str, *, with_summary: bool
    ) -> tuple[int, _Known]:
        """(size, what the file holds), from memory if the file has not changed since."""
        key = (*folder, name)
        with open(open_beneath(self.directory, name, folder), "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            times = _times(status)
            known = self._known.get(key)
            if known is None or known.times != times or (with_summary and known.summary is None):
                known = _read(stream, times, "/".join(key), with_summary=with_summary)
                self._remember(key, known)
        return status.st_size, known

    def _remember(self, key: tuple[str, ...], known: _Known) -> None:
        if len(self._known) >= _CACHE_ENTRIES_MAX:
            self._known.clear()
        if time.time_ns() - known.times[4] > _SETTLED_NS:
            self._known[key] = known

    def _config(self, model: str) -> TritonConfig:
        try:
            descriptor = open_beneath(self.directory, "config.pbtxt", (model,))
        except NotFound:
            return TritonConfig()
        with open(descriptor, "rb") as stream:
            text = stream.read(TEXT_CHARS_MAX + 1).decode("utf-8", "backslashreplace")
        try:
            config = parse_triton_config(text)
            if config.name not in ("", model):
                raise Invalid(f"config.pbtxt: name {shown(config.name)} is not that of its folder")
            if "/" in check_file_name(config.model_filename):
                raise Invalid(f"file name {shown(config.model_filename)} is not a plain name")
        except RegistryError as exc:
            raise Invalid(f"model {model}: {exc}") from exc
        return config

    def _numbers(self, model: str) -> list[str]:
        return sorted(self._folders((model,), check_version), key=int)

    def _folders(self, within: tuple[str, ...], check: _Check) -> list[str]:
        """Sorted names of the real sub-folders that pass a naming rule."""
        names = []
        try:
            with os.scandir(self.directory.joinpath(*within)) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False) and _passes(check, entry.name):
                        names.append(entry.name)
                    elif entry.name == WARMUP_FOLDER and within:
                        continue  # Triton's place for warm-up data
                    elif entry.is_dir() and not entry.name.startswith("."):
                        self._name_once("/".join((*within, entry.name)))
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise Unavailable(f"model repository cannot be read: {exc.strerror}") from exc
        return sorted(names)

    def _name_once(self, path: str) -> None:
        if path not in self._named and len(self._named) < _CACHE_ENTRIES_MAX:
            self._named.add(path)
            _LOG.warning("model repository: folder %s is a link or has no valid name", shown(path))

    def _change_ns(self, model: str) -> int:
        stamps = [os.stat(self.directory / model).st_ctime_ns]
        # Without a configuration the folder's own time says when it went.
        with contextlib.suppress(OSError):
            stamps.append(os.stat(self.directory / model / "config.pbtxt").st_ctime_ns)
        return max(stamps)


def _passes(check: _Check, name: str) -> bool:
    try:
        check(name)
    except RegistryError:
        return False
    return True


def _times(status: os.stat_result) -> _Times:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _read(stream: BinaryIO, times: _Times, where: str, *, with_summary: bool) -> _Known:
    """Hash a file, and scan it if it is a model.

    The scan runs on a copy in memory: whoever truncates a mapped file kills
    the process that has it mapped.
    """
    digest, summary = hashlib.sha256(), None
    try:
        with open(os.memfd_create("scan"), "w+b", buffering=0) as copy:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
                if with_summary:
                    copy.write(chunk)
            if with_summary:
                summary = scan_file(copy.fileno())
    except OSError as exc:
        raise Unavailable(f"{where} cannot be read: {exc.strerror}") from exc
    except RegistryError as exc:
        raise type(exc)(f"{where}: {exc}") from exc
    return _Known(times, digest.hexdigest(), summary)


def _manifest(
    model: str, version: str, files: tuple[ManifestFile, ...], config: TritonConfig
) -> Manifest:
    """created_ns stays 0: copying a repository must not change what its versions are."""
    return Manifest(
        model=model,
        version=version,
        files=files,
        inputs=config.with_batch(config.inputs),
        outputs=config.with_batch(config.outputs),
        serving=config.serving(),
        warnings=tuple(config.warnings),
    )


def _with_graph_signature(manifest: Manifest, summary: OnnxSummary) -> Manifest:
    """Fill in the signature that config.pbtxt leaves out, as Triton does."""
    if manifest.inputs and manifest.outputs:
        return manifest
    if summary.unreadable:
        names = ", ".join(shown(name) for name in summary.unreadable[:8])
        warning = f"the graph leaves the type or rank of {names} open: the signature is not checked"
        return replace(manifest, warnings=(*manifest.warnings, warning))
    return replace(
        manifest,
        inputs=manifest.inputs or tuple(summary.inputs),
        outputs=manifest.outputs or tuple(summary.outputs),
    )
