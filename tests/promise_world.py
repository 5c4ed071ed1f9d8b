"""Streams for the promise: stationary traffic of 100 features, drawn as counts.

Each has a reference of its own, a finite sample that goes through the real fit.
Traffic is then drawn as counts in the cells that the monitor's questions can tell
apart, since that is the same law as drawing rows and counting them, and a hundred
times cheaper.

What no part of the law may lean on:
- rows of a block depend on each other: sessions of 5 equal rows, a retry storm of 30,
  and a mood of the whole block that is drawn anew for each;
- features depend on each other: a fifth are copies, and the mood moves all;
- a season moves every share by up to a hundredth, half of the tolerance;
- tails are heavy, categories many, values missing, classes unbalanced, losses clumped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from monitor.core.bins import ABOVE, BELOW, MISSING, SLOTS, UNSEEN, Counts, Floats
from monitor.core.model_state import ModelState
from monitor.core.predictions import LOSS_UNITS
from monitor.core.profile import FeatureProfile, fit_feature
from monitor.core.settings import CoreSettings
from monitor.core.watched import Stable, Yardstick
from monitor.profile import (
    FeatureSpec,
    LossReference,
    PredictionKind,
    PredictionSpec,
    ReferenceProfile,
)
from tests.monitor_world import SETTINGS

FEATURES, COPIES = 100, 20
REFERENCE_ROWS = 1500
BUDGET_BLOCKS, HORIZON = 5000, 500
SINGLE, SESSIONS, STORM = 20, 6, 30  # rows alone, sessions of 5 rows, rows of one client
WEIGHTS = np.array([1] * SINGLE + [5] * SESSIONS + [STORM])
SEASON_BLOCKS = 200
SEASON, MOOD = 0.04, 0.3  # relative sizes of what moves the shares
MISSING_SHARE = 0.03
LOSS, LABELLED = 0.1, 12  # mean loss; clumps of labelled rows in a block
CLASSES = np.array([0.7, 0.2, 0.07, 0.03])

PROMISE = replace(SETTINGS, tolerance=0.02, loss_tolerance=0.02, budget_s=float(BUDGET_BLOCKS))


@dataclass(frozen=True)
class Truth:
    """The law of one feature: values for a reference, and the mass of a fit's slots."""

    draw: Callable[[np.random.Generator, int], np.ndarray]
    mass: Callable[[FeatureProfile], Floats]
    missing: float = 0.0

    def sample(self, random: np.random.Generator, rows: int) -> np.ndarray:
        values = self.draw(random, rows)
        absent = random.random(rows) < self.missing
        if values.dtype.kind == "U":
            return np.where(absent, None, values.astype(object))
        return np.where(absent, np.nan, values)

    def slots(self, fitted: FeatureProfile) -> Floats:
        mass = self.mass(fitted) * (1.0 - self.missing)
        mass[MISSING] += self.missing
        return mass


def continuous(law: object, missing: float = 0.0) -> Truth:
    def mass(fitted: FeatureProfile) -> Floats:
        slots, size = np.zeros(SLOTS), fitted.starts.size
        below = law.cdf(np.append(fitted.starts, fitted.high))
        slots[:size] = np.diff(below)
        slots[BELOW], slots[ABOVE] = below[0], 1.0 - below[-1]
        return slots

    return Truth(lambda random, rows: law.rvs(rows, random_state=random), mass, missing)


def discrete(law: object, missing: float = 0.0) -> Truth:
    def mass(fitted: FeatureProfile) -> Floats:
        slots, size = np.zeros(SLOTS), fitted.starts.size
        slots[:size] = law.pmf(fitted.starts)
        slots[UNSEEN] = max(1.0 - slots.sum(), 0.0)
        return slots

    return Truth(
        lambda random, rows: law.rvs(rows, random_state=random).astype(float), mass, missing
    )


def categorical(shares: Floats, missing: float = 0.0) -> Truth:
    names = np.array([f"c{i}" for i in range(shares.size)])

    def mass(fitted: FeatureProfile) -> Floats:
        slots, codes = np.zeros(SLOTS), fitted.codes()
        for name, share in zip(names, shares, strict=True):
            code = codes.get(str(name))
            slots[UNSEEN if code is None else int(code)] += share
        return slots

    def draw(random: np.random.Generator, rows: int) -> np.ndarray:
        return names[random.choice(shares.size, rows, p=shares)]

    return Truth(draw, mass, missing)


def zipf(size: int) -> Floats:
    weights = 1.0 / np.arange(1, size + 1)
    return weights / weights.sum()


def truths() -> list[Truth]:
    """80 of their own: heavy tails, counts, categories from three to two thousand."""
    heavy = [stats.cauchy(), stats.lognorm(3.0), stats.pareto(0.8), stats.t(2.0), stats.norm()]
    found = [continuous(law, MISSING_SHARE * (i % 3 == 0)) for i in range(9) for law in heavy]
    found += [discrete(stats.poisson(mean)) for mean in (0.05, 0.5, 2.0, 5.0, 9.0)]
    found += [discrete(stats.geom(p), MISSING_SHARE) for p in (0.9, 0.7, 0.5, 0.4, 0.3)]
    found += [discrete(stats.randint(0, n)) for n in range(2, 12)]
    found += [categorical(zipf(n), MISSING_SHARE * (n < 9)) for n in (3, 5, 8, 12, 20, 40, 80, 150)]
    found += [categorical(zipf(n)) for n in (300, 500, 800, 1000, 1200, 1500, 2000)]
    assert len(found) == FEATURES - COPIES
    return found


TRUTHS = truths()
ANSWER = categorical(CLASSES)


