"""When data that was broken is sound again, and which rows were answered meanwhile.

What was gathered on broken data is no reason for anything else: a loss that it caused
must not ask for a retraining once the data is mended, nor must its labels that come later.
"""

from dataclasses import dataclass, field

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.data_quality import ROWS_MIN, broken_features
from monitor.core.profile import ReferenceProfile
from monitor.core.tree import Tree

BREAKS_KEPT = 16  # the oldest is forgotten; labels later than so many breaks count again
NOT_YET_NS = 1 << 62


def _no_counts() -> Counts:
    return np.zeros((0, 0), dtype=np.int64)


@dataclass(slots=True)
class Mending:
    """breaks: (from, to) in ns, the last one open while data is broken. Mutable."""

    breaks: list[tuple[int, int]] = field(default_factory=list)
    _since: Counts = field(default_factory=_no_counts)  # seen since it was last broken

    @property
    def is_broken(self) -> bool:
        return bool(self.breaks) and self.breaks[-1][1] == NOT_YET_NS

    def broke(self, from_ns: int) -> None:
        """Data is broken, since `from_ns` if it was not before."""
        if not self.is_broken:
            self.breaks = [*self.breaks, (from_ns, NOT_YET_NS)][-BREAKS_KEPT:]

    def is_mended(
        self,
        latest: Counts,
        profile: ReferenceProfile,
        tolerance: float,
        rows_min: int,
        now_ns: int,
        usual: Floats | None = None,
    ) -> bool:
        """Take account of a block's counts, of data that was broken; whether it is sound now.

        usual: see `broken_features`.
        It takes as many rows as are needed to see that nothing is broken.
        """
        self._since = latest if not self._since.size else self._since + latest
        rows = int(self._since[0].sum()) if len(self._since) else 0
        if rows < max(rows_min, ROWS_MIN):
            return False
        if broken_features(profile, self._since, tolerance, usual):
            self._since = _no_counts()
            return False
        self.end(now_ns)
        return True

    def end(self, now_ns: int) -> None:
        """Whatever was broken is over."""
        if self.is_broken:
            self.breaks[-1] = (self.breaks[-1][0], now_ns)
        self._since = _no_counts()

    def covers(self, at_ns: int) -> bool:
        """Whether data was broken then."""
        return any(from_ns <= at_ns < to_ns for from_ns, to_ns in self.breaks)

    def to_tree(self) -> Tree:
        return {"breaks": [list(item) for item in self.breaks], "since": self._since}

    @classmethod
    def from_tree(cls, tree: Tree) -> "Mending":
        return cls([(a, b) for a, b in tree["breaks"]], tree["since"])
