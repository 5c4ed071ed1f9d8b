"""Names in the log directory, and how files there come into being.

`<producer>-<first offset>.db` is a segment; `.r<k>.db` replaces the revisions
below k (a salvage, or the gaps that are left of a removed one), so a
replacement takes effect by one rename. `<producer>.slab` is the ledger slab.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SLAB_SUFFIX = ".slab"
CORRUPT_SUFFIX = ".corrupt"
SCRATCH_SUFFIX = ".new"
WAL_SUFFIXES = ("-wal", "-shm", "-journal")
_NAME = re.compile(r"([0-9a-f]{6})-(\d{12})(?:\.r(\d+))?\.db")


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """Sorted by producer, then by place in its log."""

    producer: str
    first_offset: int
    revision: int = 0

    def __str__(self) -> str:
        revision = f".r{self.revision}" if self.revision else ""
        return f"{self.producer}-{self.first_offset:012d}{revision}.db"

    def replacement(self) -> "SegmentName":
        return SegmentName(self.producer, self.first_offset, self.revision + 1)

    def sealed_at(self, follower: "SegmentName | None") -> int | None:
        """The last offset of an original that has a follower: none before it may be missing.

        None for one that may still grow, and for a replacement, which may have holes.
        """
        return None if follower is None or self.revision else follower.first_offset - 1


def parse_segment_name(text: str) -> SegmentName | None:
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    return SegmentName(match[1], int(match[2]), int(match[3] or 0))


def list_segments(directory: Path) -> dict[str, list[SegmentName]]:
    """Segments in force, per producer, ascending; superseded revisions are left out."""
    current: dict[tuple[str, int], SegmentName] = {}
    for name in sorted(all_segments(directory)):
        current[name.producer, name.first_offset] = name
    by_producer: dict[str, list[SegmentName]] = {}
    for name in current.values():
        by_producer.setdefault(name.producer, []).append(name)
    return by_producer


def all_segments(directory: Path) -> list[SegmentName]:
    """Every segment file, superseded ones too."""
    names = (parse_segment_name(entry) for entry in os.listdir(directory))
    return [name for name in names if name is not None]


def slab_path(directory: Path, producer: str) -> Path:
    return directory / f"{producer}{SLAB_SUFFIX}"


def list_slabs(directory: Path) -> list[str]:
    """Producers that have a slab."""
    return sorted(path.stem for path in directory.glob(f"*{SLAB_SUFFIX}"))


def remove_segment(directory: Path, name: SegmentName) -> None:
    """Unlink a segment whole, its write-ahead log with it."""
    path = directory / str(name)
    path.unlink(missing_ok=True)  # first: a log without its file is litter, never the reverse
    for suffix in WAL_SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def set_aside(directory: Path, name: SegmentName) -> Path:
    """Rename a damaged segment out of the log; its files stay for a person to look at."""
    path = directory / str(name)
    for suffix in ("", *WAL_SUFFIXES):
        source = path.with_name(path.name + suffix)
        if source.exists():
            source.rename(path.with_name(path.name + CORRUPT_SUFFIX + suffix))
    return path.with_name(path.name + CORRUPT_SUFFIX)


def segment_bytes(directory: Path, name: SegmentName) -> int:
    """Bytes on disk, write-ahead log included."""
    total = 0
    path = directory / str(name)
    for suffix in ("", *WAL_SUFFIXES):
        try:
            total += path.with_name(path.name + suffix).stat().st_size
        except FileNotFoundError:
            continue
    return total


def sync_directory(directory: Path) -> None:
    """Make renames and new files in `directory` survive a power loss."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, room: Path | None = None) -> None:
    """Write `content` to `path` at once or not at all; survives a power loss.

    room: a file on the same disk, whose blocks are used, and which is gone afterwards.
    """
    scratch = room or path.with_name(path.name + SCRATCH_SUFFIX)
    with scratch.open("r+b" if room else "wb") as file:
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
    sync_directory(path.parent)


@contextmanager
def books_lock(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Held while segments are replaced or removed, and, shared, while they are added up."""
    descriptor = os.open(directory / "books.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
