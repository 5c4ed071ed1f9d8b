"""The registry of one machine: a folder with blobs, manifests and a SQLite index.

    blobs/sha256/<hex>               file contents
    manifests/<model>/<version>.json the manifest, canonical JSON
    aliases/<model>/<alias>.json     every move of an alias
    index.db                         all of it, for look-ups and compare-and-set

Laws: blobs are durable before the manifest that names them, the manifest before
the index row; versions never change; any number of processes may use the folder
at once. The index can be lost: it is set aside when damaged and rebuilt from
the files, which are written inside each index transaction.
"""

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from registry_client.blobs import BlobStore
from registry_client.core.errors import Conflict, Corrupt, NotFound, RegistryError, Unavailable
from registry_client.core.manifest import FileRole, Manifest, ManifestFile
from registry_client.core.names import check_alias, check_model_name, check_version, shown
from registry_client.core.signature import Feature, TensorSpec
from registry_client.index import (
    AliasChange,
    Index,
    current_alias,
    has_version,
    history,
    latest_version,
    move_alias,
)
from registry_client.paths import open_beneath, replace_file
from registry_client.rebuild import alias_document, rebuild_index, set_aside
from registry_client.source import Problem
from registry_client.verified import check_references, verify_version

_LOG = logging.getLogger("registry_client")
TEMPORARY_AGE_S = 86_400.0  # no push takes a day: older ones were killed


class _Anything:
    """The type of ANY_VERSION."""


ANY_VERSION: Final = _Anything()


