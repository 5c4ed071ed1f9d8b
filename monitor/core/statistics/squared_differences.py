"""Cramér-von Mises, Anderson-Darling, energy: squared differences of cumulative shares.

All three are sums of weights times (F - G)². When nothing has moved, F - G is normal
with the covariance of a Brownian bridge at the places, so such a sum is one of
squared normals, with the eigenvalues of weights and covariance. Ties are in the
eigenvalues: the law is that of the binned data, not of continuous ones.
"""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.entry import ORDERED, Effect, Statistic
from monitor.core.statistics.laws import mean_of_chi, quadratic_form_sf

LAW = "weighted chi-squares"


def cramer_von_mises(binned: Binned) -> Floats:
    """Mean over all values of both sides of (F - G)².

    Returns (...), in [0, 1/3] for continuous data. Divided by 1/n + 1/m it is the
    two-sample statistic T. Left out, and NaN: as for KS.
    Bound: in a bin that holds shares p and q, F - G differs by at most
    e = max(p, q) from its value at the edges, so its square by at most
    e (2 |F - G| + e), with the larger of both edges' differences.
    Source: Anderson 1962; without ties, scipy.stats.cramervonmises_2samp.
    """
    return _sum(binned, binned.pooled_densities)


def anderson_darling(binned: Binned) -> Floats:
    """As Cramér-von Mises, with the tails' share of the noise made equal.

    Returns (...), >= 0: the mean of (F - G)² / (H (1 - H)), H the pooled cumulative
    share. Divided by 1/n + 1/m it is the two-sample statistic A². Left out, and NaN:
    as for KS.
    Bound against raw values: none, since the outermost values weigh without limit.
    Source: Scholz and Stephens 1987, equation 6; scipy.stats.anderson_ksamp with
    right-continuous ties, before it is standardised.
    """
    return _sum(binned, _tail_weights(binned))


def energy(binned: Binned) -> Floats:
    """Root of twice the integral of (F - G)², in roots of reference deviations.

    Returns (...), >= 0, over the winsorised places divided by the reference's
    spread, as the scaled Wasserstein distance; no spread, or no value: NaN.
    Bound: from Cramér-von Mises' bound on the square, with widths for weights.
    Source: scipy.stats.energy_distance on those places.
    """
    return np.sqrt(2 * _sum(binned, _scaled_gaps(binned)))


def _sum(binned: Binned, weights: Floats) -> Floats:
    return np.asarray((weights * binned.differences**2).sum(axis=-1))


def _pooled_below(binned: Binned) -> Floats:
    return np.minimum(np.cumsum(binned.pooled_densities, axis=-1), 1.0)


def _tail_weights(binned: Binned) -> Floats:
    below = _pooled_below(binned)
    # The last value in use ends the order: everything is below it on both sides.
    both = binned.reference.ordered + binned.live.ordered
    left = both.sum(axis=-1, keepdims=True) - np.cumsum(both, axis=-1)
    variance = np.where((left > 0) & (below > 0), below * (1 - below), np.inf)
    return np.asarray(np.where(np.isnan(below), np.nan, binned.pooled_densities / variance))


def _scaled_gaps(binned: Binned) -> Floats:
    """(f, PLACES): from each place to the next."""
    inner, spread = binned.layout.inner, binned.layout.spread
    gaps = np.diff(inner, axis=-1, append=inner[..., -1:])
    return np.asarray(gaps / np.where(spread > 0, spread, np.nan)[..., None])


def _mean(weights: Effect) -> Effect:
    """E of a weighted sum when nothing has moved: (1/n + 1/m) sum of w H (1 - H)."""

    def null_mean(binned: Binned) -> Floats:
        below = _pooled_below(binned)
        variance = (weights(binned) * below * (1 - below)).sum(axis=-1)
        return np.asarray(variance * binned.value_noise)

    return null_mean


