"""The statistics by name; tests, metrics, documents and benchmarks walk this one table.

Effect sizes are gauges: they inform and never page.
"""

from collections.abc import Mapping
from types import MappingProxyType

from monitor.core.statistics.binned import Binned
from monitor.core.statistics.contingency import CHI_SQUARE, CRAMERS_V, G
from monitor.core.statistics.entry import Statistic
from monitor.core.statistics.hellinger import HELLINGER
from monitor.core.statistics.jensen_shannon import JENSEN_SHANNON
from monitor.core.statistics.ks import KS
from monitor.core.statistics.mann_whitney import MANN_WHITNEY
from monitor.core.statistics.moments import DEVIATION_RATIO, MEAN_SHIFT, SKEWNESS_SHIFT
from monitor.core.statistics.psi import PSI
from monitor.core.statistics.quantiles import MEDIAN_SHIFT, P05_SHIFT, P95_SHIFT
from monitor.core.statistics.relative_entropy import KL
from monitor.core.statistics.share_differences import L_INFINITY, TOTAL_VARIATION
from monitor.core.statistics.squared_differences import (
    ANDERSON_DARLING,
    CRAMER_VON_MISES,
    ENERGY,
)
from monitor.core.statistics.wasserstein import (
    WASSERSTEIN,
    WASSERSTEIN_SCALED,
    WASSERSTEIN_WINSORISED,
)

STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        item.name: item
        for item in (
            KS,
            PSI,
            JENSEN_SHANNON,
            WASSERSTEIN_SCALED,
            WASSERSTEIN,
            WASSERSTEIN_WINSORISED,
            KL,
            HELLINGER,
            TOTAL_VARIATION,
            L_INFINITY,
            CHI_SQUARE,
            G,
            CRAMERS_V,
            CRAMER_VON_MISES,
            ANDERSON_DARLING,
            ENERGY,
            MANN_WHITNEY,
            MEAN_SHIFT,
            DEVIATION_RATIO,
            SKEWNESS_SHIFT,
            P05_SHIFT,
            MEDIAN_SHIFT,
            P95_SHIFT,
        )
    }
)

# Computed with every document and kept as time series. The rest says the same in
# other words, and a hundred features of two dozen numbers are too many series.
HEADLINE: tuple[str, ...] = ("ks", "psi", "js", "wasserstein_scaled")

__all__ = ["HEADLINE", "STATISTICS", "Binned", "Statistic"]
