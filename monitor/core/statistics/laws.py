"""The limit laws that p-values need, and no more of a statistics library.

Everything takes arrays and returns float64 arrays of their shape, except
`quadratic_form_sf`. NaN in, NaN out.
"""

from math import erfc, exp, inf, isnan, lgamma, log, nan, pi, sqrt

import numpy as np

from monitor.core.bins import Floats

STEPS_MAX = 10_000  # of a series; 260 cells need fewer than 500
PRECISION = 1e-15
KOLMOGOROV_TERMS = 12  # enough for 1e-16 on both sides of the change
KOLMOGOROV_CHANGE = 1.0  # below, the theta function's other series converges faster


def normal_sf(z: Floats) -> Floats:
    """P(Z > z)."""
    return np.asarray(_NORMAL(z), dtype=np.float64)


def chi_square_sf(x: Floats, freedom: Floats) -> Floats:
    """P(chi-square > x); no degree of freedom: the law of a constant 0.

    Source: the series and the continued fraction of the incomplete gamma
    function, Abramowitz and Stegun 6.5.29 and 6.5.31, the latter by Lentz.
    """
    return np.asarray(_CHI_SQUARE(x, freedom), dtype=np.float64)


def mean_of_chi(freedom: Floats) -> Floats:
    """E of the root of a chi-square; none of freedom: 0."""
    return np.asarray(_MEAN_OF_CHI(freedom), dtype=np.float64)


def kolmogorov_sf(x: Floats) -> Floats:
    """P(sup of the absolute Brownian bridge > x).

    Source: Kolmogorov 1933; the alternating series, and by Jacobi's identity the
    one that converges where that does not.
    """
    x = np.asarray(x, dtype=np.float64)
    k = np.arange(1, KOLMOGOROV_TERMS + 1)
    safe = np.where(x > 0, x, 1.0)[..., None]
    with np.errstate(under="ignore", over="ignore"):
        far = 2 * ((-1.0) ** (k - 1) * np.exp(-2 * k**2 * safe**2)).sum(axis=-1)
        near = np.exp(-((2 * k - 1) ** 2) * pi**2 / (8 * safe**2)).sum(axis=-1)
    near = 1 - sqrt(2 * pi) / safe[..., 0] * near
    found = np.where(x < KOLMOGOROV_CHANGE, near, far)
    return np.where(np.isnan(x), nan, np.where(x <= 0, 1.0, np.clip(found, 0.0, 1.0)))


def quadratic_form_sf(x: float, weights: Floats) -> float:
    """P(sum of weights times squared normals > x); weights: (k,), not negative.

    A saddlepoint approximation: right to 8 % of the probability, far into the tail
    too, and to less with more than one weight that counts. No weight: the law of a constant 0.
    Source: Kuonen 1999, after Lugannani and Rice 1980.
    """
    if isnan(x) or not np.isfinite(weights).all():
        return nan
    weights = weights[weights > PRECISION * weights.max(initial=0.0)]
    if x <= 0 or not weights.size:
        return 1.0
    largest = float(weights.max())
    weights, x = weights / largest, x / largest
    if x == inf:
        return 0.0
    tilt = _saddlepoint(x, weights)
    shrunk = 1 - 2 * tilt * weights
    log_moment = -float(np.log(shrunk).sum()) / 2
    deviation = sqrt(2 * float(((weights / shrunk) ** 2).sum()))
    root = sqrt(max(2 * (tilt * x - log_moment), 0.0)) * (1 if tilt >= 0 else -1)
    size = tilt * deviation
    if abs(size) < 1e-4 or root == 0.0:
        # At the mean the formula is 0/0; this is its limit.
        cube, square = float((weights**3).sum()), float((weights**2).sum())
        return 0.5 - cube / sqrt(8 * square**3) / (0.75 * sqrt(2 * pi))
    return _normal_tail(root + log(size / root) / root)


def _saddlepoint(x: float, weights: Floats) -> float:
    """Where the cumulant's derivative is x; the largest weight is 1.

    With t = 1 / (1 - 2 s) the derivative lies between t and k t, so t is between
    x / k and x.
    """
    low, high = log(x / weights.size), log(x)
    for _ in range(80):  # halvings: beyond a float's precision
        middle = (low + high) / 2
        tilt = (1 - exp(-middle)) / 2
        if float((weights / (1 - 2 * tilt * weights)).sum()) < x:
            low = middle
        else:
            high = middle
    return (1 - exp(-(low + high) / 2)) / 2


def _normal_tail(z: float) -> float:
    return 0.5 * erfc(z / sqrt(2))


def _chi_square_tail(x: float, freedom: float) -> float:
    if isnan(x) or isnan(freedom):
        return nan
    if x <= 0 or freedom == 0:
        return 1.0 if x <= 0 else 0.0
    if x == inf:
        return 0.0
    a, x = freedom / 2, x / 2
    scale = exp(max(a * log(x) - x - lgamma(a), -745.0))  # -745: the smallest float
    return 1 - scale * _series(a, x) if x < a + 1 else scale * _fraction(a, x)


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for k in range(1, STEPS_MAX):
        term *= x / (a + k)
        total += term
        if term < total * PRECISION:
            break
    return total


def _fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1e300, 1 / b
    total = d
    for k in range(1, STEPS_MAX):
        factor = -k * (k - a)
        b += 2
        d = 1 / (factor * d + b)
        c = b + factor / c
        total *= c * d
        if abs(c * d - 1) < PRECISION:
            break
    return total


def _chi_mean(freedom: float) -> float:
    if isnan(freedom) or freedom == 0:
        return freedom
    return sqrt(2) * exp(lgamma((freedom + 1) / 2) - lgamma(freedom / 2))


# One number at a time: p-values are asked for on demand, a feature at a time.
_NORMAL = np.vectorize(_normal_tail, otypes=[np.float64])
_CHI_SQUARE = np.vectorize(_chi_square_tail, otypes=[np.float64])
_MEAN_OF_CHI = np.vectorize(_chi_mean, otypes=[np.float64])
