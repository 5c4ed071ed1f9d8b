"""One stable version under watch: its reference, its detectors, its live window.

Laws:
- a version is judged by its own reference, from its own first block, or from
  the block at which the reference could be had;
- the live window is the last full window of blocks and the one under way, so
  it costs two histograms whatever its length.
"""

from dataclasses import dataclass, field

import numpy as np

from monitor.core.bins import MISSING, NONFINITE, Counts, Floats
from monitor.core.counter import Counter
from monitor.core.events import Events, Group, make_events
from monitor.core.evidence import NOTHING, Bets, mean_bets, share_bets
from monitor.core.profile import ReferenceProfile
from monitor.core.reference_error import mean_error
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.core.statistics.binned import Binned, Layout, Side, reference_counts
from monitor.core.tree import Tree

SHARE_GROUPS = (Group.FEATURES, Group.QUALITY, Group.PREDICTIONS)


class Yardstick:
    """What is derived from a reference profile and the settings; immutable."""

    def __init__(self, profile: ReferenceProfile | None, settings: CoreSettings) -> None:
        self.profile = profile or ReferenceProfile(rows=0, features=())
        self.known = profile is not None
        self.counter = Counter(self.profile)
        watched = (*self.profile.features, *self.profile.predictions)
        self._layout = Layout.of(watched)
        self._reference = Side.of(self._layout, reference_counts(watched))
        self.events: Events = make_events(self.profile, settings.coarse_edges)
        self.bets: dict[Group, Bets] = {
            group: share_bets(
                self.events,
                self.events.group == group,
                settings.tolerance,
                WEIGHTS[group],
                settings.budget_s,
            )
            for group in SHARE_GROUPS
        }
        self.loss_scale = self.profile.loss_scale
        self.loss_bound = loss_bound(profile, settings.loss_tolerance)
        bounds = np.array([1.0 if self.loss_bound is None else self.loss_bound])
        self.bets[Group.LOSS] = mean_bets(bounds, WEIGHTS[Group.LOSS], settings.budget_s)

    def binned(self, live: Counts) -> Binned:
        """Features, then predictions, against the reference; live: (f + p, SLOTS)."""
        return Binned(self._layout, self._reference, Side.of(self._layout, live))


def loss_bound(
    profile: ReferenceProfile | None, tolerance: float, scale: float | None = None
) -> float | None:
    """The mean loss that a version may have by its own reference, its error included.

    scale: of the losses that it will be held against, if not the reference's own.
    """
    if profile is None or profile.loss is None:
        return None
    loss = profile.loss
    # min(e / b, 1) is at most max(a / b, 1) min(e / a, 1), for every error e.
    stretch = 1.0 if scale is None else max(loss.scale / scale, 1.0)
    return stretch * (loss.mean + mean_error(loss.standard_error, loss.rows)) + tolerance


@dataclass(slots=True)
class Window:
    """Counts of the last full window and of the one under way."""

    half: int
    previous: Counts
    current: Counts

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Window":
        return cls(-1, np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64))

    def move_to(self, half: int) -> None:
        """Start window `half` if it is a later one."""
        if half <= self.half:
            return
        follows = half == self.half + 1
        self.previous = self.current if follows else np.zeros_like(self.current)
        self.current = np.zeros_like(self.current)
        self.half = half

    @property
    def live(self) -> Counts:
        return self.previous + self.current

    def to_tree(self) -> Tree:
        return {"half": self.half, "previous": self.previous, "current": self.current}

    @classmethod
    def from_tree(cls, tree: Tree) -> "Window":
        return cls(tree["half"], tree["previous"], tree["current"])


@dataclass(slots=True)
class Stable:
    """The stable version and the evidence against it."""

    version: str
    digest: str
    since_ns: int
    judged_ns: int  # since then by this yardstick
    yardstick: Yardstick
    window: Window
    rows: int = 0
    labelled: int = 0
    loss_units: int = 0
    mismatched: int = 0  # rows whose tensors do not fit the reference
    withheld: tuple[str, ...] = ()  # features that the log's policy kept out of the last block
    log_m: dict[Group, Floats] = field(default_factory=dict)

    @classmethod
    def start(cls, version: str, digest: str, since_ns: int, yardstick: Yardstick) -> "Stable":
        window = Window.empty(yardstick.counter.empty().shape)
        log_m = {group: bets.start() for group, bets in yardstick.bets.items()}
        return cls(version, digest, since_ns, since_ns, yardstick, window, log_m=log_m)

    def judged_by(self, yardstick: Yardstick, at_ns: int) -> "Stable":
        """The same version from `at_ns` on by its reference; evidence starts there."""
        fresh = Stable.start(self.version, self.digest, self.since_ns, yardstick)
        fresh.judged_ns = at_ns
        fresh.rows, fresh.mismatched = self.rows, self.mismatched
        fresh.labelled, fresh.loss_units = self.labelled, self.loss_units
        return fresh

    def step(self, counts: Counts, loss: float, elapsed_s: float) -> None:
        """Fold a block: its histograms (none: zeros) and mean loss (none: NaN)."""
        yes, totals = self.yardstick.events.answers(counts)
        with np.errstate(invalid="ignore"):
            shares = yes / np.where(totals > 0, totals, np.nan)
        for group, bets in self.yardstick.bets.items():
            means = np.array([loss]) if group is Group.LOSS else shares
            self.log_m[group] = bets.step(self.log_m[group], means, elapsed_s)

    def no_number(self, counts: Counts) -> float:
        """The share of answers that are NaN or infinite; NaN where none is watched.

        By the last column that answers are watched by: the top score, if there is one.
        """
        answers = counts[len(self.yardstick.profile.features) :]
        total = int(answers[-1].sum()) if len(answers) else 0
        return int(answers[-1, [MISSING, NONFINITE]].sum()) / total if total else float("nan")

    def evidence(self, group: Group) -> float:
        bets = self.yardstick.bets[group]
        return bets.evidence(self.log_m[group]) if bets.size else NOTHING

    def feature_evidence(self) -> Floats:
        """log evidence of each input feature on its own: (f,)."""
        bets = self.yardstick.bets[Group.FEATURES]
        total = len(self.yardstick.profile.features)
        own = np.full(total, NOTHING)
        if bets.size:
            feature = self.yardstick.events.feature[bets.event]
            weighted = self.log_m[Group.FEATURES] + bets.log_weight
            np.logaddexp.at(own, feature, weighted)
            own += np.log(np.unique(feature).size)
        return own

    def to_tree(self) -> Tree:
        return {
            "version": self.version,
            "digest": self.digest,
            "since_ns": self.since_ns,
            "judged_ns": self.judged_ns,
            "known": self.yardstick.known,
            "window": self.window.to_tree(),
            "rows": self.rows,
            "labelled": self.labelled,
            "loss_units": self.loss_units,
            "mismatched": self.mismatched,
            "withheld": list(self.withheld),
            "log_m": {group.name: self.log_m[group] for group in sorted(self.log_m)},
        }

    @classmethod
    def from_tree(cls, tree: Tree, yardstick: Yardstick) -> "Stable":
        return cls(
            tree["version"],
            tree["digest"],
            tree["since_ns"],
            tree["judged_ns"],
            yardstick,
            Window.from_tree(tree["window"]),
            tree["rows"],
            tree["labelled"],
            tree["loss_units"],
            tree["mismatched"],
            tuple(tree.get("withheld", ())),
            {Group[name]: values for name, values in tree["log_m"].items()},
        )
