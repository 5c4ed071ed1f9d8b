"""Kullback-Leibler divergence."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.cell_law import LAW, cell_null_mean, cell_p_value
from monitor.core.statistics.entry import ALL, Statistic
from monitor.core.statistics.smoothing import log_ratios, smoothed_shares


def relative_entropy(binned: Binned) -> Floats:
    """Sum of q ln(q / p) over the cells: of live (q) to reference (p).

    What it costs to take live rows for rows of the reference. Returns (...), in
    nats, >= 0. Empty cells, missing values and no rows: as for PSI, whose larger
    half it is; unseen categories would make it infinite without the half counts.
    Source: scipy.stats.entropy(q, p) on the smoothed shares.
    """
    p, q = smoothed_shares(binned)
    return np.asarray(np.maximum((q * log_ratios(p, q)).sum(axis=-1), 0.0))


KL = Statistic(
    "kl",
    "Kullback-Leibler divergence",
    "nats",
    ALL,
    relative_entropy,
    LAW,
    null_mean=lambda binned: cell_null_mean(binned) / 2,
    p_value=lambda binned, effect: cell_p_value(binned, 2 * effect),
)
