"""The statistics by name; tests, metrics, reports and evidence walk this one table.

Each takes reference and live counts (..., SLOTS) and returns an effect size per
feature. Effect sizes are gauges: they inform and never page.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from monitor.core.bins import Counts, Floats
from monitor.core.statistics.jensen_shannon import jensen_shannon
from monitor.core.statistics.ks import kolmogorov_smirnov
from monitor.core.statistics.psi import population_stability

Statistic = Callable[[Counts, Counts], Floats]

STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        "ks": kolmogorov_smirnov,
        "psi": population_stability,
        "js": jensen_shannon,
    }
)

__all__ = [
    "STATISTICS",
    "Statistic",
    "jensen_shannon",
    "kolmogorov_smirnov",
    "population_stability",
]
