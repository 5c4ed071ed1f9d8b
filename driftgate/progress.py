"""A bar on a terminal for what takes longer than a person likes to wait unsaid."""

import sys
import time
from types import TracebackType

WIDTH = 32
EVERY_S = 0.1


class ProgressBar:
    """Call it with the share that is done. On standard error, and only if that is a terminal."""

    def __init__(self, what: str) -> None:
        self._what, self._shown_s = what, 0.0
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_terminal:  # what follows begins on a clean line
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __call__(self, share: float) -> None:
        now_s = time.monotonic()
        if not self._is_terminal or now_s - self._shown_s < EVERY_S:
            return
        self._shown_s = now_s
        full = round(share * WIDTH)
        bar = "█" * full + "░" * (WIDTH - full)
        sys.stderr.write(f"\r\x1b[K{self._what} {bar} {share:4.0%}")
        sys.stderr.flush()
