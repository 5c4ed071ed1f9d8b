"""Population stability index."""

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.cell_law import LAW, cell_null_mean, cell_p_value
from monitor.core.statistics.entry import ALL, Statistic
from monitor.core.statistics.smoothing import log_ratios, smoothed_shares


def population_stability(binned: Binned) -> Floats:
    """Sum of (q - p) ln(q / p) over the cells.

    Returns (...), in nats, >= 0; the symmetric relative entropy of the shares.
    Empty cells: every cell that either side uses gets half a count more on both
    sides; a cell empty on both sides does not exist. No rows on a side: NaN.
    Missing values are rows of a cell of their own, so a rise of them counts.
    """
    p, q = smoothed_shares(binned)
    terms = (q - p) * log_ratios(p, q)
    return terms.sum(axis=-1)  # type: ignore[no-any-return]


PSI = Statistic(
    "psi",
    "Population stability index",
    "nats",
    ALL,
    population_stability,
    LAW,
    null_mean=cell_null_mean,
    p_value=cell_p_value,
)
