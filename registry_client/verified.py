"""Reading files against their manifest: the one place where bytes become trusted.

Laws: the digest is taken over the very bytes that are passed on; reading stops
at the size that was promised, so a file that grows or never ends costs nothing
more; a model's references to external data are checked against the manifest.
"""

import hashlib
import mmap
import os
from collections.abc import Callable
from typing import BinaryIO

from registry_client.core.errors import Corrupt, RegistryError, Unavailable
from registry_client.core.manifest import FileRole, Manifest, ManifestFile
from registry_client.core.names import shown
from registry_client.core.onnx_wire import OnnxSummary, check_external, scan_onnx
from registry_client.source import Problem, Source

CHUNK_BYTES = 1024 * 1024  # beyond it hashing gets no faster


def read_verified(
    stream: BinaryIO, file: ManifestFile, where: str, take: Callable[[memoryview], object]
) -> None:
    """Pass the whole of `stream` to `take` in chunks, then say whether it was `file`.

    take: gets views that are valid during the call only.
    Raises: Corrupt if size or SHA-256 differ, Unavailable if reading fails. What
            `take` got is not to be used unless this returns.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, file.bytes + 1)))
    left = file.bytes
    try:
        while count := stream.readinto(buffer):  # type: ignore[attr-defined]
            if count > left:
                raise Corrupt(f"{where} is longer than the {file.bytes} bytes of its manifest")
            digest.update(buffer[:count])
            take(buffer[:count])
            left -= count
    except OSError as exc:
        raise Unavailable(f"{where} cannot be copied: {exc.strerror}") from exc
    if left:
        raise Corrupt(f"{where} is truncated: {file.bytes - left} of {file.bytes} bytes")
    if digest.hexdigest() != file.sha256:
        raise Corrupt(
            f"{where} is damaged: its SHA-256 is {digest.hexdigest()[:12]}…, "
            f"the manifest says {file.sha256[:12]}…"
        )


def named(manifest: Manifest, file: ManifestFile) -> str:
    """A file for a message."""
    return f"model {manifest.model} version {manifest.version}: file {shown(file.name)}"


def check_references(manifest: Manifest, descriptor: int) -> None:
    """Refuse a model file that refers to data outside its manifest.

    descriptor: of the model file, already verified. Raises: Unsafe, Corrupt.
    """
    sizes = {file.name: file.bytes for file in manifest.files if file.role is FileRole.EXTERNAL}
    where = f"model {manifest.model} version {manifest.version}"
    try:
        check_external(scan_file(descriptor).external, sizes)
    except RegistryError as exc:
        raise type(exc)(f"{where}: {exc}") from exc


def scan_file(descriptor: int) -> OnnxSummary:
    """Scan an ONNX file that nobody truncates meanwhile. Raises Corrupt, Unsafe."""
    if os.fstat(descriptor).st_size == 0:
        raise Corrupt("model file is empty")
    # Private: a shared map of a write-sealed memfd is refused before Linux 6.7.
    with mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as view:
        return scan_onnx(view)


def verify_version(source: Source, model: str, version: str) -> list[Problem]:
    """Read every file of a version and list what is wrong; empty if nothing is."""
    try:
        manifest = source.manifest(model, version)
    except RegistryError as exc:
        return [Problem(model, version, "", str(exc))]
    problems = []
    for file in manifest.files:
        try:
            with source.open(manifest, file) as stream:
                read_verified(stream, file, named(manifest, file), len)
                if file.role is FileRole.MODEL:
                    check_references(manifest, stream.fileno())
        except RegistryError as exc:
            problems.append(Problem(model, version, file.name, str(exc)))
    return problems
