"""What the supervisor tells whoever reads its standard error."""

import contextlib
import sys


def say(line: str) -> None:
    """Print one line; a reader that is gone or a full disk behind it stops nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(f"gateway: {line}", file=sys.stderr, flush=True)
