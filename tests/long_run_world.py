"""Days of one model's traffic, block by block, for tests of what is kept of it.

Rows are drawn as counts in the bins of the reference, which is the same law as drawing
rows and counting them. What counts do not tell, a few real rows of each block bring:
texts that were never seen, scores, slices, rows for the sample, labels.

Whatever could make something grow happens again and again, in cycles of CYCLE_S: a
rollout that is not promoted, data that breaks, and, unless one version is to serve all the
time, a rollout that is.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from monitor.core.bins import MISSING, SLOTS, UNSEEN, Counts
from monitor.core.block import CANDIDATE, STABLE, Arm, LossSum, ModelBlock, Outcome, Part
from monitor.core.performance.answers import answer_of
from monitor.core.predictions import LOSS_UNITS, error_of
from monitor.core.settings import ANY_MODEL, CoreSettings
from monitor.core.slice import Slice
from monitor.core.slicing import places_of_row
from monitor.profile import FeatureSpec, PredictionKind, PredictionSpec, ReferenceProfile
from monitor.profile import build_profile as build
from tests.monitor_world import SETTINGS

ROWS_PER_S = 10_000
BLOCK_S = 120
WINDOW_BLOCKS = 20
CYCLE_S = 6 * 3600
REFERENCE_ROWS = 4000
REAL, LABELLED, LATE = 12, 6, 100  # rows and labels of a block; a label's delay in blocks
SPLIT = 10  # one in so many rows goes to a candidate

SLICES = (
    Slice("plan", "plan", values=("p0", "p1"), protected=True),
    Slice("amount", "amount", edges=(-1.0, 1.0)),
)
LONG_RUN: CoreSettings = replace(
    SETTINGS,
    block_ns=BLOCK_S * 10**9,
    window_blocks=WINDOW_BLOCKS,
    verify_ns=1800 * 10**9,
    recent_change_ns=600 * 10**9,
    slices=((ANY_MODEL, SLICES),),
    quantile_level=0.9,
)
FEATURES = (
    FeatureSpec("amount", "x", 0, "continuous"),
    FeatureSpec("age", "x", 1, "continuous"),
    FeatureSpec("visits", "x", 2, "discrete"),
    FeatureSpec("plan", "plan", 0),
    FeatureSpec("word", "word", 0),
)


class LongRun:
    """Mutable.

    classes:   answers are scores of so many, or a number where it is 1.
    promotes:  whether each cycle ends with a new stable version.
    """

    def __init__(
        self, classes: int, seed: int, *, promotes: bool, rows_per_s: int = ROWS_PER_S
    ) -> None:
        self._promotes, self._rows = promotes, rows_per_s * BLOCK_S
        self._classes, self._random = classes, np.random.default_rng(seed)
        self.profile = self._reference()
        watched = (*self.profile.features, *self.profile.predictions)
        counts = np.array([feature.counts for feature in watched], dtype=np.float64)
        counts[len(FEATURES) - 1, UNSEEN] += 0.02 * REFERENCE_ROWS
        self._shares = counts / counts.sum(axis=1, keepdims=True)
        self._words = 0
        self._versions = 0
        self._waiting: list[tuple[int, Outcome]] = []

    @property
    def spec(self) -> PredictionSpec:
        assert self.profile.prediction is not None
        return self.profile.prediction

    def profiles(self, version: str, digest: str) -> ReferenceProfile:
        return self.profile

    def _reference(self) -> ReferenceProfile:
        inputs = self._inputs(REFERENCE_ROWS)
        columns = [*inputs["x"].T, inputs["plan"][:, 0], inputs["word"][:, 0]]
        table = np.empty((REFERENCE_ROWS, len(FEATURES)), dtype=object)
        for place, column in enumerate(columns):
            table[:, place] = column
        said = self._answers(REFERENCE_ROWS)
        losses = (self._random.random(REFERENCE_ROWS) < 0.1).astype(np.float64)
        kind = PredictionKind.SCORES if self._classes > 1 else PredictionKind.NUMBER
        spec = PredictionSpec(kind, "answer")
        return build(table, FEATURES, said, losses, prediction=spec, sample_rows=400)

    def _inputs(self, rows: int, *, fresh: bool = False) -> dict[str, np.ndarray]:
        """fresh: with words that never were."""
        random = self._random
        x = np.stack(
            [random.normal(size=rows), random.gamma(3.0, 12.0, rows), random.poisson(2.0, rows)]
        )
        words = random.integers(0, 500, rows).astype(object)
        if fresh:
            words[::3] = [f"new{self._words + i}" for i in range(len(words[::3]))]
            self._words += rows
        plan = np.array([f"p{i}" for i in random.integers(0, 4, rows)], dtype=object)
        texts = np.array([f"w{word}" for word in words], dtype=object)
        return {"x": x.T.astype(np.float32), "plan": plan[:, None], "word": texts[:, None]}

    def _answers(self, rows: int) -> np.ndarray:
        if self._classes == 1:
            return self._random.lognormal(0.0, 2.0, rows)
        scores = self._random.dirichlet(np.full(self._classes, 2.0), rows)
        return scores.astype(np.float32)

    def blocks(self, hours: float) -> Iterator[ModelBlock]:
        for index in range(round(hours * 3600 / BLOCK_S)):
            yield self._block(index)

    def _block(self, index: int) -> ModelBlock:
        into_s = (index * BLOCK_S) % CYCLE_S
        if self._promotes and into_s == 0 and index:
            self._versions += 1  # what was the candidate is stable now
        stable = Arm(f"d{self._versions}", f"{self._versions}", STABLE, "")
        cycle = index * BLOCK_S // CYCLE_S
        block = ModelBlock(index, losses=LossSum(500, 50 * LOSS_UNITS))
        is_next = self._promotes and into_s >= CYCLE_S - 3600
        if is_next or 3600 <= into_s < 5400:
            name = f"{self._versions + 1}" if is_next else f"bad{cycle}"
            candidate = Arm(f"d{name}", name, CANDIDATE, f"rollout {name}")
            self._fill(block, candidate, self._rows // SPLIT, index)
        broken = 10_000 <= into_s < 11_000
        self._fill(block, stable, self._rows, index, broken=broken)
        block.outcomes = [outcome for due, outcome in self._waiting if due <= index]
        self._waiting = [item for item in self._waiting if item[0] > index]
        block.lost = int(self._random.integers(0, 50))
        return block

    def _counts(self, rows: int, swing: float, *, broken: bool) -> Counts:
        shares = self._shares
        if broken:
            absent = np.zeros((1, SLOTS))
            absent[0, MISSING] = 1.0
            shares = np.concatenate([absent, shares[1:]])
        leaning = 1.0 + 0.01 * swing * np.cos(np.arange(SLOTS))
        moved = shares * leaning
        return self._random.multinomial(rows, moved / moved.sum(axis=1, keepdims=True))

    def _fill(
        self, block: ModelBlock, arm: Arm, rows: int, index: int, *, broken: bool = False
    ) -> None:
        start_ns = index * LONG_RUN.block_ns
        filled = block.arm(arm)
        failed = int(self._random.binomial(rows, 1e-4))
        filled.add(start_ns, start_ns + LONG_RUN.block_ns - 1, rows, failed)
        swing = np.sin(2 * np.pi * index * BLOCK_S / 86_400)
        filled.counts = self._counts(rows - REAL, swing, broken=broken)
        inputs, said = self._inputs(REAL, fresh=True), self._answers(REAL)
        if broken:
            inputs["x"][:, 0] = np.nan
        sequences = np.arange(REAL) + index * REAL
        filled.parts = [Part(inputs, {"answer": said}, {}, f"of {arm.role}", sequences)]
        for row in range(LABELLED):
            self._label(arm, inputs, said, row, index)

    def _label(
        self, arm: Arm, inputs: dict[str, np.ndarray], said: np.ndarray, row: int, index: int
    ) -> None:
        """Its truth comes later, and is as often as not a class that nobody knows.

        So many, because a tally forgets none before it knows all that it tells apart.
        """
        random, spec = self._random, self.spec
        truth: float | str = float(random.lognormal(0.0, 2.0))
        if self._classes > 1:
            known = random.random() < 0.4
            truth = float(random.integers(self._classes)) if known else f"t{random.integers(1e9)}"
        error = error_of(said, spec, row, truth)
        assert error is not None
        due = index + int(random.integers(1, LATE))
        outcome = Outcome(
            arm.digest,
            index * LONG_RUN.block_ns,
            error,
            spec.kind is PredictionKind.NUMBER,
            arm.version,
            due * LONG_RUN.block_ns,
            answer_of(said, {"answer": said}, spec, self.profile, row, truth),
            places_of_row(SLICES, inputs, {}, self.profile, row),
        )
        self._waiting.append((due, outcome))
