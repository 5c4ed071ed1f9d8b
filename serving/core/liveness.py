"""Which workers stand still: a number that each raises while its event loop turns.

Laws:
- only a change counts, by the watcher's own clock, so nobody's clocks are compared;
- a worker that has not begun to beat is not judged: other bounds hold for a start;
- who watches may have been held up together with those it watches (a suspended
  machine, a paused container): after a late look everyone gets the whole bound anew.
"""

from collections.abc import Mapping

LATE_S = 2.0  # between two looks; they are asked for four times a second


class Liveness:
    """When each worker was last seen to move."""

    def __init__(self, hang_s: float) -> None:
        """hang_s: how long a worker may stand still; 0 lets it stand for ever."""
        self._hang_s = hang_s
        self._seen: dict[str, tuple[int, float]] = {}  # beats, and when they last rose
        self._looked_at = 0.0

    def look(self, beats: Mapping[str, int], now: float) -> list[str]:
        """Take in what every worker shows now; the names of those that hang.

        beats: 0 for one that has not begun. now: monotonic seconds.
        """
        late = now - self._looked_at > LATE_S
        self._looked_at = now
        before = {} if late else self._seen
        self._seen = {}
        for name, count in beats.items():
            seen = before.get(name)
            if count:
                self._seen[name] = seen if seen and seen[0] == count else (count, now)
        if not self._hang_s:
            return []
        return [name for name, (_, since) in self._seen.items() if now - since > self._hang_s]
