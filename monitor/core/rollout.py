"""One rollout under watch: the candidate against the stable version, block by block.

Laws:
- the comparison uses rows of the same blocks alone, and labels of rows that
  were predicted since the candidate's first row;
- evidence starts with the rollout's first block and ends with its last;
- the comparison is kept twice: as an e-detector, which takes part in the
  model's budget, and as a plain e-process since the first block, which says
  with a bounded error (Ville) whether the candidate is the worse one.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import Counts, Floats
from monitor.core.events import Group
from monitor.core.evidence import NOTHING, Bets, difference_bets, log_sum, mean_bets
from monitor.core.predictions import LOSS_UNITS
from monitor.core.reference_error import share_error
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.core.stretch import Stretch
from monitor.core.tree import Tree

# A rollout is over when as much stable traffic has passed as should have
# brought this many candidate rows, and brought none.
ROWS_MISSED = 30
DIFFERENCES = 3  # loss, failures, answers that are no number


@dataclass(slots=True)
class ArmTotals:
    """Sums of one arm since the rollout began."""

    rows: int = 0
    failed: int = 0
    labelled: int = 0
    loss_units: int = 0

    def to_tree(self) -> Tree:
        return [self.rows, self.failed, self.labelled, self.loss_units]


@dataclass(slots=True)
class Rollout:
    """Candidate `version` of rollout `id`, and the evidence against it."""

    id: str
    version: str
    digest: str
    first_ns: int
    loss_bound: float | None
    loss_scale: float | None  # of its own reference
    loss_bets: Bets
    difference_bets: Bets
    m_loss: Floats
    m_difference: Floats
    log_e_difference: Floats
    block_s: float
    stretch: Stretch = field(default_factory=lambda: Stretch.empty(1))  # the candidate's losses
    candidate: ArmTotals = field(default_factory=ArmTotals)
    stable: ArmTotals = field(default_factory=ArmTotals)
    stable_rows_alone: int = 0
    answers: Counts = field(default_factory=lambda: np.zeros((4, 0), dtype=np.int64))

    @classmethod
    def start(
        cls,
        id: str,
        version: str,
        digest: str,
        first_ns: int,
        *,
        bound: float | None,
        loss_scale: float | None,
        questions: int,
        settings: CoreSettings,
    ) -> "Rollout":
        loss_bets, differences = _bets(bound, settings)
        return cls(
            id,
            version,
            digest,
            first_ns,
            bound,
            loss_scale,
            loss_bets,
            differences,
            loss_bets.start(),
            differences.start(),
            np.zeros(differences.size),
            settings.block_s,
            answers=np.zeros((4, questions), dtype=np.int64),
        )

    def step(
        self, loss_units: int, labelled: int, differences: Floats, elapsed: int, length: int
    ) -> None:
        """Fold a block.

        loss_units, labelled: the candidate's losses, and their number.
        differences: candidate minus stable of (loss, failed share, share of answers
                     that are no number); NaN where one arm has nothing.
        elapsed:     scheduled blocks since the one before it.
        length:      how many are bet on as one. Not the differences: what both arms
                     have in common, correlated or not, is not in them.
        """
        units, rows = np.array([loss_units]), np.array([labelled * LOSS_UNITS])
        for ended in self.stretch.add(units, rows, elapsed, length):
            spent_s = ended.blocks * self.block_s
            self.m_loss = self.loss_bets.step(self.m_loss, ended.means, spent_s)
        bets = self.difference_bets
        self.m_difference = bets.step(self.m_difference, differences, elapsed * self.block_s)
        self.log_e_difference = self.log_e_difference + bets.gains(differences)

    def evidence(self, group: Group) -> float:
        if group is Group.CANDIDATE:
            return self.loss_bets.evidence(self.m_loss) if self.loss_bets.size else NOTHING
        return self.difference_bets.evidence(self.m_difference)

    def log_e_value(self) -> float:
        """log of the e-process "the candidate is no worse", since the rollout began."""
        return log_sum(self.log_e_difference + self.difference_bets.log_weight)

    def is_over(self) -> bool:
        if not self.stable_rows_alone:
            return False
        share = self.candidate.rows / max(self.candidate.rows + self.stable.rows, 1)
        return self.stable_rows_alone * share >= ROWS_MISSED * (1.0 - share)

    def add_answers(self, candidate: tuple[Counts, Counts], stable: tuple[Counts, Counts]) -> None:
        """Answers (yes, total) of both arms to the questions about inputs."""
        self.answers = self.answers + np.stack([*candidate, *stable])

    def differs(self, chosen: NDArray[np.bool_], features: int, settings: CoreSettings) -> bool:
        """Whether the arms' answers differ by more than tolerance and chance explain.

        chosen: (v,) the questions that are compared, each with a band of its own.
        """
        yes_c, all_c, yes_s, all_s = (row[chosen] for row in self.answers)
        families = max(features * 4, 1)
        bands = np.array(
            [
                share_error(int(c), families) + share_error(int(s), families)
                for c, s in zip(all_c, all_s, strict=True)
            ]
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.abs(yes_c / all_c - yes_s / all_s)
        return bool(np.any(apart > settings.tolerance + bands))

    def to_tree(self) -> Tree:
        return {
            "id": self.id,
            "version": self.version,
            "digest": self.digest,
            "first_ns": self.first_ns,
            "loss_bound": self.loss_bound,
            "loss_scale": self.loss_scale,
            "m_loss": self.m_loss,
            "m_difference": self.m_difference,
            "log_e_difference": self.log_e_difference,
            "stretch": self.stretch.to_tree(),
            "candidate": self.candidate.to_tree(),
            "stable": self.stable.to_tree(),
            "stable_rows_alone": self.stable_rows_alone,
            "answers": self.answers,
        }

    @classmethod
    def from_tree(cls, tree: Tree, settings: CoreSettings) -> "Rollout":
        loss_bets, differences = _bets(tree["loss_bound"], settings)
        return cls(
            tree["id"],
            tree["version"],
            tree["digest"],
            tree["first_ns"],
            tree["loss_bound"],
            tree["loss_scale"],
            loss_bets,
            differences,
            tree["m_loss"],
            tree["m_difference"],
            tree["log_e_difference"],
            settings.block_s,
            Stretch.from_tree(tree["stretch"]),
            ArmTotals(*tree["candidate"]),
            ArmTotals(*tree["stable"]),
            tree["stable_rows_alone"],
            tree["answers"],
        )


def _bets(bound: float | None, settings: CoreSettings) -> tuple[Bets, Bets]:
    """Detectors of the candidate's loss, and of its differences to stable."""
    bounds = np.array([1.0 if bound is None else bound])
    loss_bets = mean_bets(bounds, WEIGHTS[Group.CANDIDATE], settings.budget_s)
    weight = WEIGHTS[Group.COMPARISON]
    return loss_bets, difference_bets(
        settings.loss_tolerance, DIFFERENCES, weight, settings.budget_s
    )
