"""Traffic that does not move but is alike for a while: autoregressive, or in regimes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.model_state import ModelState
from monitor.core.watched import Stable, Yardstick
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import SETTINGS

FEATURES, BLOCK_ROWS, REFERENCE_ROWS = 3, 60, 2000
COMMON = 0.7  # of a value, in deviations: what the rows of a block share
SETTINGS_CORRELATED = replace(SETTINGS, tolerance=0.02, budget_s=5000.0)


def levels(random: np.random.Generator, kind: str, memory: float) -> Iterator[Floats]:
    """What the rows of each block share: (FEATURES,), standard deviation 1.

    memory: the correlation of one block's with the next.
    """
    level = random.normal(size=FEATURES) if kind == "autoregressive" else np.ones(FEATURES)
    while True:
        yield level
        if kind == "autoregressive":
            fresh = random.normal(size=FEATURES)
            level = memory * level + np.sqrt(1 - memory**2) * fresh
        else:
            changes = random.random(FEATURES) >= memory
            level = np.where(changes, random.choice([-1.0, 1.0], FEATURES), level)


class CorrelatedStream:
    """A model's watch over it, against a reference of independent rows of the same law."""

    def __init__(self, seed: int, kind: str, memory: float) -> None:
        self.random = np.random.default_rng(seed)
        specs = [FeatureSpec(f"f{i}", datatype="FP64", kind="continuous") for i in range(FEATURES)]
        rows = self.random.normal(size=(REFERENCE_ROWS, FEATURES))
        yardstick = Yardstick(build_profile(rows, specs), SETTINGS_CORRELATED)
        self.state = ModelState("m", SETTINGS_CORRELATED)
        self.stable = self.state.stable = Stable.start("1", "d" * 64, 0, yardstick)
        self.levels = levels(self.random, kind, memory)
        self.shift = 0.0

    def counts(self) -> Counts:
        noise = self.random.normal(size=(BLOCK_ROWS, FEATURES))
        rows = COMMON * next(self.levels) + np.sqrt(1 - COMMON**2) * noise + self.shift
        counter = self.stable.yardstick.counter
        counts = counter.empty()
        assert counter.count({"x": rows}, {}, counts)
        return counts

    def step(self) -> bool:
        """Whether the model is paged for at the next block's end."""
        self.stable.step(self.counts(), 0, 0, 1)
        return self.state.total_evidence() >= self.state.settings.page
