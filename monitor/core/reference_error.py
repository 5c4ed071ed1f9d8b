"""How far a reference may lie from the truth it was drawn from.

These bounds hold for any sample size, so a tolerance that includes them keeps
the null hypothesis true whenever the real distribution has not moved.
"""

from math import inf, log, sqrt

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
