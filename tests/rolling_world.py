"""A model's watch by a rolling reference: short guards, drawn rows, blocks as they are closed.

Every feature is even over a range of length 1, so a shift of it moves each share by as much.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from monitor.core.block import Arm, ModelBlock, Outcome, Part
from monitor.core.model_state import ModelState, Summary
from monitor.core.profile import ReferenceProfile
from monitor.core.rolling import Rolling
from monitor.core.settings import ANY_MODEL, CoreSettings, RollingSettings, WarmUpSettings
from monitor.core.tree import pack, unpack
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import BLOCK_NS, SETTINGS

MODEL, DIGEST = "m", "d" * 64
GUARD, PARTS, WARM_UP = 100, 4, 360  # blocks
SPAN = PARTS * GUARD
START = 1000 * GUARD + 30  # no reference begins with a part
ROWS = 60  # of a block, of which a third comes in sessions of five equal ones
BUDGET_BLOCKS = 20_000
LOSS = 0.1

ROLLING = replace(
    SETTINGS,
    tolerance=0.05,
    budget_s=float(BUDGET_BLOCKS),
    warn_budget_s=1500.0,
    multivariate_rows=0,
    rolling=RollingSettings(
        (ANY_MODEL,),
        PARTS,
        GUARD * BLOCK_NS,
        WarmUpSettings(rows=5000, span_ns=WARM_UP * BLOCK_NS, skip_ns=0, always=True),
    ),
)
# The fastest drift that stays within the tolerance of every reference, of a share a block.
UNSEEN_RATE = ROLLING.tolerance / (SPAN / 2 + 2 * GUARD)


def rows_of(random: np.random.Generator, rows: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """x (n, 2) and classes (n,)."""
    x = (random.random((rows, 2)) + shift).astype(np.float32)
    return x, random.integers(0, 3, rows)


def pushed(random: np.random.Generator, rows: int = 4000) -> ReferenceProfile:
    x, said = rows_of(random, rows, 0.0)
    specs = [FeatureSpec(f"x[{i}]", "x", i, "continuous") for i in range(2)]
    return build_profile(x, specs, said, (random.random(rows) < LOSS).astype(float))


@dataclass
class Watch:
    """Blocks in, verdicts out.

    shift, loss: of the next block; labelled: whether there are labels.
    """

    seed: list[int]
    settings: CoreSettings = ROLLING
    profile: ReferenceProfile | None = None
    shift: float = 0.0
    loss: float = LOSS
    labelled: bool = False
    block: int = START
    said: list[Summary] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.state = ModelState(MODEL, self.settings)

    def step(self) -> Summary:
        block, start_ns = ModelBlock(self.block), self.block * BLOCK_NS
        alone = ROWS * 2 // 3
        x, said = rows_of(self.random, alone + (ROWS - alone) // 5, self.shift)
        times = np.array([1] * alone + [5] * ((ROWS - alone) // 5))
        part = Part({"x": np.repeat(x, times, axis=0)}, {"label": np.repeat(said, times)})
        arm = block.arm(Arm(DIGEST, "1", "stable", ""))
        arm.add(start_ns, start_ns, ROWS, 0)
        arm.parts.append(part)
        if self.labelled:
            errors = (self.random.random(20) < self.loss).astype(float)
            block.outcomes.extend(outcome(start_ns, float(error)) for error in errors)
        summary = self.state.close(block, lambda *_: self.profile)
        self.block += 1
        self.said.append(summary)
        return summary

    def run(self, blocks: int) -> "Watch":
        for _ in range(blocks):
            self.step()
        return self

    def restart(self) -> None:
        tree = unpack(self.stored)
        self.state = ModelState.from_tree(MODEL, tree, self.settings, lambda *_: self.profile)

    @property
    def stored(self) -> bytes:
        return pack(self.state.to_tree())

    @property
    def pages(self) -> int:
        return sum(summary.raised and summary.verdict.kind.pages for summary in self.said)

    @property
    def rolling(self) -> Rolling:
        found = self.state.own.rolling(DIGEST)
        assert found is not None
        return found

    @property
    def span(self) -> tuple[int, int]:
        """First and last block, excluded, of the reference in use."""
        learned = self.rolling.learned
        return learned.from_ns // BLOCK_NS, learned.to_ns // BLOCK_NS


def outcome(predicted_ns: int, error: float) -> Outcome:
    return Outcome(DIGEST, predicted_ns, error)
