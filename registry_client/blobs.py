"""Content-addressed blobs: `blobs/sha256/<hex>`, written once, never changed.

Laws: a blob appears under its name only when all of its bytes are on disk; the
name is the SHA-256 of the bytes that were written, not of a second read; a
blob that is pushed again replaces what lies there, which repairs a damaged one.
"""

import contextlib
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from registry_client.core.errors import NotFound, Unavailable
from registry_client.core.names import shown
from registry_client.paths import open_beneath, sync_folder

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: lower-case hex and size."""

    sha256: str
    bytes: int


class BlobStore:
    """Blobs beneath one folder; safe with any number of processes."""

    def __init__(self, directory: Path) -> None:
        self._blobs = directory / "blobs" / "sha256"
        self._temporary = directory / "tmp"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(exist_ok=True)

    def put(self, source: Path | bytes) -> Stored:
        """Copy `source` in, hashing while writing. Raises NotFound, Unavailable."""
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._temporary)
        except OSError as exc:
            raise _translated(source, exc) from exc
        try:
            with open(descriptor, "wb") as target:
                stored = _copy(source, target)
                os.fchmod(target.fileno(), 0o444)
                target.flush()
                os.fsync(target.fileno())
            os.replace(temporary, self._blobs / stored.sha256)
            sync_folder(self._blobs)
        except OSError as exc:
            with contextlib.suppress(FileNotFoundError):  # renamed, but not yet durable
                os.unlink(temporary)
            raise _translated(source, exc) from exc
        return stored

    def open(self, sha256: str) -> BinaryIO:
        """Open a blob for reading, unverified. Raises NotFound, Unsafe, Unavailable."""
        return open(open_beneath(self._blobs, sha256), "rb", buffering=0)


def _copy(source: Path | bytes, target: BinaryIO) -> Stored:
    digest, size = hashlib.sha256(), 0
    if isinstance(source, bytes):
        digest.update(source)
        target.write(source)
        return Stored(digest.hexdigest(), len(source))
    with open(source, "rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
            size += len(chunk)
    return Stored(digest.hexdigest(), size)


def _translated(source: Path | bytes, exc: OSError) -> NotFound | Unavailable:
    name = shown(str(source)) if isinstance(source, Path) else "the bytes given"
    if isinstance(exc, FileNotFoundError):
        return NotFound(f"file {name} does not exist")
    return Unavailable(f"{name} cannot be stored: {exc.strerror}")
