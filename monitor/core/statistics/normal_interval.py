"""Intervals of what is normal in the limit."""

from statistics import NormalDist

import numpy as np

from monitor.core.bins import Floats

_reach = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])


def normal_interval(effect: Floats, error: Floats, level: float | Floats) -> tuple[Floats, Floats]:
    """effect -/+ as many standard errors as `level` asks for, both sides alike."""
    reach = _reach((1 + level) / 2) * error
    return np.asarray(effect - reach), np.asarray(effect + reach)
