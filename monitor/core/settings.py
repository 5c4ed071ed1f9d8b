"""What the pure core needs to know of the settings, in the units it computes in."""

from dataclasses import dataclass
from math import log

from monitor.core.events import Group

# How the budget of one model is split; the parts sum to 1, so that the weighted
# mean of everything keeps the promise of one detector. Loss weighs most because
# it says that something is wrong, not only different.
WEIGHTS: dict[Group, float] = {
    Group.FEATURES: 0.25,
    Group.QUALITY: 0.05,
    Group.PREDICTIONS: 0.10,
    Group.LOSS: 0.25,
    Group.CANDIDATE: 0.15,
    Group.COMPARISON: 0.20,
}


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Times in ns or s as named; tolerances are shares of rows."""

    block_ns: int
    lateness_ns: int
    tolerance: float
    loss_tolerance: float
    budget_s: float
    warn_budget_s: float
    rows_min: int
    loss_max_share: float
    coarse_edges: int
    window_blocks: int  # live distributions are shown over one to two windows
    recent_change_ns: int  # a stable version younger than this is under suspicion itself
    silence_ns: int = 60 * 10**9  # on Kafka: who is silent for so long holds nothing back

    @property
    def block_s(self) -> float:
        return self.block_ns / 1e9

    @property
    def page(self) -> float:
        """log of the evidence that pages."""
        return log(self.budget_s)

    @property
    def warn(self) -> float:
        """log of the evidence that warns; of a group: that it takes part."""
        return log(self.warn_budget_s)
