"""One stable version under watch: its reference, its detectors, its live window.

Laws:
- a version is judged by its own reference, from its own first block, or from
  the block at which the reference could be had;
- the live window is the last full window of blocks and the one under way, so
  it costs two histograms whatever its length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from monitor.core.bins import MISSING, NONFINITE, QUALITY_SLOTS, Counts, Floats
from monitor.core.block import LossSum, Part
from monitor.core.correlation import BlockMeans, Span
from monitor.core.counter import Counter
from monitor.core.distinct_values import LiveDistinct
from monitor.core.events import Events, Group, correlation_series, make_events
from monitor.core.evidence import NOTHING, Bets, carried, mean_bets, season_bets, share_bets
from monitor.core.multivariate.live_rows import LiveRows
from monitor.core.multivariate.standing import SpaceStanding, comparable, standings
from monitor.core.outliers.live import LiveOutliers
from monitor.core.outliers.scorer import Scorer
from monitor.core.predictions import LOSS_UNITS
from monitor.core.profile import PredictionKind, ReferenceProfile
from monitor.core.reference_error import mean_error
from monitor.core.repeated_rows import COUNTED, count_repeats, live_share, reference_share
from monitor.core.season import UNITS, Nulls
from monitor.core.segments import Segmenter
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.core.statistics.binned import Binned, Layout, Side, reference_counts
from monitor.core.stretch import Ended, Stretch, shares
from monitor.core.tree import Tree
from monitor.core.warm_up import Learned

LOOK_BLOCKS = 16  # between looks at how long traffic is correlated
SHARE_GROUPS = (Group.FEATURES, Group.QUALITY, Group.PREDICTIONS)
LOSS_GROUPS = (Group.LOSS, Group.ESTIMATED)  # whose sums stand behind those of the questions
ALONE = (*LOSS_GROUPS, Group.OUTLIERS)  # each has a sum of its own in a stretch


class Yardstick:
    """What is derived from a reference profile and the settings; immutable."""

    def __init__(
        self,
        profile: ReferenceProfile | None,
        settings: CoreSettings,
        learned: Learned | None = None,
        asked: ReferenceProfile | None = None,
        references: int = 1,
    ) -> None:
        """learned: whose profile it is, if it came from the version's own traffic.

        asked, references: of a reference that is renewed, see `make_events`.
        """
        self.learned, self._asked = learned, asked
        self.profile = profile or ReferenceProfile(rows=0, features=())
        if not settings.seasonal:
            self.profile = replace(self.profile, season=None)
        self.known = profile is not None
        self.counter = Counter(self.profile)
        watched = (*self.profile.features, *self.profile.predictions)
        self._layout = Layout.of(watched)
        self._reference = Side.of(self._layout, reference_counts(watched))
        self._rows_kept = settings.multivariate_rows
        self._spaces = comparable(self.profile)
        segments = self.profile.segments if self.profile.predictions else None
        self.segmenter = Segmenter(self.profile, segments) if segments else None
        outliers = self.profile.outliers
        self.scorer = Scorer(self.profile, outliers) if outliers else None
        self.events: Events = make_events(self.profile, settings.coarse_edges, asked, references)
        season, tolerance = self.profile.season, settings.tolerance
        self.hours = Nulls.of(self.profile, season, self.events, tolerance) if season else None
        self.bets = {group: self._bets(group, settings) for group in SHARE_GROUPS}
        self.loss_scale = self.profile.loss_scale
        self.loss_bound = loss_bound(profile, settings.loss_tolerance)
        bounds = np.array([1.0 if self.loss_bound is None else self.loss_bound])
        for group in LOSS_GROUPS:
            self.bets[group] = mean_bets(bounds, WEIGHTS[group], settings.budget_s)
        self.outlier_bound = outliers.share_max + settings.outlier_tolerance if outliers else 1.0
        outlier_bounds = np.array([self.outlier_bound])
        weight = WEIGHTS[Group.OUTLIERS]
        self.bets[Group.OUTLIERS] = mean_bets(outlier_bounds, weight, settings.budget_s)
        self.block_ns, self.block_s = settings.block_ns, settings.block_s
        self.independent = settings.independent_rows
        self.series = correlation_series(self.events)
        # Neighbours may share this much: a tolerance over the largest stake, 1 / bound.
        limits = tolerance * self._least_bounds(tolerance)[self.series]
        loss_limits = np.repeat(settings.loss_tolerance * bounds, len(LOSS_GROUPS))
        self.limits: Floats = np.concatenate(
            [limits, loss_limits, settings.outlier_tolerance * outlier_bounds]
        )

    def _bets(self, group: Group, settings: CoreSettings) -> Bets:
        members = self.events.group == group
        weight, budget_s = WEIGHTS[group], settings.budget_s
        if self.hours is not None:
            return season_bets(self.events, members, self.hours.least, weight, budget_s)
        return share_bets(self.events, members, settings.tolerance, weight, budget_s)

    def _least_bounds(self, tolerance: float) -> Floats:
        """Of each question the smaller bound of its two directions: (v,)."""
        if self.hours is not None:
            return np.minimum(*self.hours.least)
        shares = self.events.share
        room: Floats = np.minimum(shares, 1.0 - shares) + self.events.error + tolerance
        return room

    @property
    def watched_sums(self) -> int:
        """How many sums a stretch is of: the questions, the losses, outliers, a season's bounds."""
        size = self.events.size
        return size + len(ALONE) + (0 if self.hours is None else 2 * size)

    @property
    def watches_estimates(self) -> bool:
        """Whether there is a bound that an estimated loss could be above."""
        return self.bets[Group.ESTIMATED].size > 0 and self.profile.prediction is not None

    @property
    def probability_scale(self) -> float | None:
        """The error that costs all, of an answer that is a probability; None: it is a class."""
        spec = self.profile.prediction
        is_number = spec is not None and spec.kind is PredictionKind.NUMBER
        return self.loss_scale if is_number else None

    def usual(self, start_ns: int, end_ns: int) -> Floats | None:
        """As `broken_features` takes it, by the hours of that time; None without a season."""
        if self.hours is None:
            return None
        _, rise, _ = self.hours.between(start_ns, end_ns)
        found: Floats = rise[self.events.of_all].reshape(-1, len(QUALITY_SLOTS)) / UNITS
        return found

    def binned(self, live: Counts) -> Binned:
        """Features, then predictions, against the reference; live: (f + p, SLOTS)."""
        return Binned(self._layout, self._reference, Side.of(self._layout, live))

    def binned_of_asked(self, live: Counts) -> Binned:
        """As `binned`, against the profile that the questions are of."""
        layout, reference = self._of_asked
        return Binned(layout, reference, Side.of(layout, live))

    @cached_property
    def _of_asked(self) -> tuple[Layout, Side]:
        asked = self._asked or self.profile
        watched = (*asked.features, *asked.predictions)
        layout = Layout.of(watched)
        return layout, Side.of(layout, reference_counts(watched))

    def no_rows(self) -> LiveRows:
        """For the rows that are compared with the reference's."""
        return LiveRows.start(self._spaces, self._rows_kept)

    def no_segments(self) -> "Window":
        shape = self.segmenter.empty().shape if self.segmenter else (0,)
        return Window.empty(shape)

    def stored_rows(self, tree: Tree) -> LiveRows:
        return LiveRows.from_tree(tree, self._spaces, self._rows_kept)


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
    stretch: Stretch  # answers to the questions, the losses, outliers, and of a season its bounds
    means: BlockMeans  # of `Yardstick.series`, and last the losses and outliers
    span: Span  # what a stretch is now
    rows: int = 0
    labelled: int = 0
    loss_units: int = 0
    mismatched: int = 0  # rows whose tensors do not fit the reference
    withheld: tuple[str, ...] = ()  # features that the log's policy kept out of the last block
    sampled: LiveRows = field(default_factory=lambda: LiveRows(0))  # of the window's rows
    segments: Window = field(default_factory=lambda: Window.empty((0,)))  # of answers
    distinct: LiveDistinct = field(default_factory=LiveDistinct)
    repeats: Window = field(default_factory=lambda: Window.empty((COUNTED,)))
    outliers: LiveOutliers = field(default_factory=LiveOutliers)
    m: dict[Group, Floats] = field(default_factory=dict)

    @classmethod
    def start(cls, version: str, digest: str, since_ns: int, yardstick: Yardstick) -> "Stable":
        window = Window.empty(yardstick.counter.empty().shape)
        m = {group: bets.start() for group, bets in yardstick.bets.items()}
        means = BlockMeans.empty(yardstick.limits.size)
        return cls(
            version,
            digest,
            since_ns,
            since_ns,
            yardstick,
            window,
            Stretch.empty(yardstick.watched_sums),
            means,
            means.span(yardstick.limits, 1),
            sampled=yardstick.no_rows(),
            segments=yardstick.no_segments(),
            m=m,
        )

    @property
    def rests_on_ns(self) -> int:
        """Since when its evidence rests on records, those of its reference among them."""
        learned = self.yardstick.learned
        return self.judged_ns if learned is None else learned.since_ns

    def judged_by(self, yardstick: Yardstick, at_ns: int) -> "Stable":
        """The same version from `at_ns` on by its reference; evidence starts there."""
        fresh = Stable.start(self.version, self.digest, self.since_ns, yardstick)
        fresh.judged_ns = at_ns
        fresh.rows, fresh.mismatched = self.rows, self.mismatched
        fresh.labelled, fresh.loss_units = self.labelled, self.loss_units
        return fresh

    def renewed(self, yardstick: Yardstick) -> "Stable":
        """The same version by the next of its references, which asks the same questions.

        Evidence goes on: what a block is held against was known before the block, so the
        e-detectors keep their law. It must be no part of a stretch that is under way.
        """
        bets = self.yardstick.bets
        m = {group: carried(bets[group], self.m[group], yardstick.bets[group]) for group in self.m}
        return replace(self, yardstick=yardstick, m=m)

    def add_rows(
        self, half: int, parts: Sequence[Part], counts: Counts, start_ns: int
    ) -> tuple[int, int]:
        """A block's rows, for what histograms do not hold; half: its window; counts: of them.

        Returns: outliers, and the rows that they are of.
        """
        counter, segmenter = self.yardstick.counter, self.yardstick.segmenter
        self.sampled.move_to(half)
        self.sampled.add(parts, counter)
        self.distinct.move_to(half)
        self.distinct.add(parts, counts, counter)
        self.repeats.move_to(half)
        self.repeats.current += count_repeats(parts, counter)
        self.segments.move_to(half)
        if segmenter is not None:
            self.segments.current += segmenter.count(parts, counter)
        self.outliers.move_to(half, start_ns)
        if self.yardstick.scorer is None:
            return 0, 0
        _, looked_at, found = self.outliers.add(parts, counter, self.yardstick.scorer).tolist()
        return found, looked_at

    def repeated(self) -> tuple[float | None, float | None]:
        """Shares of rows that repeat one of their block: now, and by the reference."""
        counted = self.repeats.live
        return live_share(counted), reference_share(self.yardstick.profile.multiplicities, counted)

    def spaces(self) -> list[SpaceStanding]:
        """What can be said of features together, and why the rest cannot."""
        yardstick = self.yardstick
        return standings(yardstick.profile, self.sampled, learned=yardstick.learned is not None)

    def step(
        self,
        counts: Counts,
        loss_units: int,
        labelled: int,
        elapsed: int,
        start_ns: int = 0,
        estimated: LossSum | None = None,
        outliers: tuple[int, int] = (0, 0),
    ) -> None:
        """Fold a block: its histograms (none: zeros), its losses and their number.

        elapsed:   scheduled blocks since the one before it.
        start_ns:  of the block, which a season asks for.
        estimated: the loss of its rows without their labels; None: it is withheld, and
                   evidence of it is void. (Less evidence keeps the law.)
        outliers:  as `add_rows` has them.
        """
        yardstick, size = self.yardstick, self.yardstick.events.size
        yes, totals = yardstick.events.answers(counts)
        unlabelled, (unlike, looked_at) = estimated or LossSum(), outliers
        yes = np.append(yes, [loss_units, unlabelled.units, unlike])
        of_losses = [labelled * LOSS_UNITS, unlabelled.rows * LOSS_UNITS]
        totals = np.append(totals, [*of_losses, looked_at])
        seen, means = self.means.blocks, shares(yes, totals)
        has_rows = totals.any()
        if yardstick.hours is not None:
            end_ns = start_ns + yardstick.block_ns
            share, rise, fall = yardstick.hours.between(start_ns, end_ns)
            # What moves with the hour is known, so it is no correlation.
            means = means - np.append(share, np.zeros(len(ALONE)))
            rows = totals[:size]
            yes = np.concatenate([yes, rows * rise, rows * fall])
            totals = np.concatenate([totals, rows * UNITS, rows * UNITS])
        if has_rows:
            self.means.add(means[[*yardstick.series, *range(size, size + len(ALONE))]])
        for ended in self.stretch.add(yes, totals, elapsed, self.span.blocks):
            self._bet(ended)
        if estimated is None:
            self.m[Group.ESTIMATED] = yardstick.bets[Group.ESTIMATED].start()
        if self.means.blocks // LOOK_BLOCKS != seen // LOOK_BLOCKS:
            self._lengthen()

    def _bet(self, ended: Ended) -> None:
        yardstick, size = self.yardstick, self.yardstick.events.size
        means, spent_s = ended.means, ended.blocks * yardstick.block_s
        season = means[size + len(ALONE) :].reshape(2, -1)
        for group, always in yardstick.bets.items():
            is_alone = group in ALONE
            at = slice(size + ALONE.index(group), None) if is_alone else slice(0, size)
            bets = always
            if yardstick.hours is not None and not is_alone:
                bets = always.against(*season)
            if yardstick.independent:
                # Losses are sums of 2^-30, questions of 1.
                unit = LOSS_UNITS if group in LOSS_GROUPS else 1
                yes, totals = ended.yes[at] / unit, ended.totals[at] / unit
                self.m[group] = bets.step_rows(self.m[group], yes, totals, spent_s)
            else:
                self.m[group] = bets.step(self.m[group], means[at], spent_s)

    def _lengthen(self) -> None:
        """Make blocks as long as traffic is correlated, from the next block on.

        Evidence from blocks that were too short is void: it was no evidence.
        """
        span = self.means.span(self.yardstick.limits, self.span.blocks)
        if self.yardstick.independent and span.blocks > 1:
            span = Span(1, "rows depend on each other, and monitor.dependence says they do not")
        if span.blocks > self.span.blocks:
            self.m = {group: bets.start() for group, bets in self.yardstick.bets.items()}
        self.span = span

    def no_number(self, counts: Counts) -> float:
        """The share of answers that are NaN or infinite; NaN where none is watched.

        By the last column that answers are watched by: the top score, if there is one.
        """
        answers = counts[len(self.yardstick.profile.features) :]
        total = int(answers[-1].sum()) if len(answers) else 0
        return int(answers[-1, [MISSING, NONFINITE]].sum()) / total if total else float("nan")

    def evidence(self, group: Group) -> float:
        bets = self.yardstick.bets[group]
        return bets.evidence(self.m[group]) if bets.size else NOTHING

    def feature_evidence(self) -> Floats:
        """log evidence of each input feature on its own: (f,)."""
        bets = self.yardstick.bets[Group.FEATURES]
        total = len(self.yardstick.profile.features)
        if not bets.size:
            return np.full(total, NOTHING)
        feature = self.yardstick.events.feature[bets.event]
        own = np.bincount(feature, self.m[Group.FEATURES] * bets.weight, minlength=total)
        with np.errstate(divide="ignore"):
            return np.log(own * np.unique(feature).size)

    def to_tree(self) -> Tree:
        return {
            "version": self.version,
            "digest": self.digest,
            "since_ns": self.since_ns,
            "judged_ns": self.judged_ns,
            "known": self.yardstick.known,
            "learned": self.yardstick.learned is not None,
            "window": self.window.to_tree(),
            "stretch": self.stretch.to_tree(),
            "means": self.means.to_tree(),
            "span": [self.span.blocks, self.span.reason],
            "rows": self.rows,
            "labelled": self.labelled,
            "loss_units": self.loss_units,
            "mismatched": self.mismatched,
            "withheld": list(self.withheld),
            "sampled": self.sampled.to_tree(),
            "segments": self.segments.to_tree(),
            "distinct": self.distinct.to_tree(),
            "repeats": self.repeats.to_tree(),
            "outliers": self.outliers.to_tree(),
            "m": {group.name: self.m[group] for group in sorted(self.m)},
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
            Stretch.from_tree(tree["stretch"]),
            BlockMeans.from_tree(tree["means"]),
            Span(*tree["span"]),
            tree["rows"],
            tree["labelled"],
            tree["loss_units"],
            tree["mismatched"],
            tuple(tree.get("withheld", ())),
            yardstick.stored_rows(tree["sampled"]),
            Window.from_tree(tree["segments"]),
            LiveDistinct.from_tree(tree["distinct"]),
            Window.from_tree(tree["repeats"]),
            LiveOutliers.from_tree(tree["outliers"]),
            {Group[name]: values for name, values in tree["m"].items()},
        )