def _eigenvalues(weights: Floats, below: Floats) -> Floats:
    """Of one feature: (k,), the places without weight left out."""
    weighty = weights > 0
    roots, below = np.sqrt(weights[weighty]), below[weighty]
    covariance = np.minimum.outer(below, below) * (1 - np.maximum.outer(below, below))
    found = np.linalg.eigvalsh(covariance * np.outer(roots, roots))
    return np.maximum(found, 0.0)


def _all_eigenvalues(binned: Binned, weights: Floats) -> list[Floats]:
    """One (k,) for each feature, flat; of one NaN where there are no values."""
    below = _pooled_below(binned)
    rows = zip(
        np.broadcast_to(weights, below.shape).reshape(-1, below.shape[-1]),
        below.reshape(-1, below.shape[-1]),
        strict=True,
    )
    return [
        np.array([np.nan]) if np.isnan(w).any() or np.isnan(b).any() else _eigenvalues(w, b)
        for w, b in rows
    ]


def _p_values(binned: Binned, total: Floats, weights: Floats) -> Floats:
    scaled = np.asarray(total / binned.value_noise)
    found = [
        quadratic_form_sf(float(x), eigenvalues)
        for x, eigenvalues in zip(
            scaled.reshape(-1), _all_eigenvalues(binned, weights), strict=True
        )
    ]
    return np.array(found).reshape(scaled.shape)


def _energy_null_mean(binned: Binned) -> Floats:
    """E of the root, as if the sum were a multiple of a chi-square of its mean and variance."""
    roots = []
    for values in _all_eigenvalues(binned, _scaled_gaps(binned)):
        mean, square = values.sum(), (values**2).sum()
        freedom = mean**2 / square if square != 0 else 0.0
        scale = np.sqrt(mean / freedom) if freedom != 0 else 0.0
        roots.append(scale * float(mean_of_chi(np.asarray(freedom))))
    shape = binned.value_noise.shape
    return np.array(roots).reshape(shape) * np.sqrt(2 * binned.value_noise)


def _square_errors(binned: Binned) -> Floats:
    """(..., PLACES): how far (F - G)² may be from its value at the edges."""
    most = np.maximum(*binned.blurred)
    edges = np.abs(binned.differences)
    before = np.concatenate([np.zeros_like(edges[..., :1]), edges[..., :-1]], axis=-1)
    return np.asarray(most * (2 * np.maximum(edges, before) + most))


def _mises_error(binned: Binned) -> Floats:
    return np.asarray((binned.pooled_densities * _square_errors(binned)).sum(axis=-1))


def _energy_error(binned: Binned) -> Floats:
    spread = np.where(binned.layout.spread > 0, binned.layout.spread, np.nan)
    widths = binned.layout.inner_widths / spread[..., None]
    square = _sum(binned, _scaled_gaps(binned))
    error = (widths * _square_errors(binned)).sum(axis=-1)
    above = np.sqrt(2 * (square + error)) - np.sqrt(2 * square)
    under = np.sqrt(2 * square) - np.sqrt(2 * np.maximum(square - error, 0.0))
    return np.asarray(np.maximum(above, under))


CRAMER_VON_MISES = Statistic(
    "cramer_von_mises",
    "Cramér-von Mises",
    "squared share of rows",
    ORDERED,
    cramer_von_mises,
    LAW,
    null_mean=_mean(lambda binned: binned.pooled_densities),
    p_value=lambda binned, effect: _p_values(binned, effect, binned.pooled_densities),
    raw_error=_mises_error,
    most=1.0,
    places=True,
)
ANDERSON_DARLING = Statistic(
    "anderson_darling",
    "Anderson-Darling",
    "per row",
    ORDERED,
    anderson_darling,
    LAW,
    null_mean=_mean(_tail_weights),
    p_value=lambda binned, effect: _p_values(binned, effect, _tail_weights(binned)),
    places=True,
)
ENERGY = Statistic(
    "energy",
    "Energy distance, scaled",
    "roots of reference deviations",
    ORDERED,
    energy,
    LAW,
    null_mean=_energy_null_mean,
    p_value=lambda binned, effect: _p_values(binned, effect**2 / 2, _scaled_gaps(binned)),
    raw_error=_energy_error,
    places=True,
    power=2,
)
