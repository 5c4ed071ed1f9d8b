"""Rows of the reference that are kept in its profile, to compare live rows with.

Laws:
- they are drawn by a hash of their place, so sorted references are no harm and the
  profile stays the same whenever it is fitted;
- they stand in the order of that hash: any part of them is a fair sample too;
- they are bounded by rows and by values, whatever the reference.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.mixing import mixed

Rows = NDArray[np.float32]

REFERENCE_ROWS = 2000  # half of them to fit, half to compare
REFERENCE_VALUES_MAX = 1 << 18  # 1 MiB


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceRows:
    """Rows in one space; features: (w,) places in the profile's features; values: (n, w)."""

    space: str
    features: tuple[int, ...]
    values: Rows

    def to_tree(self) -> dict[str, Any]:
        return {
            "space": self.space,
            "features": list(self.features),
            "rows": len(self.values),
            "values": b64encode(self.values.astype("<f4").tobytes()).decode(),
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "ReferenceRows":
        """Raises: ValueError, KeyError or TypeError."""
        members, rows = tuple(int(place) for place in tree["features"]), int(tree["rows"])
        if not 0 <= rows <= REFERENCE_VALUES_MAX // max(len(members), 1):
            raise ValueError(f"space {tree['space']!r} has {rows} rows, more than are kept")
        values = np.frombuffer(b64decode(tree["values"], validate=True), dtype="<f4")
        return cls(str(tree["space"]), members, values.reshape(rows, len(members)))


def drawn(rows: int, most: int) -> NDArray[np.int64]:
    """The places of up to `most` of so many rows, in the order of their hash."""
    return np.argsort(mixed(np.arange(1, rows + 1)), kind="stable")[:most].astype(np.int64)


def rows_within(width: int, rows: int, values_max: int) -> int:
    """How many rows of so many values there is room for."""
    return min(rows, values_max // max(width, 1))


def as_rows(columns: Sequence[NDArray[Any]]) -> Rows:
    """Columns beside each other; what float32 cannot hold is infinite."""
    with np.errstate(over="ignore"):
        return np.stack([column.astype(np.float32) for column in columns], axis=1)
