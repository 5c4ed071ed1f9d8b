"""How a reference's rows answered, by the hour of the week that they are of.

Laws:
- hours are of UTC, the first is Monday's from midnight, so they follow from times alone;
- the questions are chosen on the whole reference and are the same in every hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import BINS, QUALITY_SLOTS, AnyArray, Counts, Floats

HOURS = 168
HOUR_NS = 3600 * 10**9
MONDAY_HOURS = 72  # 1970 began on a Thursday, three days into a week
# Of features and answers: 168 hours of 15 questions of each are 2.6 MB in a profile.
WATCHED_MAX = 256
ROWS_MAX = 2**32 - 1  # of an hour

Hours = NDArray[np.int64]
Small = NDArray[np.uint32]


def hours_of(times_ns: AnyArray) -> Hours:
    """The hour of the week of each time, 0 to 167; Unix ns."""
    found: Hours = (times_ns.astype(np.int64) // HOUR_NS + MONDAY_HOURS) % HOURS
    return found


def hours_between(start_ns: int, end_ns: int) -> Hours:
    """Those that [start, end) lies in."""
    first, last = start_ns // HOUR_NS, (end_ns - 1) // HOUR_NS
    hours = np.arange(first, min(last, first + HOURS - 1) + 1, dtype=np.int64)
    return (hours + MONDAY_HOURS) % HOURS


@dataclass(frozen=True, slots=True, eq=False)
class SeasonReference:
    """Counts by hour; v questions about f features and answers, in the order of both.

    asked:  of each feature the places in its order, or the categories, that are asked for;
            missing, non-finite and unseen are asked for after those.
    rows:   (HOURS,); values: (HOURS, f) rows with a value, known or not.
    yes:    (HOURS, v).
    held, novel: (HOURS, f) as `FeatureProfile` has them of the whole.
    effective: (f,) how many independent rows one of an hour is worth, 0 to 1.
    """

    asked: tuple[tuple[int, ...], ...]
    rows: Small
    values: Small
    yes: Small
    held: Small
    novel: Small
    effective: Floats

    def to_tree(self) -> dict[str, Any]:
        return {
            "asked": [list(places) for places in self.asked],
            "rows": self.rows.tolist(),
            "values": self.values.tolist(),
            "yes": self.yes.tolist(),
            "held": self.held.tolist(),
            "novel": self.novel.tolist(),
            "effective": self.effective.tolist(),
        }

    @classmethod
    def from_tree(cls, tree: Any, places_max: Sequence[int]) -> "SeasonReference":
        """places_max: the largest place of each feature. Raises: ValueError."""
        asked = tuple(tuple(int(place) for place in places) for places in tree["asked"])
        if len(asked) != len(places_max) or len(asked) > WATCHED_MAX:
            raise ValueError(f"season: {len(asked)} features, expected {len(places_max)}")
        for places, most in zip(asked, places_max, strict=True):
            if len(places) > BINS or any(not 0 <= place <= most for place in places):
                raise ValueError(f"season: it asks for places {places} of {most}")
        features = len(asked)
        questions = sum(map(len, asked)) + features * len(QUALITY_SLOTS)
        shapes = {
            "rows": (HOURS,),
            "values": (HOURS, features),
            "yes": (HOURS, questions),
            "held": (HOURS, features),
            "novel": (HOURS, features),
        }
        effective = np.array(tree["effective"], dtype=np.float64).reshape(features)
        counts = {name: _small(tree[name], shape) for name, shape in shapes.items()}
        found = cls(asked, effective=effective, **counts)
        sound = (
            np.all(found.values <= found.rows[:, None])
            and np.all(found.novel <= found.held)
            and np.all(found.held <= found.values)
            and np.all(found.yes <= found.rows[:, None])
        )
        if not sound:
            raise ValueError("season: more answers than rows")
        if not np.all((effective >= 0) & (effective <= 1)):
            raise ValueError("season: a row is worth 0 to 1 rows")
        return found


def _small(items: Any, shape: tuple[int, ...]) -> Small:
    found: Counts = np.array(items, dtype=np.int64).reshape(shape)
    if np.any(found < 0) or np.any(found > ROWS_MAX):
        raise ValueError(f"season: counts lie in 0 to {ROWS_MAX}")
    return found.astype(np.uint32)