class EmbeddedRegistry:
    """Implements Source, and takes pushes. `notes` says what start-up had to repair."""

    def __init__(self, directory: Path) -> None:
        try:
            self._open(directory)
        except OSError as exc:
            raise Unavailable(f"registry {directory} cannot be used: {exc.strerror}") from exc

    def _open(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.notes: list[str] = []
        self._blobs = BlobStore(directory)
        self._index = Index(directory / "index.db")
        with _locked(directory / "start.lock"):
            self._start()
            _remove_old(directory / "tmp")
        for note in self.notes:
            _LOG.warning("%s", note)

    def _start(self) -> None:
        damage = ""
        try:
            was_empty = self._index.create()
        except Corrupt as exc:
            damage = f"{exc}; set aside as {set_aside(self._index.path)}; "
            was_empty = self._index.create()
        if was_empty:
            with self._index.writing() as connection:
                counts = rebuild_index(self.directory, connection)
            if damage or counts.versions or counts.skipped:
                self.notes.append(f"{damage or 'registry index was missing; '}{counts.text()}")

    def models(self) -> list[str]:
        with self._index.reading() as connection:
            rows = connection.execute("SELECT DISTINCT model FROM versions ORDER BY model")
            return [name for (name,) in rows]

    def versions(self, model: str) -> list[str]:
        check_model_name(model)
        with self._index.reading() as connection:
            query = "SELECT version FROM versions WHERE model = ? ORDER BY version"
            return [str(version) for (version,) in connection.execute(query, (model,))]

    def aliases(self, model: str) -> dict[str, str]:
        check_model_name(model)
        with self._index.reading() as connection:
            query = "SELECT alias, version FROM aliases WHERE model = ? ORDER BY alias"
            return {alias: str(version) for alias, version in connection.execute(query, (model,))}

    def alias(self, model: str, alias: str) -> tuple[str | None, int]:
        check_model_name(model)
        check_alias(alias)
        with self._index.reading() as connection:
            return current_alias(connection, model, alias)

    def alias_history(self, model: str, alias: str) -> list[AliasChange]:
        """Every move of an alias, oldest first."""
        check_model_name(model)
        check_alias(alias)
        with self._index.reading() as connection:
            return history(connection, model, alias)

    def manifest(self, model: str, version: str) -> Manifest:
        """Read from the index and checked against its digest. Raises NotFound, Corrupt."""
        check_model_name(model)
        check_version(version)
        with self._index.reading() as connection:
            query = "SELECT digest, manifest FROM versions WHERE model = ? AND version = ?"
            row = connection.execute(query, (model, int(version))).fetchone()
        if row is None:
            raise NotFound(f"model {model} version {version} is not in the registry")
        manifest = Manifest.from_json(row[1])
        if (manifest.digest, manifest.model, manifest.version) != (row[0], model, version):
            raise Corrupt(f"manifest of {model} version {version} does not match its digest")
        return manifest

    def open(self, manifest: Manifest, file: ManifestFile) -> BinaryIO:  # noqa: ARG002
        return self._blobs.open(file.sha256)

    def push(
        self,
        model: str,
        files: Mapping[str, tuple[FileRole, Path | bytes]],
        *,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        features: Sequence[Feature] = (),
        lineage: Mapping[str, Any] | None = None,
        serving: Mapping[str, Any] | None = None,
        version: str | None = None,
    ) -> Manifest:
        """Store a new version; it is there whole once this returns, else not at all.

        files:   name -> (role, contents); paths are read once, in chunks.
        version: None takes the next number.
        Raises:  InvalidName, Invalid, NotFound (a file to push), Unsafe and Corrupt
                 (the model), Conflict (the version exists), Unavailable.
        """
        check_model_name(model)
        if version is not None:
            self._check_new(model, check_version(version))
        stored = [
            ManifestFile(name, role, blob.bytes, blob.sha256)
            for name, (role, contents) in files.items()
            for blob in [self._blobs.put(contents)]
        ]

        def manifest_of(number: str) -> Manifest:
            return Manifest(
                model=model,
                version=number,
                files=tuple(stored),
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                features=tuple(features),
                lineage=dict(lineage or {}),
                serving=dict(serving or {}),
                created_ns=time.time_ns(),
            )

        draft = manifest_of(version or "1")
        with self.open(draft, draft.model_file) as blob:
            check_references(draft, blob.fileno())
        with self._index.writing() as connection:
            number = version or str(latest_version(connection, model) + 1)
            if has_version(connection, model, number):
                raise _exists(model, number)
            manifest = manifest_of(number)
            self._record(connection, manifest)
        return manifest

    def _check_new(self, model: str, version: str) -> None:
        with self._index.reading() as connection:
            if has_version(connection, model, version):
                raise _exists(model, version)

    def _record(self, connection: sqlite3.Connection, manifest: Manifest) -> None:
        data = manifest.to_json()
        _write(self.directory / "manifests" / manifest.model / f"{manifest.version}.json", data)
        connection.execute(
            "INSERT INTO versions VALUES (?, ?, ?, ?)",
            (manifest.model, int(manifest.version), manifest.digest, data),
        )

    def set_alias(
        self,
        model: str,
        alias: str,
        version: str,
        expected: str | _Anything | None = ANY_VERSION,
        *,
        reason: str = "",
    ) -> int:
        """Point an alias at a version, if it still points where the caller believes.

        expected: the version it must have now; None if there must be no such alias;
                  left out: whatever it has.
        Returns: its serial, which has risen unless the alias was there already.
        Raises:  NotFound (the version), Conflict (it points elsewhere).
        """
        check_model_name(model)
        check_alias(alias)
        check_version(version)
        with self._index.writing() as connection:
            if not has_version(connection, model, version):
                raise NotFound(f"model {model} version {version} is not in the registry")
            current, serial = current_alias(connection, model, alias)
            if not isinstance(expected, _Anything) and expected != current:
                raise Conflict(
                    f"alias {alias} of {model} is at {current or 'no version'}, "
                    f"not at {expected or 'no version'}"
                )
            if current == version:
                return serial
            change = AliasChange(serial + 1, version, current, reason, time.time_ns())
            move_alias(connection, model, alias, change)
            document = alias_document(history(connection, model, alias))
            _write(self.directory / "aliases" / model / f"{alias}.json", document)
        return change.serial

    def verify(self, model: str, version: str | None = None) -> list[Problem]:
        """Read every byte of one version, or of all, and list what is wrong."""
        versions = self.versions(model) if version is None else [check_version(version)]
        if not versions:
            raise NotFound(f"model {shown(model)} is not in the registry")
        problems: list[Problem] = []
        for number in versions:
            found = verify_version(self, model, number)
            problems += found or self._verify_copy(model, number)
        return problems

    def _verify_copy(self, model: str, version: str) -> list[Problem]:
        """The manifest's file must equal the index: it is what a rebuild starts from."""
        wanted = self.manifest(model, version).to_json()
        name = f"{version}.json"
        try:
            with open(open_beneath(self.directory, name, ("manifests", model)), "rb") as stream:
                if stream.read(len(wanted) + 1) == wanted:
                    return []
            text = "the manifest's file differs from the index"
        except RegistryError as exc:
            text = str(exc)
        return [Problem(model, version, name, text)]


def _exists(model: str, version: str) -> Conflict:
    return Conflict(f"model {model} version {version} exists already, and versions never change")


def _write(path: Path, data: bytes) -> None:
    try:
        replace_file(path, data)
    except OSError as exc:
        raise Unavailable(f"{path.name} cannot be written: {exc.strerror}") from exc


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Start-up repairs happen in one process at a time."""
    with open(path, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_old(folder: Path) -> None:
    oldest_s = time.time() - TEMPORARY_AGE_S
    for entry in os.scandir(folder):
        if entry.stat(follow_symlinks=False).st_mtime < oldest_s:
            os.unlink(entry.path)
