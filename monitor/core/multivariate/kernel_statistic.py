"""How far two samples are from each other by a kernel: unbiased, for many sides at once.

k(x, y) averaged within the one side, and within the other, less twice its average between
them: 0 on average where nothing has moved, in samples of any size and width. What it
finds depends on the kernel: of x y it is the squared distance of the means, of (x y)^2
that of the second moments, of a bump around each row that of everything.

Cost: (n + m)^2 (w + draws) multiplications and (n + m)^2 numbers of memory.
Source: Gretton et al. 2012, "A Kernel Two-Sample Test", Lemma 6.
"""

import numpy as np

from monitor.core.bins import Floats


def kernel_distance(kernel: Floats, live: Floats) -> Floats:
    """kernel: (n + m, n + m), symmetric; live: 0 or 1, (n + m, d). Returns (d,)."""
    kernel = kernel.copy()
    np.fill_diagonal(kernel, 0.0)
    n = live.sum(axis=0)
    m = len(live) - n
    to_live = kernel @ live
    to_all = kernel.sum(axis=1)[:, None]
    of_live = np.einsum("nd,nd->d", live, to_live)
    between = np.einsum("nd,nd->d", 1.0 - live, to_live)
    of_rest = np.einsum("nd,nd->d", 1.0 - live, to_all - to_live)
    squared: Floats = of_live / (n * (n - 1)) + of_rest / (m * (m - 1)) - 2.0 * between / (n * m)
    return squared


def root(squared: Floats) -> Floats:
    """The distance; an estimate below 0, as chance makes half of them, is none."""
    return np.sqrt(np.maximum(squared, 0.0))
