"""What the pure core needs to know of the settings, in the units it computes in."""

from dataclasses import dataclass
from math import log

from monitor.core.events import Group
from monitor.core.slice import Slice

ANY_MODEL = "*"

# How the budget of one model is split; the parts sum to 1, so that the weighted
# mean of everything keeps the promise of one detector. Loss weighs most because
# it says that something is wrong, not only different. The estimated loss is a function
# of the answers, so its part is half of theirs.
WEIGHTS: dict[Group, float] = {
    Group.FEATURES: 0.23,
    Group.QUALITY: 0.05,
    Group.PREDICTIONS: 0.05,
    Group.LOSS: 0.25,
    Group.CANDIDATE: 0.15,
    Group.COMPARISON: 0.20,
    Group.ESTIMATED: 0.05,
    Group.OUTLIERS: 0.02,  # it informs, and finds in time what is large
}


@dataclass(frozen=True, slots=True)
class WarmUpSettings:
    """What a version's own traffic must bring before it is a reference."""

    rows: int
    span_ns: int  # from the first block on
    skip_ns: int  # of the version's first traffic, which may be a rollout's or a warm-up's
    continuous: bool = False  # numbers are ranges, however few values they have
    always: bool = False  # also where a reference was pushed


@dataclass(frozen=True, slots=True)
class RollingSettings:
    """Which models are judged by their own recent traffic, and by how much of it."""

    models: tuple[str, ...]  # or ANY_MODEL
    parts: int  # of guard_ns each, which a reference is of at most
    guard_ns: int  # between a reference and what it judges, and from one renewal to the next
    warm_up: WarmUpSettings  # what there must be before the first

    @property
    def span_ns(self) -> int:
        return self.parts * self.guard_ns


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
    verify_ns: int  # for so long the effect of a rollback is looked for
    recent_change_ns: int  # a stable version younger than this is under suspicion itself
    independent_rows: bool = False  # bets are on rows, not on block means
    warm_up: WarmUpSettings | None = None  # None: without a pushed reference there is none
    rolling: RollingSettings | None = None  # None: no reference is renewed
    seasonal: bool = True  # by the hour of the week, where the reference knows its rows' times
    multivariate_rows: int = 0  # of a live window, compared as rows; 0: none are kept
    silence_ns: int = 60 * 10**9  # on Kafka: who is silent for so long holds nothing back
    outlier_tolerance: float = 0.005  # by so much the share of outliers may rise
    quantile_level: float = 0.0  # of numbers' quantile loss; 0: it is not measured
    # By model, of which ANY_MODEL stands for those without slices of their own.
    slices: tuple[tuple[str, tuple[Slice, ...]], ...] = ()

    def rolling_of(self, model: str) -> RollingSettings | None:
        rolling = self.rolling
        return rolling if rolling and {model, ANY_MODEL} & set(rolling.models) else None

    def slices_of(self, model: str) -> tuple[Slice, ...]:
        by_model = dict(self.slices)
        return by_model.get(model, by_model.get(ANY_MODEL, ()))

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
