"""How far a reference may lie from the truth it was drawn from.

These bounds hold for any sample size, so a tolerance that includes them keeps
the null hypothesis true whenever the real distribution has not moved.
"""

from math import log, sqrt

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
