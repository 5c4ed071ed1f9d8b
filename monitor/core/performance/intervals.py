"""How far a number that few rows were summed up to may be from what it estimates.

All take rows as independent of each other.
"""

from math import nan, sqrt

Z = 1.959963984540054  # the normal's 97.5 % quantile: intervals of 95 %
LEVEL = 0.95


def wilson(mean: float, rows: float) -> tuple[float, float]:
    """The 95 % score interval for the mean of `rows` > 0 independent losses in [0, 1].

    For losses that are 0 or 1 this is Wilson's. Others vary less about the same mean,
    m(1 - m) at most, so for them it errs on the wide side.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical
    inference", J. Am. Stat. Assoc. 22.
    """
    shrink = 1 + Z**2 / rows
    middle = (mean + Z**2 / (2 * rows)) / shrink
    half = Z / shrink * sqrt(max(mean * (1 - mean), 0.0) / rows + Z**2 / (4 * rows**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def normal(value: float, variance: float, rows: int) -> tuple[float, float]:
    """value -/+ Z standard errors; variance: of what is averaged over `rows`.

    One row says nothing of how much rows differ, so it gives no interval: NaN.
    """
    if rows < 2:
        return nan, nan
    half = Z * sqrt(max(variance, 0.0) / rows)
    return value - half, value + half


def shrunk_variance(hits: int, rows: int) -> float:
    """Of the share `hits` of `rows`, with two hits and two misses added.

    So that a few rows which are all right do not say that there is no doubt.
    Source: Agresti and Coull 1998, "Approximate is better than exact", Am. Stat. 52.
    """
    share = (hits + 2) / (rows + 4)
    return share * (1 - share) / (rows + 4)
