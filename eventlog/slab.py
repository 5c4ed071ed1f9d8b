"""The ledger slab: one page of shared memory per incarnation, on file.

Laws:
- the owner holds an exclusive flock on the file for its life; who can take the
  lock knows that the owner is gone;
- `acknowledged` rises before a reply is written, so a kill -9 cannot lose it;
- the boot id tells whether the machine went down in between: then the page may
  be older than what clients were told, and the books say "unknown".
"""

import fcntl
import mmap
import os
import struct
import time
import zlib
from enum import IntEnum
from pathlib import Path

from eventlog.core.prediction_id import check_producer
from eventlog.core.record import LogError
from eventlog.segment_files import SCRATCH_SUFFIX, SLAB_SUFFIX, slab_path, sync_directory

MAGIC = b"dgslab01"  # the last two digits are the version
SLAB_BYTES = 4096
LOCK_ATTEMPTS, LOCK_PAUSE_S = 10, 0.005
_HEADER = struct.Struct("<8sIq16s")  # magic, producer, created_ns, boot id
_CRC_OFFSET = _HEADER.size
_CELLS_OFFSET = 64
_CELLS = 4
_ACKNOWLEDGED, _STATE, _CLOSED_NS, _UNCERTAIN = range(_CELLS)


class SlabState(IntEnum):
    RESERVED = 1  # named by the supervisor, not yet opened by its worker
    OPEN = 2
    CLOSED = 3  # the end record is in the spool


class SlabDamaged(LogError):
    """The file is no slab of this version, or its header does not match its checksum."""


class SlabInUse(LogError):
    """Another process holds the slab."""


def boot_id() -> bytes:
    """16 bytes that change with every boot of the machine."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return bytes(16)
    return bytes.fromhex(text.strip().replace("-", ""))


def create_slab(directory: Path, producer: str, now_ns: int) -> None:
    """Reserve `producer` durably.

    The page is allocated on disk: a hole could kill the worker (SIGBUS) when the
    disk is full.
    Raises: FileExistsError if the name is taken, OSError.
    """
    path = slab_path(directory, producer)
    scratch = path.with_name(f"{path.name}.{os.getpid()}{SCRATCH_SUFFIX}")
    header = _HEADER.pack(MAGIC, int(check_producer(producer), 16), now_ns, boot_id())
    page = bytearray(SLAB_BYTES)
    page[: len(header)] = header
    struct.pack_into("<I", page, _CRC_OFFSET, zlib.crc32(header))
    struct.pack_into("<q", page, _CELLS_OFFSET + 8 * _STATE, SlabState.RESERVED)
    try:
        with scratch.open("wb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_directory(directory)


class Slab:
    """An open slab whose lock this process holds."""

    def __init__(self, directory: Path, producer: str) -> None:
        """Raises: FileNotFoundError, SlabInUse, SlabDamaged."""
        self.producer = producer
        path = slab_path(directory, producer)
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._lock(path)
            page = os.pread(self._file, SLAB_BYTES, 0)
            self.created_ns, self.same_boot = _check(page, producer)
            self._map = mmap.mmap(self._file, SLAB_BYTES)
        except BaseException:
            os.close(self._file)
            raise
        self._view = memoryview(self._map)
        self.cells = self._view[_CELLS_OFFSET : _CELLS_OFFSET + 8 * _CELLS].cast("q")

    @property
    def acknowledged(self) -> int:
        """Sequence numbers assigned so far."""
        return self.cells[_ACKNOWLEDGED]

    @acknowledged.setter
    def acknowledged(self, value: int) -> None:
        self.cells[_ACKNOWLEDGED] = value

    @property
    def state(self) -> SlabState:
        return SlabState(self.cells[_STATE])

    def open(self) -> None:
        """Take a reserved slab into use. Raises: LogError if it was used before."""
        if self.state is not SlabState.RESERVED:
            raise LogError(f"incarnation {self.producer} was used before; allocate a new one")
        self.cells[_STATE] = SlabState.OPEN

    def close_books(self, now_ns: int, *, uncertain: bool = False) -> None:
        """Mark the incarnation as ended, durably."""
        self.cells[_CLOSED_NS] = now_ns
        self.cells[_UNCERTAIN] = int(uncertain)
        self.cells[_STATE] = SlabState.CLOSED
        self._map.flush()

    def release(self) -> None:
        """Give up the lock and the mapping."""
        self.cells.release()
        self._view.release()
        self._map.close()
        os.close(self._file)

    def _lock(self, path: Path) -> None:
        # A look at the ledger holds the lock for microseconds: try more than once.
        for _ in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_PAUSE_S)
            else:
                return
        raise SlabInUse(f"{path.name} is held by a running process")


class SlabView:
    """What anybody can see of a slab without holding it."""

    __slots__ = ("acknowledged", "closed_ns", "created_ns", "live", "state", "uncertain")

    def __init__(self, directory: Path, producer: str) -> None:
        """Raises: FileNotFoundError, SlabDamaged."""
        file = os.open(slab_path(directory, producer), os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.live = _is_locked(file)
            page = os.pread(file, SLAB_BYTES, 0)
        finally:
            os.close(file)
        self.created_ns, _ = _check(page, producer)
        cells = struct.unpack_from(f"<{_CELLS}q", page, _CELLS_OFFSET)
        self.acknowledged: int = cells[_ACKNOWLEDGED]
        self.closed_ns: int = cells[_CLOSED_NS]
        self.uncertain = bool(cells[_UNCERTAIN])
        self.state: int = cells[_STATE]


def rows_numbered(directory: Path, producer: str) -> int:
    """How many rows an incarnation has numbered; 0 if its slab cannot be read."""
    try:
        return SlabView(directory, producer).acknowledged
    except (OSError, SlabDamaged):
        return 0


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _check(page: bytes, producer: str) -> tuple[int, bool]:
    """Returns: when the slab was made, and whether since the last boot."""
    if len(page) != SLAB_BYTES or page[:6] != MAGIC[:6]:
        raise SlabDamaged(f"{producer}{SLAB_SUFFIX} is not a ledger slab")
    magic, number, created_ns, boot = _HEADER.unpack_from(page)
    if magic != MAGIC:
        raise SlabDamaged(f"slab of {producer} has version {magic[6:]!r}, expected {MAGIC[6:]!r}")
    (crc,) = struct.unpack_from("<I", page, _CRC_OFFSET)
    if crc != zlib.crc32(page[: _HEADER.size]) or number != int(producer, 16):
        raise SlabDamaged(f"slab of {producer} does not match its checksum")
    (state,) = struct.unpack_from("<q", page, _CELLS_OFFSET + 8 * _STATE)
    if state not in tuple(SlabState):
        raise SlabDamaged(f"slab of {producer} is in state {state}")
    return created_ns, boot == boot_id()
