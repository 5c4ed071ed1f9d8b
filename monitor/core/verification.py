"""Whether a rollback helped: what stable does afterwards, held against what the candidate did.

It begins when a rollout is over whose candidate was called worse, whoever ended it, and
looks at rows that were predicted since. Two plain e-processes over block means, each with
an error of at most ALPHA whenever one looks (Ville): that stable does no worse than the
candidate did, and that it does no better. What the candidate did is known up to its own
error, which is in both bounds. Proof of either ends it; so does another version, another
rollout, or time.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import log

import numpy as np

from monitor.core.bins import Floats
from monitor.core.block import NO_LOSS, LossSum
from monitor.core.evidence import Bets, log_sum, mean_bets
from monitor.core.reference_error import share_error
from monitor.core.rollout import ArmTotals, Rollout
from monitor.core.tree import Tree

ALPHA = 0.01
MEASURES = ("loss", "share of failures")


class Outcome(StrEnum):
    OPEN = "open"
    CONFIRMED = "confirmed"  # stable does better than the candidate did
    WORSE = "worse"  # stable does worse than the candidate did
    UNDECIDED = "undecided"


@dataclass(slots=True)
class Verification:
    """Mutable; one rollback."""

    rollout: str
    stable_digest: str
    since_ns: int
    until_ns: int
    tolerance: float
    before: ArmTotals  # of the candidate, during its rollout
    against: ArmTotals  # of stable, on the same traffic
    after: ArmTotals = field(default_factory=ArmTotals)  # of stable since
    log_e_worse: Floats = field(default_factory=lambda: np.zeros(0))
    log_e_better: Floats = field(default_factory=lambda: np.zeros(0))
    outcome: Outcome = Outcome.OPEN
    _worse: Bets = field(init=False)
    _better: Bets = field(init=False)

    def __post_init__(self) -> None:
        found, error = _means(self.before), _errors(self.before)
        self._worse = mean_bets(found + error + self.tolerance, 1.0, 1.0)
        # Only what the candidate did worse can have been mended.
        was_worse = found - _means(self.against) > self.tolerance
        self._better = mean_bets(np.where(was_worse, 1.0 - (found - error), 1.0), 1.0, 1.0)
        if not self.log_e_worse.size:
            self.log_e_worse = np.zeros(self._worse.size)
        if not self.log_e_better.size:
            self.log_e_better = np.zeros(self._better.size)

    @classmethod
    def begin(
        cls, rollout: Rollout, stable_digest: str, since_ns: int, window_ns: int, tolerance: float
    ) -> "Verification":
        until_ns = since_ns + window_ns
        totals = (rollout.candidate, rollout.stable)
        return cls(rollout.id, stable_digest, since_ns, until_ns, tolerance, *totals)

    @property
    def is_open(self) -> bool:
        return self.outcome is Outcome.OPEN

    def fold(self, rows: int, failed: int, losses: LossSum, end_ns: int) -> None:
        """A block of stable alone.

        losses: of rows that were predicted since. end_ns: of the block.
        """
        self.after.rows += rows
        self.after.failed += failed
        self.after.labelled += losses.rows
        self.after.loss_units += losses.units
        means = np.array([losses.mean, failed / rows if rows else NO_LOSS])
        self.log_e_worse = self.log_e_worse + self._worse.gains(means)
        self.log_e_better = self.log_e_better + self._better.gains(1.0 - means)
        if _is_proven(self.log_e_worse, self._worse):
            self.outcome = Outcome.WORSE
        elif _is_proven(self.log_e_better, self._better):
            self.outcome = Outcome.CONFIRMED
        elif end_ns >= self.until_ns:
            self.outcome = Outcome.UNDECIDED

    def give_up(self) -> None:
        """What serves now is something else."""
        if self.is_open:
            self.outcome = Outcome.UNDECIDED

    def in_words(self) -> str:
        """What was found, with its numbers."""
        parts = []
        known = (*_means(self.before), *_means(self.after))
        counts = (self.before.labelled, self.before.rows, self.after.labelled, self.after.rows)
        for index, name in enumerate(MEASURES):
            then, now = (index, index + len(MEASURES))
            if counts[then] and counts[now]:
                parts.append(
                    f"{name} {known[now]:.4f} over {counts[now]} rows, where the candidate's "
                    f"was {known[then]:.4f} over {counts[then]}"
                )
        return "; ".join(parts) or "nothing to compare"

    def to_tree(self) -> Tree:
        return {
            "rollout": self.rollout,
            "stable_digest": self.stable_digest,
            "since_ns": self.since_ns,
            "until_ns": self.until_ns,
            "tolerance": self.tolerance,
            "before": self.before.to_tree(),
            "against": self.against.to_tree(),
            "after": self.after.to_tree(),
            "log_e_worse": self.log_e_worse,
            "log_e_better": self.log_e_better,
            "outcome": self.outcome.value,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "Verification":
        totals = {name: ArmTotals(*tree[name]) for name in ("before", "against", "after")}
        return cls(**{**tree, **totals, "outcome": Outcome(tree["outcome"])})


def _means(totals: ArmTotals) -> Floats:
    """(2,) of MEASURES; NaN where nothing is known."""
    loss = LossSum(totals.labelled, totals.loss_units).mean
    return np.array([loss, totals.failed / totals.rows if totals.rows else NO_LOSS])


def _errors(totals: ArmTotals) -> Floats:
    alpha = ALPHA / len(MEASURES)
    return np.array([share_error(n, 1, alpha) for n in (totals.labelled, totals.rows)])


def _is_proven(log_e: Floats, bets: Bets) -> bool:
    return bets.size > 0 and log_sum(log_e + bets.log_weight) >= log(1.0 / ALPHA)
