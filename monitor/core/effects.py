"""Which features moved, by how much: effect sizes beside evidence, most evidence first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.distinct_values import live_distinct
from monitor.core.model_state import ModelState
from monitor.core.profile import FeatureProfile
from monitor.core.statistics import HEADLINE, STATISTICS, Binned


@dataclass(frozen=True, slots=True)
class Effect:
    """One feature (or prediction) in the live window against its reference.

    statistics:   the headline effect sizes; NaN for one that says nothing about its kind.
    log_evidence: of its own e-detector, in log seconds; None for predictions.
    distinct:     different values now; None: of continuous features and predictions, or not known.
    named:        the false discovery rule names it as one that moved.
    """

    feature: FeatureProfile
    statistics: dict[str, float]
    log_evidence: float | None
    named: bool
    live: Counts
    distinct: int | None = None


def effects(state: ModelState) -> list[Effect]:
    """Every input feature, most evidence first, then the predictions."""
    stable = state.stable
    if stable is None:
        return []
    profile = stable.yardstick.profile
    own = stable.feature_evidence()
    named = discoveries(own, state.settings.warn)
    live = stable.window.live
    watched = (*profile.features, *profile.predictions)
    sizes = effect_sizes(watched, stable.yardstick.binned(live), HEADLINE)
    inputs = len(profile.features)
    order = sorted(range(inputs), key=lambda f: (-own[f], f))
    return [
        Effect(
            watched[f],
            {name: float(values[f]) for name, values in sizes.items()},
            float(own[f]) if f < inputs else None,
            f in named,
            live[f],
            live_distinct(watched[f], live[f], stable.distinct.rest(f)) if f < inputs else None,
        )
        for f in (*order, *range(inputs, len(watched)))
    ]


def effect_sizes(
    watched: Sequence[FeatureProfile], binned: Binned, names: Iterable[str]
) -> dict[str, Floats]:
    """(f,) by statistic; NaN where it says nothing about a feature's kind."""
    sizes = {}
    for name in names:
        statistic = STATISTICS[name]
        told = np.array([feature.kind in statistic.kinds for feature in watched], dtype=np.bool_)
        sizes[name] = np.where(told, statistic.effect(binned), np.nan)
    return sizes


def discoveries(log_evidence: Floats, log_threshold: float) -> set[int]:
    """e-d-BH: the k features of most evidence, k largest with M_(k) >= threshold f / k.

    Source: Dandapanthula and Ramdas, "Multiple testing in multi-stream
    sequential change detection".
    """
    total = len(log_evidence)
    order = np.argsort(-log_evidence, kind="stable")
    for k in range(total, 0, -1):
        if log_evidence[order[k - 1]] >= log_threshold + log(total / k):
            return {int(f) for f in order[:k]}
    return set()


def moved_names(ranked: list[Effect], tolerance: float) -> list[str]:
    """Features to name in a verdict: the named ones, else those beyond the tolerance."""
    inputs = [effect for effect in ranked if effect.log_evidence is not None]
    chosen = [effect for effect in inputs if effect.named]
    return [e.feature.name for e in chosen or inputs if e.named or e.statistics["ks"] > tolerance]
