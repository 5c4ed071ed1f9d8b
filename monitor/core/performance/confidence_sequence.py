"""A confidence sequence for a share: an interval that holds at every time at once.

`share_within(hits, rows, alpha)`, looked at after every row for ever, leaves out the true
share with a chance of at most alpha, whenever and however often one looks and whenever one
stops. An ordinary interval that is looked at again and again does so sooner or later.

Why: let rows be hits with chance p, given those before them. The likelihood of what was seen
under chances drawn from Beta(1/2, 1/2), over that under p, is a nonnegative martingale with
mean 1 (it is the wealth of one who bets against p), so it ever reaches 1 / alpha with a
chance of at most alpha (Ville). The interval holds the p that it has not reached it for. It
follows from the counts alone, so the order of rows is immaterial and tallies merge.

Sources: Robbins 1970, "Statistical methods related to the law of the iterated logarithm",
Ann. Math. Stat. 41; Howard, Ramdas, McAuliffe and Sekhon 2021, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Ann. Stat. 49 (beta-binomial mixture).
"""

from collections.abc import Callable
from math import inf, lgamma, log, pi

HALVINGS = 50  # of [0, 1]; finer than what floats tell of the likelihood


def share_within(hits: int, rows: int, alpha: float) -> tuple[float, float]:
    """hits: of `rows` >= 0; alpha: the chance that it ever fails, above 0.

    Rows that depend on those before them are allowed for, as long as the chance does not.
    """
    if rows == 0:
        return 0.0, 1.0
    mixture = lgamma(hits + 0.5) + lgamma(rows - hits + 0.5) - lgamma(rows + 1.0) - log(pi)
    least = mixture + log(alpha)  # log likelihood of the p that are not ruled out

    def is_ruled_out(p: float) -> bool:
        return _log_likelihood(hits, rows, p) < least

    middle = hits / rows
    low = 0.0 if hits == 0 else _edge(0.0, middle, is_ruled_out)
    high = 1.0 if hits == rows else _edge(1.0, middle, is_ruled_out)
    return low, high


def _log_likelihood(hits: int, rows: int, p: float) -> float:
    if (hits and p <= 0.0) or (hits < rows and p >= 1.0):
        return -inf
    of_hits = hits * log(p) if hits else 0.0
    return of_hits + ((rows - hits) * log(1.0 - p) if hits < rows else 0.0)


def _edge(outside: float, inside: float, is_ruled_out: Callable[[float], bool]) -> float:
    """Where p begins to be ruled out, on the outer side of what floats tell."""
    for _ in range(HALVINGS):
        between = (outside + inside) / 2
        if is_ruled_out(between):
            outside = between
        else:
            inside = between
    return outside
