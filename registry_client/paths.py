"""Opening files beneath a folder without ever leaving it.

Laws: every step is opened relative to the folder before it and follows no
link, so a swap of a folder for a link between a check and its use changes
nothing; the result is a regular file with one name, never a pipe or a device.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry_client.core.errors import NotFound, RegistryError, Unavailable, Unsafe
from registry_client.core.names import check_file_name, shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that someone put there must not hang.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_beneath(root: Path, name: str, within: tuple[str, ...] = ()) -> int:
    """Open the file `name` beneath `root`; the caller owns the descriptor.

    name:   a relative path that passes `check_file_name`.
    within: folders between `root` and `name`, checked names; `root` itself is trusted.
    Raises: InvalidName, NotFound, Unsafe (a link, or not a regular file), Unavailable.
    """
    *inner_folders, last = check_file_name(name).split("/")
    folders = [*within, *inner_folders]
    name = "/".join([*folders, last])
    with _root(root, name) as base:
        folder = base
        try:
            for segment in folders:
                inner = _open(segment, _FOLDER, folder, name)
                if folder != base:
                    os.close(folder)
                folder = inner
            return _regular(_open(last, _FILE, folder, name), name)
        finally:
            if folder != base:
                os.close(folder)


@contextmanager
def _root(root: Path, name: str) -> Iterator[int]:
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _translated(exc, name) from exc
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(segment: str, flags: int, folder: int, name: str) -> int:
    try:
        return os.open(segment, flags, dir_fd=folder)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(segment, folder):
            raise Unsafe(f"{shown(name)} is or passes through a symbolic link") from exc
        raise _translated(exc, name) from exc


def _is_link(segment: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(segment, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _translated(exc: OSError, name: str) -> RegistryError:
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"file {shown(name)} is missing")
    return Unavailable(f"file {shown(name)} cannot be opened: {exc.strerror}")


def _regular(descriptor: int, name: str) -> int:
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise Unsafe(f"{shown(name)} is a hard link: a second name outside could change it")
    raise Unsafe(f"{shown(name)} is not a regular file")


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable after a rename."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all: temporary file, fsync, rename, fsync."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)
