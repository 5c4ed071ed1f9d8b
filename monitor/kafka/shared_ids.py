"""Prediction ids with keys that somebody else made: those of the gateways.

A monitor that made keys of its own would call every label malformed. Without the
gateways' file labels are counted as unverified, and nothing is concluded from them.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from eventlog import LogError, PredictionId, PredictionIds
from eventlog.ids import KEY_FILE
from monitor.engine import Unverifiable

LOOK_AGAIN_S = 5.0  # for a file that the gateway of the same state directory has yet to make

logger = logging.getLogger(__name__)


class SharedIds:
    """Mutable; for one thread."""

    def __init__(self, state_dir: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._state_dir, self._clock_s = state_dir, clock_s
        self._ids: PredictionIds | None = None
        self._next_s = 0.0
        self._said = False

    @property
    def known(self) -> bool:
        return self._ids is not None or self._load()

    def decode(self, text: str) -> PredictionId:
        """Raises: InvalidPredictionId; Unverifiable while there are no keys."""
        if not self.known:
            raise Unverifiable
        assert self._ids is not None
        return self._ids.decode(text)

    def encode(self, ts_ms: int, producer: str, sequence: int) -> str | None:
        """The id of a request; None while there are no keys."""
        if not self.known:
            return None
        assert self._ids is not None
        return self._ids.encode(ts_ms, producer, sequence)

    def _load(self) -> bool:
        if self._clock_s() < self._next_s:
            return False
        self._next_s = self._clock_s() + LOOK_AGAIN_S
        try:
            self._ids = PredictionIds.load(self._state_dir, create=False)
        except (LogError, OSError) as error:
            if not self._said:
                logger.warning(
                    "labels cannot be verified and are not used until %s has the gateways' %s: %s",
                    *(self._state_dir, KEY_FILE, error),
                )
            self._said = True
            return False
        return True
