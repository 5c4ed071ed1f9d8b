"""PCA reconstruction error: rows that leave the directions in which the reference varies."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.multivariate.entry import Draws, MultivariateStatistic, Sides
from monitor.core.multivariate.permutations import sides

KEPT = 0.65  # of the variance, by the components that rows are rebuilt from


def _draws(given: Sides) -> Draws | None:
    """Mean squared error of the live rows over that of the reference's, either way from 1.

    Rows are rebuilt from the principal components that hold 0.65 of the reference's
    variance, one fewer than there are features at most. None where these rebuild the
    reference wholly.
    Source: as NannyML's data reconstruction, there a threshold on the live error.
    """
    basis = principal_components(given.fitted)
    errors = np.concatenate([_errors(given.reference, basis), _errors(given.live, basis)])
    live = sides(len(given.reference), len(given.live), given.seed)
    of_live = errors @ live / live.sum(axis=0)
    of_reference = errors @ (1.0 - live) / (1.0 - live).sum(axis=0)
    if not np.all(of_reference > 0):
        return None
    return Draws(np.abs(of_live - of_reference), of_live / of_reference)


def principal_components(rows: Floats) -> Floats:
    """(k, w), orthonormal."""
    _, sizes, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    held = np.cumsum(sizes**2) / max(float(np.sum(sizes**2)), 1e-300)
    kept = min(int(np.searchsorted(held, KEPT)) + 1, rows.shape[1] - 1)
    return np.asarray(directions[:kept], dtype=np.float64)


def _errors(rows: Floats, basis: Floats) -> Floats:
    left = rows - rows @ basis.T @ basis
    found: Floats = np.einsum("nw,nw->n", left, left)
    return found


RECONSTRUCTION = MultivariateStatistic(
    "reconstruction_error",
    "PCA reconstruction error",
    "live / reference",
    "rows that break the reference's linear structure",
    _draws,
)
