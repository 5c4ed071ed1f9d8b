"""A version's first traffic becomes its reference, where nobody pushed one.

In the first fifth of the time bins are cut (`monitor.core.learned_bins`); in the rest
they are filled, and what is in them then is the reference, in the form of a pushed one.

Laws:
- it is a function of the version's blocks alone: no clock, no chance;
- its rows are no independent sample: sessions, retries and slow swings are in it. How
  many independent rows they are worth follows from how the means of its blocks vary, and
  the reference's error, hence the tolerance, from that. Where its level moved by more
  than that explains, the promise is not covered;
- what moved while it was made is in it, and is no drift afterwards.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from monitor.core.bins import UNSEEN, Counts, Floats, ordered_counts
from monitor.core.block import LossSum, Outcome, Part
from monitor.core.correlation import BLOCKS_MIN, SPARE, BlockMeans
from monitor.core.counter import Counter
from monitor.core.distinct_values import (
    NOTHING,
    Sketches,
    sketch,
    sketches_from_tree,
    sketches_to_tree,
    with_distinct,
)
from monitor.core.events import correlation_series, make_events
from monitor.core.learned_bins import SAMPLE_ROWS, LearnedBins
from monitor.core.predictions import loss_units
from monitor.core.profile import FeatureProfile, LossReference, ReferenceProfile
from monitor.core.settings import CoreSettings, WarmUpSettings
from monitor.core.stretch import shares
from monitor.core.tree import Tree

BINS_SHARE = 5  # a fifth of the time is for the bins
SHARE_MIN = 0.01  # answers rarer than that come too seldom to say how they come together
HOUR_NS = 3600 * 10**9


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A reference from own traffic.

    data:     of the profile, kept as bytes since the state is stored often.
    since_ns: where the version became stable, on whose first traffic it rests.
    caveat:   why the promise does not cover it; empty: it does.
    """

    data: bytes
    since_ns: int
    from_ns: int
    to_ns: int
    caveat: str = ""

    @property
    def profile(self) -> ReferenceProfile:
        return ReferenceProfile.from_bytes(self.data)

    def to_tree(self) -> Tree:
        data = np.frombuffer(self.data, dtype=np.uint8)
        return [data, self.since_ns, self.from_ns, self.to_ns, self.caveat]

    @classmethod
    def from_tree(cls, tree: Tree) -> "Learned":
        data, *rest = tree
        return cls(data.tobytes(), *rest)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a warm-up is."""

    rows: int
    rows_needed: int
    spent_ns: int
    span_ns: int
    blocks: int
    left_out: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        """The least of what is there of what is needed, 0 to 1."""
        parts = [self.spent_ns / self.span_ns if self.span_ns else 1.0, self.blocks / BLOCKS_MIN]
        parts.append(self.rows / self.rows_needed if self.rows_needed else 1.0)
        return min(1.0, *parts)

    def in_words(self) -> str:
        """`warming up: 12,000 of 20,000 rows, 3 of 30 h`."""
        unit_ns, unit = (HOUR_NS, "h") if self.span_ns >= HOUR_NS else (10**9, "s")
        spent = min(self.spent_ns, self.span_ns) // unit_ns
        said = (
            f"warming up: {min(self.rows, self.rows_needed):,} of {self.rows_needed:,} rows, "
            f"{spent:,} of {self.span_ns / unit_ns:g} {unit}"
        )
        ready = self.rows >= self.rows_needed and self.spent_ns >= self.span_ns
        return f"{said}, {self.blocks} of {BLOCKS_MIN} blocks" if ready else said


class Gathered:
    """What fills the bins. Mutable.

    data:   of the bins' profile, whose own counts only choose the questions.
    blocks: with rows; rows, squares: their rows, and the squares of those, summed.
    """

    counts: Counts
    distinct: Sketches
    means: BlockMeans
    blocks: int
    rows: int
    squares: int
    losses: LossSum
    loss_squares: int

    def __init__(self, data: bytes, coarse_edges: int) -> None:
        self._data = data
        self.bins = ReferenceProfile.from_bytes(data)
        self.counter = Counter(self.bins)
        self.events = make_events(self.bins, coarse_edges)
        unseen = np.flatnonzero(self.events.of_all & (self.events.place == UNSEEN))
        self.series = np.concatenate([correlation_series(self.events), unseen])
        self.clear()

    def clear(self) -> None:
        """Back to nothing in the bins."""
        self.counts, self.distinct = self.counter.empty(), {}
        self.means = BlockMeans.empty(self.series.size + 1)  # and last the loss
        self.blocks = self.rows = self.squares = 0
        self.losses = LossSum()
        self.loss_squares = 0

    def fresh(self) -> "Gathered":
        """Another one of the same bins, with nothing in it."""
        found = copy(self)
        found.clear()
        return found

    def count(self, parts: Sequence[Part]) -> tuple[Counts, int]:
        """A block's histograms, and how many of its rows they hold."""
        counts, rows = self.counter.empty(), 0
        for part in parts:
            if self.counter.count(part.inputs, part.outputs, counts, part.withheld):
                rows += len(next(iter(part.inputs.values()), ()))
        self.distinct = sketch(self.distinct, parts, counts, self.counter)
        return counts, rows

    def losses_of(self, outcomes: Iterable[Outcome]) -> LossSum:
        """By the range of the answers in the bins, as the reference will have it."""
        found = LossSum()
        for outcome in outcomes:
            scale = self.bins.loss_scale if outcome.is_number else 1.0
            if scale is not None:
                found.add(loss_units(outcome.error, scale))
        return found

    def add(self, counts: Counts, rows: int, losses: LossSum) -> None:
        """A block: its histograms, how many rows they are of, its losses."""
        if not rows and not losses.rows:
            return
        yes, totals = self.events.answers(counts)
        self.means.add(np.append(shares(yes, totals)[self.series], losses.mean))
        self.counts = self.counts + counts
        self.blocks += rows > 0
        self.rows += rows
        self.squares += rows**2
        self.losses.add_many(losses.rows, losses.units)
        self.loss_squares += losses.rows**2

    def take(self, other: "Gathered") -> None:
        """What another one gathered in the same bins, at another time."""
        self.counts = self.counts + other.counts
        for place, found in other.distinct.items():
            self.distinct = self.distinct | {place: self.distinct.get(place, NOTHING).merged(found)}
        self.means = self.means.merged(other.means)
        self.blocks += other.blocks
        self.rows += other.rows
        self.squares += other.squares
        self.losses.add_many(other.losses.rows, other.losses.units)
        self.loss_squares += other.loss_squares

    def profile(self, labelled_min: int) -> ReferenceProfile:
        """The reference; without a loss if it has fewer labels than that."""
        worth = self._worth()
        watched = (*self.bins.features, *self.bins.predictions)
        filled = [self._filled(f, feature, worth[f]) for f, feature in enumerate(watched)]
        inputs = len(self.bins.features)
        loss = self._loss() if self.losses.rows >= max(labelled_min, 2) else None
        return replace(
            self.bins,
            rows=self.rows,
            features=tuple(filled[:inputs]),
            predictions=tuple(filled[inputs:]),
            loss=loss,
        )

    def _worth(self) -> Floats:
        """Of each feature, how many independent rows one of its rows is worth: (f,)."""
        yes, totals = self.events.answers(self.counts)
        found = np.ones(len(self.counts))
        blocks = self.rows**2 / max(self.squares, 1)
        for series, varied in zip(self.series, self.means.long_run()[:-1], strict=True):
            rows = int(totals[series])
            if rows and SHARE_MIN * rows <= yes[series] <= (1.0 - SHARE_MIN) * rows:
                worth = effective(rows, blocks, yes[series] / rows, float(varied)) / rows
                feature = self.events.feature[series]
                found[feature] = min(found[feature], worth)
        return found

    def _filled(self, f: int, feature: FeatureProfile, worth: float) -> FeatureProfile:
        counts = self.counts[f]
        # Rows that cut the bins are not among these, so what is unseen is a fair sample.
        novel = int(counts[UNSEEN]) if feature.exact else 0
        held = int(ordered_counts(counts).sum()) + novel if feature.exact else 0
        rest = self.distinct.get(f, NOTHING)
        filled = replace(feature, counts=counts, held=held, novel=novel, effective=float(worth))
        return with_distinct(filled, rest)

    def _loss(self) -> LossReference:
        losses, varied = self.losses, float(self.means.long_run()[-1])
        blocks = losses.rows**2 / self.loss_squares
        worth = max(2, int(effective(losses.rows, blocks, losses.mean, varied)))
        error = min(1.0, float(np.sqrt(varied / blocks)))
        return LossReference(losses.mean, error, worth, self.bins.loss_scale or 1.0)

    def to_tree(self) -> Tree:
        return {"bins": self.bins_tree(), **self.amounts()}

    def bins_tree(self) -> Tree:
        return np.frombuffer(self._data, dtype=np.uint8)

    def amounts(self) -> dict[str, Tree]:
        """What is in the bins."""
        return {
            "counts": self.counts,
            "distinct": sketches_to_tree(self.distinct),
            "means": self.means.to_tree(),
            "rows": [self.blocks, self.rows, self.squares],
            "losses": [self.losses.rows, self.losses.units, self.loss_squares],
        }

    @classmethod
    def from_tree(cls, tree: Tree, coarse_edges: int) -> "Gathered":
        return cls(tree["bins"].tobytes(), coarse_edges).filled(tree)

    def filled(self, amounts: Tree) -> "Gathered":
        """The same, with what `amounts` gave in its bins."""
        self.counts, self.means = amounts["counts"], BlockMeans.from_tree(amounts["means"])
        self.distinct = sketches_from_tree(amounts["distinct"])
        self.blocks, self.rows, self.squares = amounts["rows"]
        rows, units, self.loss_squares = amounts["losses"]
        self.losses = LossSum(rows, units)
        return self