def reference(random: np.random.Generator, rows: int) -> ReferenceProfile:
    own = [
        fit_feature(FeatureSpec(f"f{i}", index=i, datatype="FP64"), truth.sample(random, rows))
        for i, truth in enumerate(TRUTHS)
    ]
    copies = [replace(own[i], name=f"copy{i}", index=len(own) + i) for i in range(COPIES)]
    answer = fit_feature(FeatureSpec("prediction"), ANSWER.sample(random, rows))
    losses = random.random(rows) < LOSS
    error = float(losses.std(ddof=1)) / np.sqrt(rows)
    return ReferenceProfile(
        rows,
        (*own, *copies),
        (answer,),
        PredictionSpec(PredictionKind.CLASS),
        LossReference(float(losses.mean()), error, rows),
    )


class Cells:
    """Of each feature, the slots that no question tells apart, as one cell each."""

    def __init__(self, yardstick: Yardstick) -> None:
        profile = yardstick.profile
        own = len(TRUTHS)
        watched = [*profile.features[:own], *profile.predictions]
        mass = np.stack([t.slots(f) for t, f in zip([*TRUTHS, ANSWER], watched, strict=True)])
        rows = [*range(own), len(profile.features)]
        cell_of, self._slot = self._cells(yardstick, rows)
        shares = np.zeros(self._slot.shape)
        np.add.at(shares, (np.arange(len(rows))[:, None], cell_of), mass)
        self.shares = shares / shares.sum(axis=1, keepdims=True)
        self._rows = np.array([*range(own), *range(COPIES), own])  # copies, then the answer
        self._offsets = np.arange(len(rows)) * SLOTS

    @staticmethod
    def _cells(yardstick: Yardstick, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """(f, SLOTS) the cell of each slot, (f, cells) a slot of each cell."""
        total = len(yardstick.profile.features) + len(yardstick.profile.predictions)
        told = []
        for slot in range(SLOTS):
            counts = np.zeros((total, SLOTS), dtype=np.int64)
            counts[:, slot] = 1
            told.append(np.stack(yardstick.events.answers(counts)))
        answers = np.array(told)  # (SLOTS, 2, v)
        cell_of, slots = [], []
        for row in rows:
            mine = answers[:, :, yardstick.events.feature == row].reshape(SLOTS, -1)
            _, first, inverse = np.unique(mine, axis=0, return_index=True, return_inverse=True)
            cell_of.append(inverse.reshape(-1))
            slots.append(first)
        width = max(map(len, slots))
        return np.array(cell_of), np.array(
            [np.pad(s, (0, width - len(s)), mode="edge") for s in slots]
        )

    def moods(self, random: np.random.Generator) -> Floats:
        """A direction in which shares can move: (f, cells), summing to 0 in each row."""
        leaning = random.uniform(-1.0, 1.0, self.shares.shape)
        return self.shares * (leaning - np.sum(self.shares * leaning, axis=1, keepdims=True))

    def counts(self, random: np.random.Generator, shares: Floats) -> Counts:
        """Those of one block, as the counter would have given them: (f, SLOTS)."""
        below = np.cumsum(shares, axis=1)[:, :-1]
        cells = np.sum(random.random((WEIGHTS.size, len(below), 1)) > below, axis=2)
        places = self._offsets + np.take_along_axis(self._slot.T, cells, axis=0)
        weights = np.broadcast_to(WEIGHTS[:, None], places.shape)
        size = len(below) * SLOTS
        counts = np.bincount(places.reshape(-1), weights.reshape(-1), minlength=size)
        return counts.astype(np.int64).reshape(-1, SLOTS)[self._rows]


class Stream:
    """One model's watch over traffic that never moves."""

    def __init__(
        self, yardstick: Yardstick, cells: Cells, settings: CoreSettings, seed: list[int]
    ) -> None:
        self.random, self.cells = np.random.default_rng(seed), cells
        self.state = ModelState("m", settings)
        self.stable = self.state.stable = Stable.start("1", "d" * 64, 0, yardstick)
        self._season, self._mood = self.cells.moods(self.random), self.cells.moods(self.random)
        self._phase = self.random.integers(SEASON_BLOCKS)

    def blocks(self, number: int) -> Iterator[tuple[Counts, int, int]]:
        """Counts, losses and their number."""
        random = self.random
        for index in range(number):
            season = np.sin(2 * np.pi * (index + self._phase) / SEASON_BLOCKS)
            mood = random.choice([-1.0, 1.0])
            moved = self.cells.shares + SEASON * season * self._season + MOOD * mood * self._mood
            clumps = random.integers(1, 9, LABELLED)
            wrong = int(clumps[random.random(LABELLED) < LOSS].sum())
            yield self.cells.counts(random, moved), wrong * LOSS_UNITS, int(clumps.sum())

    def alarms(self, horizon: int = HORIZON) -> bool:
        """Whether the model is paged for within the horizon."""
        for counts, units, labelled in self.blocks(horizon):
            self.stable.step(counts, units, labelled, 1)
            if self.state.total_evidence() >= self.state.settings.page:
                return True
        return False


STREAMS_PER_REFERENCE = 5  # fitting one costs as much as watching half a stream


def streams(
    number: int, seed: int, settings: CoreSettings = PROMISE, rows: int = REFERENCE_ROWS
) -> Iterator[Stream]:
    for i in range(number):
        if i % STREAMS_PER_REFERENCE == 0:
            yardstick = Yardstick(reference(np.random.default_rng([seed, i]), rows), settings)
            cells = Cells(yardstick)
        yield Stream(yardstick, cells, settings, [seed, number + i])
