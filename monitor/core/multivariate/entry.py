"""What the table says of a multivariate statistic, and what it is given."""

from collections.abc import Callable
from dataclasses import dataclass

from monitor.core.bins import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Rows in the reference's deviations from its mean: (n, w) each, in random order.

    fitted:    reference rows that made the scale, and all else that is learned beforehand.
    reference: others of the reference, which `live` ones are compared with.
    """

    fitted: Floats
    reference: Floats
    live: Floats
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """(1 + draws,) each, the true sides first.

    evidence: larger speaks against chance; effects: what it is in the statistic's unit.
    """

    evidence: Floats
    effects: Floats


@dataclass(frozen=True, slots=True)
class MultivariateStatistic:
    """One row of the table.

    finds: what kind of change, for people.
    draws: from the rows to the number, with the true sides and with exchanged ones.
           None where it is not defined; its docstring says where.
    """

    name: str
    title: str
    unit: str
    finds: str
    draws: Callable[[Sides], Draws | None]
