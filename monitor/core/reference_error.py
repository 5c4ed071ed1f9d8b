"""How far a reference may lie from the truth it was drawn from.

These bounds hold for any sample size, so a tolerance that includes them keeps
the null hypothesis true whenever the real distribution has not moved.
"""

from math import inf, log, sqrt

import numpy as np

from monitor.core.bins import Floats

# The bounds on a model's shares fail, all taken together, for at most this share of
# references; the bound on its loss for as many again.
ALPHA = 0.001


def share_error(rows: int, statements: int, alpha: float = ALPHA) -> float:
    """Bound on |empirical - true| share, for `statements` families at once.

    A family is a whole cumulative distribution (Dvoretzky-Kiefer-Wolfowitz
    with Massart's constant: all its edges hold together, wherever they were
    put) or a single share (Hoeffding); both have the form 2 exp(-2 n e^2).
    No rows: 1, which no share can exceed.
    """
    if rows <= 0:
        return 1.0
    return min(1.0, sqrt(log(2 * max(statements, 1) / alpha) / (2 * rows)))


def share_errors(rows: Floats, statements: int, alpha: float = ALPHA) -> Floats:
    """`share_error` of many at once; the same shape."""
    logarithm = log(2 * max(statements, 1) / alpha)
    found: Floats = np.where(
        rows > 0, np.minimum(np.sqrt(logarithm / (2 * np.where(rows > 0, rows, 1.0))), 1.0), 1.0
    )
    return found


def share_bounds(
    yes: Floats, rows: Floats, statements: int, alpha: float = ALPHA
) -> tuple[Floats, Floats]:
    """Lower and upper bound on the true shares of which `yes` of `rows` were seen.

    Each side fails at most for alpha / 2 over all statements. Closer than `share_error`
    where shares are near 0 or 1, as those of missing values are. No rows: 0 and 1.
    Source: Chernoff's bound in its relative-entropy form, inverted.
    """
    some = np.where(rows > 0, rows, 1.0)
    share = np.where(rows > 0, np.minimum(yes / some, 1.0), 0.5)
    limit = log(2 * max(statements, 1) / alpha) / some
    upper = _farthest(share, limit)
    lower = 1.0 - _farthest(1.0 - share, limit)
    return np.where(rows > 0, lower, 0.0), np.where(rows > 0, upper, 1.0)


def _farthest(share: Floats, limit: Floats) -> Floats:
    """The largest coin that the limit of relative entropy leaves, from above."""
    inner, outer = share.copy(), np.ones_like(share)
    for _ in range(40):  # halvings: a trillionth, and never below what is asked for
        middle = (inner + outer) / 2
        is_near = _relative_entropies(share, middle) < limit
        inner, outer = np.where(is_near, middle, inner), np.where(is_near, outer, middle)
    return outer


def _relative_entropies(p: Floats, q: Floats) -> Floats:
    """`_relative_entropy` of many."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = np.where(p > 0, p * np.log(p / q), 0.0)
        tails = np.where(p < 1, (1.0 - p) * np.log((1.0 - p) / (1.0 - q)), 0.0)
    found: Floats = heads + tails
    return found


def mean_error(standard_error: float, rows: int, alpha: float = ALPHA) -> float:
    """Upper bound on (true mean - empirical mean) of rows in [0, 1].

    Source: Maurer and Pontil 2009, theorem 4 (empirical Bernstein). It is not
    zero when every reference loss was zero.
    """
    if rows <= 1:
        return 1.0
    variance = standard_error**2 * rows
    logarithm = log(2 / alpha)
    bound = sqrt(2 * variance * logarithm / rows) + 7 * logarithm / (3 * (rows - 1))
    return min(1.0, bound)


def unseen_bound(novel: float, held: float, statements: int, alpha: float = ALPHA) -> float:
    """Upper bound on the share of values that the reference never held.

    That share is not zero because the reference's is: its own values were not
    chosen beforehand. So half of its rows say what is known, and of the other
    half, `held` rows, `novel` were not: a fair sample of a share that is no
    smaller than the one asked for. Nothing held: 1.
    Source: Chernoff's bound in its relative-entropy form, inverted.
    """
    if held <= 0:
        return 1.0
    limit = log(2 * max(statements, 1) / alpha) / held
    lower, upper = novel / held, 1.0
    for _ in range(60):  # halvings: beyond a float's precision
        middle = (lower + upper) / 2
        if _relative_entropy(novel / held, middle) < limit:
            lower = middle
        else:
            upper = middle
    return upper


def _relative_entropy(p: float, q: float) -> float:
    """Of two coins, p <= q."""
    heads = p * log(p / q) if p > 0 else 0.0
    if p == 1:
        return heads
    return heads + (1 - p) * log((1 - p) / (1 - q)) if q < 1 else inf
