"""Live rows beside the reference's, by every multivariate statistic.

Some tenths of a second of one core for a space, so it is made apart from the fold of
blocks, when somebody asks or now and then.
"""

from dataclasses import dataclass
from math import nan

import numpy as np

from monitor.core.multivariate.entry import MultivariateStatistic, Sides
from monitor.core.multivariate.permutations import p_value, seed_of
from monitor.core.multivariate.reference_rows import Rows
from monitor.core.multivariate.scale import Scale
from monitor.core.multivariate.statistics import MULTIVARIATE

REFERENCE_MIN = 100  # rows: 50 to fit, 50 to compare
LIVE_MIN = 50


@dataclass(frozen=True, slots=True)
class Finding:
    """NaN where the statistic is not defined.

    null_mean: what chance alone makes of the effect, on average.
    p_value:   chance of as much or more if nothing has moved and rows are independent.
    """

    statistic: MultivariateStatistic
    effect: float
    null_mean: float
    p_value: float


def compare(reference: Rows, live: Rows) -> list[Finding]:
    """reference: (m, w), m >= REFERENCE_MIN; live: (n, w), n >= LIVE_MIN; in random order."""
    given = sides_of(reference, live)
    return [_finding(statistic, given) for statistic in MULTIVARIATE.values()]


def sides_of(reference: Rows, live: Rows) -> Sides:
    scale = Scale.of(reference[::2])
    own, others = scale.scaled(reference[1::2]), scale.scaled(live)
    return Sides(scale.scaled(reference[::2]), own, others, seed_of(own, others))


def _finding(statistic: MultivariateStatistic, given: Sides) -> Finding:
    draws = statistic.draws(given)
    if draws is None:
        return Finding(statistic, nan, nan, nan)
    chance = float(np.mean(draws.effects[1:]))
    return Finding(statistic, float(draws.effects[0]), chance, p_value(draws.evidence))
