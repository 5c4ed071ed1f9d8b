"""Files with secret keys: made once, whole, and readable by their owner alone."""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from eventlog.segment_files import SCRATCH_SUFFIX


def create_key(path: Path, size: int) -> None:
    """Put a new key of `size` bytes there, unless somebody else was faster. Raises: OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = _scratch(path, [secrets.token_hex(size)])
    try:
        os.link(scratch, path)  # unlike a rename, it never replaces keys of another process
    except FileExistsError:
        return
    finally:
        scratch.unlink()


def replace_keys(path: Path, keys: Sequence[str]) -> None:
    """Put these keys, in hex, in place of those that are there. Raises: OSError."""
    os.replace(_scratch(path, keys), path)


def _scratch(path: Path, keys: Sequence[str]) -> Path:
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}{SCRATCH_SUFFIX}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{key}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    return scratch
