"""Traffic with the hour: stationary from week to week, and far from it from hour to hour.

Every feature's law follows the hour of the day and is another one at weekends. Rows are
drawn, not counts: some alone, some in sessions of equal rows.
"""

from dataclasses import dataclass

import numpy as np

from monitor.core.bins import Counts
from monitor.core.model_state import ModelState
from monitor.core.season_reference import HOUR_NS, HOURS, hours_of
from monitor.core.settings import CoreSettings
from monitor.core.watched import Stable, Yardstick
from monitor.profile import FeatureSpec, ReferenceProfile, build_profile

MONDAY_NS = 1_699_833_600 * 10**9  # 2023-11-13, 00:00 UTC
WEEKS = 8  # of the reference
SINGLE, SESSIONS, SESSION_ROWS = 40, 8, 5  # of a block
SPECS = [
    FeatureSpec("amount", "x", 0, "continuous", "FP64"),
    FeatureSpec("age", "x", 1, "continuous", "FP64"),
    FeatureSpec("items", "x", 2, datatype="FP64"),
    FeatureSpec("shop", "shop", 0, datatype="BYTES"),
]
SHOPS = np.array(["a", "b", "c", "d"], dtype=object)


def rows_at(random: np.random.Generator, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, 4) and classes (n,) of rows in those hours of the week."""
    of_day = np.sin(2 * np.pi * (hours % 24) / 24)
    weekend = hours >= 5 * 24
    amount = random.normal(size=hours.size) + 0.8 * of_day
    age = random.normal(size=hours.size) - 0.6 * weekend
    age[random.random(hours.size) < 0.1 + 0.08 * of_day] = np.nan  # a feed that rests at night
    items = random.poisson(1.5 + of_day).astype(float)
    shop = SHOPS[(random.random(hours.size) ** (1.0 + 0.5 * weekend) * 4).astype(int)]
    columns = [amount.astype(object), age.astype(object), items.astype(object), shop]
    said = (amount + random.normal(size=hours.size) > 0).astype(np.int64)
    return np.stack(columns, axis=1), said


def reference(random: np.random.Generator, rows_per_hour: int) -> ReferenceProfile:
    """So many rows of each hour of the week on average, at any time of some weeks."""
    times_ns = MONDAY_NS + random.integers(0, WEEKS * HOURS * HOUR_NS, rows_per_hour * HOURS)
    inputs, said = rows_at(random, hours_of(times_ns))
    return build_profile(inputs, SPECS, said, times_ns=times_ns, sample_rows=0)


@dataclass
class SeasonalStream:
    """One model's watch over such traffic."""

    random: np.random.Generator
    yardstick: Yardstick
    settings: CoreSettings
    first: int = 0  # block of the week that it begins with

    def __post_init__(self) -> None:
        self.state = ModelState("m", self.settings)
        self.stable = self.state.stable = Stable.start("1", "d" * 64, 0, self.yardstick)
        self.block = self.first

    def counts(self, hours: np.ndarray) -> Counts:
        inputs, said = rows_at(self.random, hours)
        times = np.array([1] * SINGLE + [SESSION_ROWS] * SESSIONS)
        inputs, said = np.repeat(inputs, times, axis=0), np.repeat(said, times)
        named = {
            "x": inputs[:, :3].astype(np.float64),
            "shop": np.array([shop.encode() for shop in inputs[:, 3]], dtype=object),
        }
        counter = self.yardstick.counter
        counts = counter.empty()
        assert counter.count(named, {"label": said}, counts)
        return counts

    def step(self, hour: int | None = None) -> bool:
        """Whether the model is paged for at the next block's end.

        hour: the one that rows are like; None: the block's own.
        """
        start_ns = MONDAY_NS + self.block * self.settings.block_ns
        own = int(hours_of(np.array([start_ns]))[0]) if hour is None else hour
        counts = self.counts(np.full(SINGLE + SESSIONS, own))
        self.stable.step(counts, 0, 0, 1, start_ns)
        self.block += 1
        return self.state.total_evidence() >= self.settings.page

    def alarms(self, blocks: int) -> bool:
        return any(self.step() for _ in range(blocks))
