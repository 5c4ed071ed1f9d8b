"""How long the statistics take: all effect sizes of many features, and one assessment."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

FEATURES = 100
ROUNDS = 20
SEED = 1


def measure(features: int = FEATURES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Median CPU time of each over `rounds`, in ms; half of the features discrete."""
    from monitor.core.bins import count_slots
    from monitor.core.statistics import HEADLINE, STATISTICS, Binned
    from monitor.core.statistics.assessment import assess
    from monitor.profile import FeatureSpec, build_profile

    generator = np.random.default_rng(SEED)
    columns = [_column(generator, i, 20_000, 0.0) for i in range(features)]
    specs = [FeatureSpec(f"f{i}", datatype="FP64") for i in range(features)]
    watched = build_profile(np.stack(columns, axis=1), specs).features
    live = np.stack(
        [
            count_slots(_column(generator, i, 3000, 0.1), f.starts, f.high, f.exact)
            for i, f in enumerate(watched)
        ]
    )

    def sizes(names: Any) -> Callable[[], None]:
        def compute() -> None:
            binned = Binned.of_features(watched, live)
            for name in names:
                STATISTICS[name].effect(binned)

        return compute

    found = {
        "all_effect_sizes_ms": _milliseconds(sizes(STATISTICS), rounds),
        "headline_ms": _milliseconds(sizes(HEADLINE), rounds),
        "one_assessment_ms": _milliseconds(lambda: assess(watched[0], live[0], STATISTICS), rounds),
    }
    text = (
        f"{len(STATISTICS)} statistics of {features} features: "
        f"{found['all_effect_sizes_ms']:.1f} ms, the headline {found['headline_ms']:.1f} ms; "
        f"one feature with intervals and p-values: {found['one_assessment_ms']:.0f} ms"
    )
    return {"features": features, **found, "text": text}


def _column(generator: Any, number: int, rows: int, shift: float) -> Any:
    if number % 2:
        return generator.poisson(6 + shift, size=rows).astype(float)
    return generator.normal(shift, size=rows)


def _milliseconds(call: Callable[[], Any], rounds: int) -> float:
    taken = []
    call()
    for _ in range(rounds):
        started = time.thread_time()
        call()
        taken.append(time.thread_time() - started)
    return median(taken) * 1e3
