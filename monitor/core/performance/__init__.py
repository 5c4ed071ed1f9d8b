"""Realised performance: what labels say of a version, as counts that merge exactly.

The measures by name; documents, metrics, tests and the documentation walk this table.
They are gauges: evidence on the loss decides, measures inform.
"""

from collections.abc import Mapping
from types import MappingProxyType

from monitor.core.performance.class_measures import (
    ACCURACY,
    F1,
    MACRO_F1,
    MACRO_PRECISION,
    MACRO_RECALL,
    PRECISION,
    RECALL,
)
from monitor.core.performance.class_ranking_measures import MACRO_ROC_AUC, WEIGHTED_ROC_AUC
from monitor.core.performance.entry import Estimate, Measure
from monitor.core.performance.number_measures import MAE, MEDIAN_ABSOLUTE_ERROR, R2, RMSE
from monitor.core.performance.quantile_measure import quantile_loss
from monitor.core.performance.score_measures import BRIER, ECE, LOG_LOSS, ROC_AUC

MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        item.name: item
        for item in (
            ACCURACY,
            PRECISION,
            RECALL,
            F1,
            MACRO_PRECISION,
            MACRO_RECALL,
            MACRO_F1,
            LOG_LOSS,
            BRIER,
            ECE,
            ROC_AUC,
            MACRO_ROC_AUC,
            WEIGHTED_ROC_AUC,
            MAE,
            RMSE,
            MEDIAN_ABSOLUTE_ERROR,
            R2,
        )
    }
)


def measures_with(quantile_level: float) -> Mapping[str, Measure]:
    """The table, and the quantile loss if a level above 0 is configured."""
    if not quantile_level:
        return MEASURES
    added = quantile_loss(quantile_level)
    return {**MEASURES, added.name: added}


__all__ = ["MEASURES", "Estimate", "Measure", "measures_with"]