def effective(rows: int, blocks: float, share: float, varied: float) -> float:
    """How many independent rows have as large an error as these, in a share.

    blocks: that are worth one of equal size; varied: see `BlockMeans.long_run`.
    """
    return min(float(rows), share * (1.0 - share) * blocks / varied) if varied > 0 else float(rows)


@dataclass(slots=True)
class WarmUp:
    """One version's, under way. Mutable.

    from_ns: where it began; None: no block was late enough yet.
    """

    since_ns: int
    from_ns: int | None = None
    to_ns: int = 0
    bins: LearnedBins = field(default_factory=LearnedBins)
    gathered: Gathered | None = None

    def add(
        self,
        start_ns: int,
        parts: Sequence[Part],
        outcomes: Iterable[Outcome],
        settings: CoreSettings,
        needs: WarmUpSettings,
    ) -> Learned | None:
        """Take the version's rows of a block, and its labels; the reference, once it is whole."""
        if self.from_ns is None:
            if start_ns < self.since_ns + needs.skip_ns or not parts:
                return None
            self.from_ns = start_ns
        from_ns, self.to_ns = self.from_ns, start_ns + settings.block_ns
        spent_ns = self.to_ns - from_ns
        if self.gathered is None:
            self.bins.add(parts, continuous=needs.continuous)
            enough = min(SAMPLE_ROWS // 2, needs.rows // BINS_SHARE)
            if self.bins.rows >= max(enough, 1) and spent_ns * BINS_SHARE >= needs.span_ns:
                bins, left_out = self.bins.profile(), self.bins.left_out
                self.gathered = Gathered(bins.to_bytes(), settings.coarse_edges)
                self.bins = LearnedBins(left_out=left_out)  # the sample has served
            return None
        counts, rows = self.gathered.count(parts)
        known = (item for item in outcomes if item.predicted_ns >= from_ns)
        self.gathered.add(counts, rows, self.gathered.losses_of(known))
        whole = self.gathered.rows >= needs.rows and self.gathered.blocks >= BLOCKS_MIN
        return self._learned(from_ns, settings) if whole and spent_ns >= needs.span_ns else None

    def _learned(self, from_ns: int, settings: CoreSettings) -> Learned:
        assert self.gathered is not None
        moved = self.gathered.means.moved(SPARE * settings.tolerance)
        caveat = "traffic moved during the warm-up, and its reference holds both" if moved else ""
        data = self.gathered.profile(settings.rows_min).to_bytes()
        return Learned(data, self.since_ns, from_ns, self.to_ns, caveat)

    def progress(self, needs: WarmUpSettings) -> Progress:
        gathered = self.gathered
        return Progress(
            gathered.rows if gathered else 0,
            needs.rows,
            0 if self.from_ns is None else self.to_ns - self.from_ns,
            needs.span_ns,
            gathered.blocks if gathered else 0,
            self.bins.left_out,
        )

    def to_tree(self) -> Tree:
        return {
            "since_ns": self.since_ns,
            "from_ns": self.from_ns,
            "to_ns": self.to_ns,
            "bins": self.bins.to_tree(),
            "gathered": self.gathered.to_tree() if self.gathered else None,
        }

    @classmethod
    def from_tree(cls, tree: Tree, coarse_edges: int) -> "WarmUp":
        gathered = tree["gathered"]
        return cls(
            tree["since_ns"],
            tree["from_ns"],
            tree["to_ns"],
            LearnedBins.from_tree(tree["bins"]),
            Gathered.from_tree(gathered, coarse_edges) if gathered else None,
        )
