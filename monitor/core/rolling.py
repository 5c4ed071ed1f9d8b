"""A reference that is renewed: the version's own traffic of the last weeks.

For models whose inputs drift slowly and rightly, where the question is whether they changed
against the last weeks. Time is cut into parts as long as the guard, from 1970 on; a reference
is of a few of them, and between it and what it judges there is at least one.

Laws:
- a renewal is a function of the blocks alone: it comes with the first block of a part, or,
  where blocks are bet on as one, when the next of those begins; never in the middle of one;
- the bins and the questions stay; so parts add up, and evidence goes on over a renewal: what
  a block is held against is older than the block;
- while a verdict stands, nothing is counted and nothing renewed; of warnings, while one is for
  what a reference is of. What was counted since the quiet before a verdict on the stable
  version's data is thrown away;
- the loss is not renewed: a model that slowly gets worse is no slow drift of its inputs;
- how many independent rows a reference is worth follows from how its blocks vary and from
  how its parts do, and its error from that. The errors of all references that follow each
  other within the budget's time hold together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.block import LossSum, Outcome, Part
from monitor.core.correlation import BLOCKS_MIN
from monitor.core.distinct_values import sketch
from monitor.core.judge import Kind
from monitor.core.profile import FeatureProfile, ReferenceProfile
from monitor.core.settings import CoreSettings, RollingSettings
from monitor.core.stretch import shares
from monitor.core.tree import Tree
from monitor.core.warm_up import SHARE_MIN, Gathered, Learned, effective

# What says that the stable version's own data or loss is not as it was.
OF_STABLE = (Kind.ANNOTATE, Kind.UPSTREAM, Kind.RETRAIN, Kind.RECOVERING, Kind.PAGE)
GUARD_PARTS = 1  # whole ones between a reference and what it judges


@dataclass(slots=True)
class RecentPart:
    """What was counted in one part of time; index: which one, since 1970. Mutable."""

    index: int
    from_ns: int
    to_ns: int
    held: Gathered

    def to_tree(self) -> Tree:
        return [self.index, self.from_ns, self.to_ns, self.held.amounts()]

    @classmethod
    def from_tree(cls, tree: Tree, base: Gathered) -> "RecentPart":
        index, from_ns, to_ns, amounts = tree
        return cls(index, from_ns, to_ns, base.fresh().filled(amounts))


def bins_of(pushed: ReferenceProfile) -> ReferenceProfile:
    """A pushed reference as far as others can be of its bins."""
    return replace(pushed, samples=(), segments=None, multiplicities=(), season=None)


class Rolling:
    """One version's. Mutable.

    base:       its bins, which hold the reference that was pushed, if `is_pushed`.
    learned:    the reference that it is judged by.
    parts:      oldest first; the last one may be under way.
    index:      of the part of time that was looked at last.
    is_due:     a renewal waits for blocks that are bet on as one to end.
    resumed_ns: since when rows are counted; None: they are not, while a verdict stands.
    """

    def __init__(
        self,
        base: Gathered,
        learned: Learned,
        settings: CoreSettings,
        rolling: RollingSettings,
        *,
        is_pushed: bool,
    ) -> None:
        self._settings, self._rolling = settings, rolling
        self.base, self.is_pushed = base, is_pushed
        self.learned, self._loss = learned, learned.profile.loss
        self.parts: list[RecentPart] = []
        self.index = learned.to_ns // rolling.guard_ns
        self.is_due = False
        self.resumed_ns: int | None = learned.to_ns

    @classmethod
    def start(
        cls,
        base: Gathered,
        learned: Learned,
        settings: CoreSettings,
        rolling: RollingSettings,
        *,
        is_pushed: bool,
    ) -> "Rolling":
        """From a warm-up: its bins, and the reference that came of it."""
        if base.bins.loss is not None:  # what was promised with the model goes first
            profile = replace(learned.profile, loss=base.bins.loss)
            learned = replace(learned, data=profile.to_bytes())
        return cls(base.fresh(), learned, settings, rolling, is_pushed=is_pushed)

    @property
    def is_frozen(self) -> bool:
        return self.resumed_ns is None

    @property
    def next_ns(self) -> int:
        """When the reference is renewed next, if nothing is in the way."""
        return (self.index + (0 if self.is_due else 1)) * self._rolling.guard_ns

    def add(
        self,
        start_ns: int,
        counts: Counts,
        parts: Sequence[Part],
        outcomes: Iterable[Outcome],
        standing: Kind,
        quiet_ns: int,
        *,
        held: bool,
    ) -> None:
        """Take the version's rows of a block and its labels, once the block is judged.

        counts:   of those rows; standing: the verdict after the block.
        quiet_ns: the end of the last block with no more evidence than chance brings.
        held:     whether the verdict is in the way.
        """
        if held:
            self.resumed_ns = None
            if standing in OF_STABLE:
                self.parts = [part for part in self.parts if part.to_ns <= quiet_ns]
            return
        resumed_ns = self.resumed_ns = start_ns if self.resumed_ns is None else self.resumed_ns
        index = start_ns // self._rolling.guard_ns
        if not self.parts or self.parts[-1].index != index:
            kept = self._rolling.parts + GUARD_PARTS
            self.parts = [
                *self.parts[-kept:],
                RecentPart(index, start_ns, start_ns, self.base.fresh()),
            ]
        part = self.parts[-1]
        into = part.held
        into.distinct = sketch(into.distinct, parts, counts, into.counter)
        of_now = [item for item in outcomes if item.predicted_ns >= resumed_ns]
        losses = into.losses_of(of_now) if self._loss is None else LossSum()
        into.add(counts, int(counts.sum(axis=1).max(initial=0)), losses)
        part.to_ns = start_ns + self._settings.block_ns

    def renew(self, start_ns: int, *, in_stretch: bool) -> bool:
        """Before a block is judged: whether it is judged by another reference from here on.

        in_stretch: it will be bet on together with blocks before it.
        """
        index = start_ns // self._rolling.guard_ns
        if index > self.index:
            self.index, self.is_due = index, True
        if not self.is_due or in_stretch:
            return False
        self.is_due = False
        found = None if self.is_frozen else self._renewed()
        if found is None:
            return False
        self.learned, self._loss = found, found.profile.loss
        return True

    def _renewed(self) -> Learned | None:
        """The newest reference that there is; None: not enough, or none but the one in use."""
        last = self.index - 1 - GUARD_PARTS
        chosen = [part for part in self.parts if part.index <= last][-self._rolling.parts :]
        if not chosen or chosen[-1].to_ns <= self.learned.to_ns:
            return None
        whole = self.base.fresh()
        for part in chosen:
            whole.take(part.held)
        needs = self._rolling.warm_up
        spent_ns = sum(part.to_ns - part.from_ns for part in chosen)
        # A span that is shorter than a warm-up's would never be enough of one.
        span_ns = min(needs.span_ns, self._rolling.span_ns // 2)
        if whole.rows < needs.rows or whole.blocks < BLOCKS_MIN or spent_ns < span_ns:
            return None
        profile = whole.profile(self._settings.rows_min)
        worth = _worth_of_parts(self.base, [part.held for part in chosen])
        inputs = len(profile.features)
        profile = replace(
            profile,
            features=_lowered(profile.features, worth[:inputs]),
            predictions=_lowered(profile.predictions, worth[inputs:]),
            loss=self._loss or profile.loss,
        )
        since_ns = self.learned.since_ns
        return Learned(profile.to_bytes(), since_ns, chosen[0].from_ns, chosen[-1].to_ns)

    def to_tree(self) -> Tree:
        return {
            "base": self.base.bins_tree(),
            "is_pushed": self.is_pushed,
            "learned": self.learned.to_tree(),
            "parts": [part.to_tree() for part in self.parts],
            "at": [self.index, self.is_due, self.resumed_ns],
        }

    @classmethod
    def from_tree(cls, tree: Tree, settings: CoreSettings, rolling: RollingSettings) -> "Rolling":
        base = Gathered(tree["base"].tobytes(), settings.coarse_edges)
        learned = Learned.from_tree(tree["learned"])
        found = cls(base, learned, settings, rolling, is_pushed=tree["is_pushed"])
        found.parts = [RecentPart.from_tree(item, base) for item in tree["parts"]]
        found.index, found.is_due, found.resumed_ns = tree["at"]
        return found


def references_within(budget_s: float, rolling: RollingSettings) -> int:
    """How many references follow each other in the time that the promise is about."""
    return max(1, ceil(budget_s * 1e9 / rolling.guard_ns))


def _worth_of_parts(base: Gathered, parts: Sequence[Gathered]) -> Floats:
    """Of each feature, how many independent rows one is worth by how the parts differ: (f,).

    By neighbours, so that a slow drift over all of them counts by its step alone.
    """
    found = np.ones(len(base.counts))
    if len(parts) < 2:
        return found
    answers = [base.events.answers(part.counts) for part in parts]
    yes, totals = (np.array([item[side] for item in answers]) for side in (0, 1))
    apart = np.nan_to_num(np.diff(shares(yes, totals), axis=0)) ** 2
    varied = apart.mean(axis=0) / 2.0
    for series in base.series.tolist():
        rows, said = int(totals[:, series].sum()), int(yes[:, series].sum())
        if rows and SHARE_MIN * rows <= said <= (1.0 - SHARE_MIN) * rows:
            many = rows**2 / int((totals[:, series] ** 2).sum())
            worth = effective(rows, many, said / rows, float(varied[series])) / rows
            feature = base.events.feature[series]
            found[feature] = min(found[feature], worth)
    return found


def _lowered(features: tuple[FeatureProfile, ...], worth: Floats) -> tuple[FeatureProfile, ...]:
    return tuple(
        replace(feature, effective=min(feature.effective, float(limit)))
        for feature, limit in zip(features, worth, strict=True)
    )
