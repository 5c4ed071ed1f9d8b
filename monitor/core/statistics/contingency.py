"""Chi-square, G and Cramér's V: the two sides as the rows of a contingency table."""

import numpy as np

from monitor.core.bins import Floats
from monitor.core.statistics.binned import Binned, Side
from monitor.core.statistics.cell_law import LAW, cell_null_mean, cell_p_value
from monitor.core.statistics.entry import ALL, SEPARATE, Statistic


def chi_square(binned: Binned) -> Floats:
    """Two-sample chi-square, by rows: sum of (p - q)² / h over the cells, h pooled.

    Returns (...), >= 0. Divided by 1/n + 1/m it is the chi-square of the table of
    both sides, whatever their sizes; the reference is a sample like the other. Shares
    are pooled by rows, so what a change amounts to depends somewhat on n : m.
    Cells empty on both sides do not exist; one that only one side fills costs what
    its rows make of it, so an unseen category is no infinity. No rows on a side: NaN.
    Source: scipy.stats.chi2_contingency(table, correction=False).
    """
    h = binned.pooled_shares
    squares = (binned.reference.shares - binned.live.shares) ** 2
    return np.asarray((squares / np.where(h == 0, 1.0, h)).sum(axis=-1))


def likelihood_ratio(binned: Binned) -> Floats:
    """The G-test's statistic, by rows as chi-square is.

    Returns (...), >= 0: twice the log likelihood ratio of two distributions
    against one, times 1/n + 1/m. Sizes may differ. Empty cells add nothing.
    Source: scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").
    """
    h = binned.pooled_shares
    ratio = sum(_against(side, h) for side in (binned.reference, binned.live))
    return np.asarray(np.maximum(2 * ratio * binned.row_noise, 0.0))


def _against(side: Side, pooled: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(side.cells == 0, 0.0, side.cells * np.log(side.shares / pooled))
    return np.asarray(np.where(side.rows > 0, terms.sum(axis=-1), np.nan))


def cramers_v(binned: Binned) -> Floats:
    """Cramér's V between value and side, corrected for its bias.

    Returns (...), in [0, 1]: 0 where the difference is no more than chance makes,
    1 where no value is on both sides. It shrinks as one side outgrows the other, so
    compare it only between windows of a size. One cell, or no rows on a side: NaN.
    Law: that of chi-square, of which it is a rising function; by draws, 1 where V is 0.
    Source: Bergsma 2013, "A bias-correction for Cramér's V and Tschuprow's T".
    """
    spare = _spare_rows(binned)
    excess = np.maximum(_squared_contingency(binned) - binned.freedom / spare, 0.0)
    return _cramer(binned, excess)


def _cramer(binned: Binned, phi2: Floats) -> Floats:
    """Root of the share that phi2 is of the most that it can be."""
    spare = _spare_rows(binned)
    columns = binned.freedom + 1 - binned.freedom**2 / spare
    most = np.minimum(columns - 1, 1 - 1 / spare)  # the table has two rows
    return np.sqrt(np.minimum(phi2 / np.where(most > 0, most, np.nan), 1.0))


def _squared_contingency(binned: Binned) -> Floats:
    """Chi-square by the rows of both sides."""
    return chi_square(binned) / binned.row_noise / (binned.reference.rows + binned.live.rows)


def _spare_rows(binned: Binned) -> Floats:
    return np.asarray(np.maximum(binned.reference.rows + binned.live.rows - 1, 1.0))


CHI_SQUARE = Statistic(
    "chi_square",
    "Chi-square, two-sample",
    "per row",
    ALL,
    chi_square,
    LAW,
    null_mean=cell_null_mean,
    p_value=cell_p_value,
)
G = Statistic(
    "g",
    "Likelihood ratio (G-test)",
    "per row",
    ALL,
    likelihood_ratio,
    LAW,
    null_mean=cell_null_mean,
    p_value=cell_p_value,
)
CRAMERS_V = Statistic(
    "cramers_v",
    "Cramér's V, bias-corrected",
    "0 to 1",
    SEPARATE,
    cramers_v,
    LAW,
    p_value=lambda binned, _: cell_p_value(binned, chi_square(binned)),
    most=1.0,
    power=2,
    uncorrected=lambda binned: _cramer(binned, _squared_contingency(binned)),
)
