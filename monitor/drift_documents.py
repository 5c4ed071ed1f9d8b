"""The statistics in JSON: all effect sizes of a model, or everything about one feature."""

from math import isfinite
from typing import Any

import numpy as np

from monitor.core.effects import Effect, effect_sizes
from monitor.core.profile import FeatureKind
from monitor.core.statistics import STATISTICS, Binned
from monitor.core.statistics.assessment import LEVEL, Assessment, assess
from monitor.core.statistics.binned import Side
from monitor.core.statistics.moments import deviation_of, kurtosis_of, mean_of, skewness_of
from monitor.core.statistics.quantiles import quantile_of
from monitor.documents import RANKED_FEATURES, effect_document, number

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Document = dict[str, Any]


def model_drift_document(model: str, ranked: list[Effect]) -> Document:
    """Every effect size of the features with most evidence, and of the predictions."""
    inputs = [effect for effect in ranked if effect.log_evidence is not None]
    shown = inputs[:RANKED_FEATURES]
    shown += [effect for effect in ranked if effect.log_evidence is None]
    watched = [effect.feature for effect in shown]
    live = np.array([effect.live for effect in shown])
    sizes = effect_sizes(watched, Binned.of_features(watched, live), STATISTICS) if shown else {}
    documents = [
        {
            **effect_document(effect),
            "statistics": {name: number(float(values[i])) for name, values in sizes.items()},
        }
        for i, effect in enumerate(shown)
    ]
    cut = min(len(inputs), RANKED_FEATURES)
    return {
        "model": model,
        "features": documents[:cut],
        "features_left_out": len(inputs) - cut,
        "predictions": documents[cut:],
    }


def one_drift_document(model: str, effect: Effect) -> Document:
    """One feature: every statistic that applies with null mean, interval and p-value.

    Takes a fraction of a second of one core, whatever the rows.
    """
    feature = effect.feature
    return {
        **effect_document(effect),
        "model": model,
        "reference_rows": int(feature.counts.sum()),
        "level": LEVEL,
        "summary": _summary(effect),
        "statistics": [_assessment(item) for item in assess(feature, effect.live, STATISTICS)],
    }


def _assessment(item: Assessment) -> Document:
    statistic = item.statistic
    return {
        "name": statistic.name,
        "title": statistic.title,
        "unit": statistic.unit,
        "effect": number(item.effect),
        "null_mean": number(item.null_mean),
        "low": number(item.low),
        "high": number(item.high),
        "p_value": number(item.p_value),
        "p_value_from": "draws" if item.drawn else statistic.law,
        "raw_error": None if item.raw_error is None else number(item.raw_error),
    }


def _summary(effect: Effect) -> Document | None:
    """Moments (winsorised) and quantiles of both sides, in the feature's unit."""
    if effect.feature.kind is FeatureKind.CATEGORICAL:
        return None
    binned = Binned.of_features([effect.feature], effect.live[None])

    def of(side: Side) -> Document:
        moments = {
            "mean": mean_of(binned, side),
            "deviation": deviation_of(binned, side),
            "skewness": skewness_of(binned, side),
            "kurtosis": kurtosis_of(binned, side),
        }
        quantiles = {f"p{q * 100:02.0f}": quantile_of(binned, side, q) for q in QUANTILES}
        return {
            name: float(values[0]) if isfinite(values[0]) else None
            for name, values in (moments | quantiles).items()
        }

    return {"reference": of(binned.reference), "live": of(binned.live)}
