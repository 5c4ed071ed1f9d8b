"""What a profile keeps of its reference, to say of one row how unlike it that row is.

Laws:
- it is made of one half of the reference's rows, and its threshold of the other half;
- it holds no row, and is bounded by features, whatever the reference.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.core.bins import SLOTS, Floats
from monitor.core.reference_error import share_bounds

FEATURES_MAX = 128  # a row's score costs their square, and the profile holds it: 88 KB
HELD_MIN = 200  # rows that the threshold is of; of fewer 1 in 20 could not be told


@dataclass(frozen=True, slots=True, eq=False)
class Marginal:
    """One feature in the half that was fitted.

    knots, places: (k,) rising values of a number, and where they stand as deviations of a
                   normal distribution; of a category, or where no value was finite: none.
    counts:        (slot, rows) of the slots in use; of a number its values are in slot 0.
    """

    knots: Floats
    places: Floats
    counts: tuple[tuple[int, int], ...]

    def to_tree(self) -> dict[str, Any]:
        return {
            "knots": self.knots.tolist(),
            "places": self.places.tolist(),
            "counts": [list(item) for item in self.counts],
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Marginal":
        """Raises: ValueError, KeyError or TypeError."""
        knots, places = (np.array(tree[name], dtype=np.float64) for name in ("knots", "places"))
        counts = tuple((int(slot), int(rows)) for slot, rows in tree["counts"])
        sound = knots.ndim == 1 and knots.shape == places.shape and np.all(np.isfinite(places))
        if not (sound and np.all(np.isfinite(knots)) and np.all(np.diff(knots) > 0)):
            raise ValueError("an outlier reference's knots are numbers that rise")
        if not all(0 <= slot < SLOTS and rows >= 0 for slot, rows in counts):
            raise ValueError("an outlier reference's counts are of slots")
        return cls(knots, places, counts)


@dataclass(frozen=True, slots=True, eq=False)
class OutlierReference:
    """marginals: of each feature; precision: (w, w) of the w numbers among them.

    threshold: a row whose score is above it is an outlier; `beyond` of the `held` rows that
               were not fitted are at or above it.
    """

    marginals: tuple[Marginal, ...]
    precision: Floats
    threshold: float
    beyond: int
    held: int

    @property
    def share(self) -> float:
        """Of rows like the reference's, how many are outliers, by the rows held out."""
        return self.beyond / self.held

    @property
    def share_max(self) -> float:
        """Upper bound on that share, with the error of so many held out rows.

        The threshold is one of their scores, so the share above it is no larger than u
        unless fewer than `beyond` of them lie in the upper u: Chernoff's bound for that.
        """
        _, upper = share_bounds(np.array([float(self.beyond)]), np.array([float(self.held)]), 1)
        return float(upper[0])

    def to_tree(self) -> dict[str, Any]:
        lower = self.precision[np.tril_indices(len(self.precision))]
        return {
            "marginals": [item.to_tree() for item in self.marginals],
            "precision": b64encode(lower.astype("<f8").tobytes()).decode(),
            "threshold": self.threshold,
            "beyond": self.beyond,
            "held": self.held,
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], is_number: Sequence[bool]) -> "OutlierReference":
        """is_number: of each feature. Raises: ValueError, KeyError or TypeError."""
        marginals = tuple(Marginal.from_tree(item) for item in tree["marginals"])
        if len(marginals) != len(is_number) or len(is_number) > FEATURES_MAX:
            raise ValueError("an outlier reference is of all features of its profile")
        width = sum(is_number)
        lower = np.frombuffer(b64decode(tree["precision"], validate=True), dtype="<f8")
        rows, columns = np.tril_indices(width)
        if len(lower) != len(rows) or not np.all(np.isfinite(lower)):
            raise ValueError(f"an outlier reference's precision is of {width} numbers")
        precision = np.zeros((width, width))
        precision[rows, columns] = precision[columns, rows] = lower
        threshold, beyond, held = float(tree["threshold"]), int(tree["beyond"]), int(tree["held"])
        if not (np.isfinite(threshold) and 0 < beyond <= held):
            raise ValueError("an outlier reference's threshold is a score of rows held out")
        return cls(marginals, precision, threshold, beyond, held)
