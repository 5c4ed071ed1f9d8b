"""From a registry into memory that nobody can change: sealed memfds.

Verified bytes are the loaded bytes: each file is copied once into an anonymous
file of its own, hashed while it is copied, and sealed against writing, growing,
shrinking and unsealing. Workers get the descriptors and never a path.
"""

import fcntl
import os
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType

from registry_client.core.errors import NotFound, RegistryError
from registry_client.core.manifest import FileRole, Manifest, ManifestFile
from registry_client.core.names import shown
from registry_client.source import Source
from registry_client.verified import check_references, named, read_verified

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(slots=True)
class Fetched:
    """A version in memory. files: each with its descriptor, the model first.

    Owns the descriptors until `close`; a receiver of SCM_RIGHTS gets duplicates.
    """

    manifest: Manifest
    files: list[tuple[ManifestFile, int]]

    def read(self, name: str) -> bytes:
        """The contents of one file. Raises NotFound."""
        for file, descriptor in self.files:
            if file.name == name:
                with open(f"/proc/self/fd/{descriptor}", "rb", buffering=0) as stream:
                    return stream.readall()
        raise NotFound(f"{self.manifest.model}: file {shown(name)} was not fetched")

    def close(self) -> None:
        """Give the memory back, as far as nobody else holds a duplicate."""
        files, self.files = self.files, []
        for _, descriptor in files:
            os.close(descriptor)

    def __enter__(self) -> "Fetched":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def fetch(
    source: Source, model: str, version: str, roles: Collection[FileRole] | None = None
) -> Fetched:
    """Copy a version's files into sealed memfds.

    roles:  which files besides the model; None for all.
    Raises: RegistryError with one line that names model, version and file; nothing
            is left open then.
    """
    manifest = source.manifest(model, version)
    fetched = Fetched(manifest, [])
    others = [file for file in manifest.files if file.role is not FileRole.MODEL]
    try:
        fetched.files.append((manifest.model_file, _copy(source, manifest, manifest.model_file)))
        check_references(manifest, fetched.files[0][1])
        for file in others:
            if roles is None or file.role in roles:
                fetched.files.append((file, _copy(source, manifest, file)))
    except BaseException:
        fetched.close()
        raise
    return fetched


def _copy(source: Source, manifest: Manifest, file: ManifestFile) -> int:
    where = named(manifest, file)
    try:
        stream = source.open(manifest, file)
    except RegistryError as exc:
        raise type(exc)(f"{where}: {exc}") from exc
    with stream:
        descriptor = os.memfd_create(f"{manifest.model}-{manifest.version}", os.MFD_ALLOW_SEALING)
        try:
            read_verified(stream, file, where, lambda chunk: _write(descriptor, chunk))
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            os.lseek(descriptor, 0, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _write(descriptor: int, chunk: memoryview) -> None:
    while chunk:
        count = os.write(descriptor, chunk)
        chunk = chunk[count:]


def read_file(source: Source, manifest: Manifest, role: FileRole) -> bytes | None:
    """The verified bytes of the first file of a role (a profile, golden samples), or None."""
    file = manifest.file(role)
    if file is None:
        return None
    parts: list[bytes] = []
    with source.open(manifest, file) as stream:
        read_verified(stream, file, named(manifest, file), lambda chunk: parts.append(bytes(chunk)))
    return b"".join(parts)
