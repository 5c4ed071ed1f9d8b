"""The one law of all distances between shares: chi-square, one degree less than cells.

With n and m rows, PSI, 8 JSD, 8 H² and 2 KL (in nats), and the two-sample chi-square
itself, divided by 1/n + 1/m, all have it in the limit when nothing has moved.
"""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned
from monitor.core.statistics.laws import chi_square_sf

LAW = "chi-square"
# Rows that the smaller side expects in its rarest cell. With fewer the law is too
# generous or too strict, and draws take its place.
EXPECTED_MIN = 5.0


def cell_p_value(binned: Binned, divergence: Floats) -> Floats:
    """divergence: (...), on the scale of PSI. NaN where a cell expects too few rows."""
    rarest = np.where(binned.used, binned.pooled_shares, 1.0).min(axis=-1)
    expected = rarest * np.minimum(binned.reference.rows, binned.live.rows)
    p = chi_square_sf(divergence / binned.row_noise, binned.freedom)
    return np.where(expected >= EXPECTED_MIN, p, np.nan)


def cell_null_mean(binned: Binned) -> Floats:
    """The mean of a divergence on the scale of PSI."""
    return np.asarray(binned.freedom * binned.row_noise)
