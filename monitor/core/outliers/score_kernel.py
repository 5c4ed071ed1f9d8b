"""The squared distance of each row in its reference's correlations, missing numbers left out.

Sums run in one order whatever rows stand beside a row, so a row's score is the same to the
last bit however its block was cut, and on every machine: no library's product does that.
The inner loop adds to separate sums, so it is vectorised without reordering any of them.
"""

import numpy as np
from numba import types
from numpy.typing import NDArray

from monitor.core.bins import Floats
from monitor.core.jit import kernel, kernel_part

_MATRIX = types.Array(types.float64, 2, "C")
_VECTOR = types.Array(types.float64, 1, "C")


@kernel_part
def _observed(
    places: Floats, precision: Floats, given: Floats, lacks: NDArray[np.int64]
) -> tuple[int, float]:
    """How many numbers are missing, and x' A x of the others; fills `given` and `lacks`."""
    missing = 0
    given[:] = 0.0
    for i in range(places.size):
        x = places[i]
        if np.isnan(x):
            lacks[missing] = i
            missing += 1
        else:
            for j in range(places.size):
                given[j] += precision[i, j] * x
    distance = 0.0
    for i in range(places.size):
        if not np.isnan(places[i]):
            distance += places[i] * given[i]
    return missing, distance


@kernel_part
def _solve(
    precision: Floats, given: Floats, lacks: NDArray[np.int64], lower: Floats, solved: Floats
) -> float:
    """b' M^-1 b, and M^-1 b in `solved`, by M = L L'."""
    square = 0.0
    for a in range(lacks.size):
        for b in range(a + 1):
            total = precision[lacks[a], lacks[b]]
            for k in range(b):
                total -= lower[a, k] * lower[b, k]
            lower[a, b] = np.sqrt(total) if a == b else total / lower[b, b]
        total = given[lacks[a]]
        for k in range(a):
            total -= lower[a, k] * solved[k]
        solved[a] = total / lower[a, a]
        square += solved[a] * solved[a]
    for a in range(lacks.size - 1, -1, -1):
        total = solved[a]
        for k in range(a + 1, lacks.size):
            total -= lower[k, a] * solved[k]
        solved[a] = total / lower[a, a]
    return square


@kernel(types.void(_MATRIX, _MATRIX, _VECTOR))
def add_distances(places: Floats, precision: Floats, scores: Floats) -> None:
    """Add each row's squared Mahalanobis distance over the numbers that it has.

    places:    (n, w) deviations, NaN where a number is missing; those are replaced by what
               the row's other numbers make one expect.
    precision: (w, w), positive definite; scores: (n,) added to.

    What is missing takes the values that make the distance least, which is the distance
    in the distribution of the others alone: x' A x - b' M^-1 b, with A the precision, M its
    part among the missing ones and b what the others give them. M is solved by Cholesky's
    method.
    """
    width = places.shape[1]
    given, solved = np.empty(width), np.empty(width)
    lacks, lower = np.empty(width, dtype=np.int64), np.empty((width, width))
    for row in range(places.shape[0]):
        missing, distance = _observed(places[row], precision, given, lacks)
        distance -= _solve(precision, given, lacks[:missing], lower, solved)
        for a in range(missing):
            places[row, lacks[a]] = -solved[a]
        scores[row] += max(distance, 0.0)
