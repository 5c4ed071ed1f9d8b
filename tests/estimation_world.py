"""A world in which scores are too sure of themselves, inputs shift, and concepts change."""

from dataclasses import dataclass

import numpy as np

from monitor.core.block import STABLE, Arm, ModelBlock, Outcome, Part
from monitor.core.estimation.answered import AnsweredScores
from monitor.core.judge import Verdict
from monitor.core.model_state import ModelState
from monitor.core.performance.answers import ClassAnswer, scores_of
from monitor.core.performance.score_histogram import ScoreHistogram
from monitor.core.profile import ReferenceProfile
from tests.monitor_world import BLOCK_NS, MODEL, SETTINGS

ARM = Arm("d", "1", STABLE, "")
FIRST = 1000  # block
NAMES = ("0", "1")


def histogram(scores: np.ndarray, truth: np.ndarray) -> ScoreHistogram:
    found = ScoreHistogram()
    for score, is_true in zip(scores.tolist(), truth.tolist(), strict=True):
        found.add(score, is_true)
    return found


def answered(scores: np.ndarray, said: np.ndarray) -> AnsweredScores:
    found = AnsweredScores()
    found.add(scores, said)
    return found


@dataclass(frozen=True)
class World:
    """mean, spread: of the inputs, which shift; the rest is what labels depend on given them."""

    mean: float = 0.0
    slope: float = 1.5
    base: float = -0.3
    spread: float = 1.3

    def draw(self, random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the positive class, and whether rows are of it; the model stays the same."""
        x = random.normal(self.mean, self.spread, rows)
        truth = random.random(rows) < 1 / (1 + np.exp(-(self.slope * x + self.base)))
        return 1 / (1 + np.exp(-2.0 * x)), truth


class Run:
    """Blocks of a world, one after the other; labels come in the block after, if at all."""

    def __init__(
        self,
        seed: int,
        state: ModelState | None = None,
        profile: ReferenceProfile | None = None,
    ) -> None:
        print("seed", seed)
        self.random = np.random.default_rng(seed)
        self.state = state or ModelState(MODEL, SETTINGS)
        self.index = FIRST
        self.waiting: list[tuple[float, bool]] = []
        self.rows_per_block = 100
        self.profile = profile
        self.verdicts: list[Verdict] = []

    def run(self, world: World, blocks: int, labelled: float = 1.0) -> tuple[np.ndarray, ...]:
        """Returns: scores and truth of all rows."""
        drawn = []
        for _ in range(blocks):
            scores, truth = world.draw(self.random, self.rows_per_block)
            block = ModelBlock(self.index)
            block.outcomes = [self._outcome(score, is_true) for score, is_true in self.waiting]
            add_rows(block, scores)
            self.verdicts.append(self.state.close(block, lambda *_: self.profile).verdict)
            count = int(labelled * len(scores))
            self.waiting = list(zip(scores[:count].tolist(), truth[:count].tolist(), strict=True))
            self.index += 1
            drawn.append((scores, truth))
        return tuple(np.concatenate(columns) for columns in zip(*drawn, strict=True))

    def _outcome(self, score: float, is_true: bool) -> Outcome:
        said, truth = str(int(score >= 0.5)), str(int(is_true))
        answer = ClassAnswer(said, truth, "1", scores_of([1 - score, score], NAMES, said, truth))
        at_ns = self.index * BLOCK_NS
        error = float(said != truth)
        return Outcome(ARM.digest, at_ns - BLOCK_NS, error, False, "1", at_ns, answer)


def add_rows(block: ModelBlock, scores: np.ndarray) -> None:
    arm, at_ns = block.arm(ARM), block.index * BLOCK_NS
    arm.add(at_ns, at_ns, len(scores), 0)
    pair = np.stack([1 - scores, scores], axis=1)
    label = (scores >= 0.5).astype(np.int64)
    arm.parts.append(Part({"x": np.zeros((len(scores), 1))}, {"label": label, "p": pair}))
