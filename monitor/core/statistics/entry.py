"""What the table says of a statistic."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from monitor.core.bins import Floats
from monitor.core.profile import FeatureKind
from monitor.core.statistics.binned import Binned

ALL = frozenset(FeatureKind)
ORDERED = frozenset({FeatureKind.CONTINUOUS, FeatureKind.DISCRETE})
SEPARATE = frozenset({FeatureKind.DISCRETE, FeatureKind.CATEGORICAL})

Effect = Callable[[Binned], Floats]
PValue = Callable[[Binned, Floats], Floats]
Interval = Callable[[Binned, Floats, float], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Statistic:
    """One row of the table; every function takes all features at once: (..., f).

    name:      in documents and metrics; title, unit: for people.
    kinds:     of features that it says something about. A discrete number is a
               category that has an order too.
    effect:    from counts to the size of the change. It does not grow with the rows.
    law:       where p-values come from, in a few words.
    null_mean: the effect to be expected when nothing has moved, for as many rows and
               cells. None: the mean of the draws (see `draws`).
    p_value:   of the effect, when nothing has moved; NaN where its law does not hold
               for so few rows. None, and there: the share of draws beyond the effect.
    interval:  for the effect without sampling error, at a level. None: by bootstrap.
    raw_error: bound on the difference from the same number on the values themselves,
               those outside of the reference's range moved to its ends. None: exact,
               or without a bound; the docstring says which.
    neutral:   the effect where nothing has moved at all; least, most: its range.
    places:    whether it is made of places; else of cells.
    power:     to which the effect is a sum of squares of noise: 1 for a divergence, 2
               for a distance. Chance adds the same to that sum wherever it is.
    uncorrected: the effect without its own correction for chance, where it has one.
    """

    name: str
    title: str
    unit: str
    kinds: frozenset[FeatureKind]
    effect: Effect
    law: str
    null_mean: Effect | None = None
    p_value: PValue | None = None
    interval: Interval | None = None
    raw_error: Effect | None = None
    neutral: float = 0.0
    least: float = 0.0
    most: float = inf
    places: bool = False
    power: int = 1
    uncorrected: Effect | None = None

    @property
    def signed(self) -> bool:
        """Whether a change in either direction is one."""
        return self.least < self.neutral
