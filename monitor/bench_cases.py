"""What the monitor's benchmark counts: distributions that are usual, and some that are unkind."""

from collections.abc import Callable, Mapping

import numpy as np

from monitor.core.bins import Floats

# random, number of values -> values
Draw = Callable[[np.random.Generator, int], Floats]


def _clusters(random: np.random.Generator, size: int) -> Floats:
    """Two, each a millionth of the range wide: no slicing of the whole range tells their bins."""
    centres: Floats = random.choice([-1000.0, 1000.0], size)
    return centres + random.normal(0.0, 1e-3, size)


def _half_missing(random: np.random.Generator, size: int) -> Floats:
    return np.where(random.random(size) < 0.5, np.nan, random.normal(size=size))


DISTRIBUTIONS: Mapping[str, Draw] = {
    "normal(0, 1)": lambda random, size: random.normal(size=size),
    "normal(1000, 1)": lambda random, size: random.normal(1000.0, 1.0, size),
    "uniform": lambda random, size: random.random(size),
    "exponential": lambda random, size: random.exponential(size=size),
    "lognormal, sigma 3": lambda random, size: random.lognormal(0.0, 3.0, size),
    "Cauchy": lambda random, size: random.standard_cauchy(size),
    "normal, near the largest": lambda random, size: random.normal(0.0, 5e37, size),
    "subnormal": lambda random, size: random.normal(0.0, 1e-40, size),
    "integers to 1000": lambda random, size: random.integers(0, 1000, size).astype(np.float64),
    "40 categories": lambda random, size: random.integers(0, 40, size).astype(np.float64),
    "constant": lambda _, size: np.full(size, 7.0),
    "sorted normal": lambda random, size: np.sort(random.normal(size=size)),
    "half missing": _half_missing,
    "two tight clusters": _clusters,
}
