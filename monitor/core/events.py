"""The yes-or-no questions about a row that evidence is gathered on.

For an ordered feature: "is the value below this edge?" at a few coarse edges of
the reference; for text: "is it this category?"; for every feature: "is it
missing, non-finite, unseen?". Each is answered from the block's counts alone.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import BINS, MISSING, QUALITY_SLOTS, UNSEEN, Counts, Floats, ordered_counts
from monitor.core.profile import FeatureKind, FeatureProfile, ReferenceProfile
from monitor.core.reference_error import share_error, unseen_bound


class Group(IntEnum):
    """What a detector watches; the budget is split between groups."""

    FEATURES = 0
    QUALITY = 1
    PREDICTIONS = 2
    LOSS = 3
    CANDIDATE = 4  # the candidate's loss against the reference
    COMPARISON = 5  # candidate against stable, within the block
    ESTIMATED = 6  # the loss as scores have it, before its labels come
    OUTLIERS = 7  # the share of rows unlike the reference's


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """v questions, as places in the counts of a profile's f features and predictions."""

    feature: NDArray[np.int64]  # (v,) row in the counts
    place: NDArray[np.int64]  # (v,) cumulative: position in the order; else the slot
    cumulative: NDArray[np.bool_]  # (v,)
    of_all: NDArray[np.bool_]  # (v,) share of all rows; else of those with a value, known or not
    group: NDArray[np.int64]  # (v,)
    share: Floats  # (v,) in the reference
    error: Floats  # (v,) bound on the reference's own error
    unseen: Floats  # (v,) bound on what the answer may lack because the reference never held it

    @property
    def size(self) -> int:
        return int(self.feature.size)

    def answers(self, counts: Counts) -> tuple[Counts, Counts]:
        """Yes and total per question: two int64 (v,)."""
        ordered = ordered_counts(counts)
        below = np.cumsum(ordered, axis=1)
        yes = np.where(
            self.cumulative,
            below[self.feature, np.where(self.cumulative, self.place, 0)],
            counts[self.feature, np.where(self.cumulative, 0, self.place)],
        )
        # A value that the reference lacks is a value: without it the shares of the
        # others would be larger than they were in the reference, with nothing moved.
        values = ordered.sum(axis=1) + counts[:, UNSEEN]
        totals = np.where(self.of_all, counts.sum(axis=1)[self.feature], values[self.feature])
        return yes, totals


def make_events(
    profile: ReferenceProfile,
    coarse_edges: int,
    asked: ReferenceProfile | None = None,
    references: int = 1,
) -> Events:
    """The questions for a profile; reference errors hold for all of them at once.

    coarse_edges: of each feature, unless the profile has a season: then those of that.
    asked:        of the same bins, where the questions are those of another profile.
    references:   that follow each other, whose errors are to hold all together.
    """
    features = (*profile.features, *profile.predictions)
    if asked is not None:
        shown = (*asked.features, *asked.predictions)
        assert [f.name for f in shown] == [f.name for f in features]
    else:
        shown = features
    rows: list[tuple[int, int, bool, bool, int]] = []
    statements = 0
    for f, feature in enumerate(shown):
        group = Group.FEATURES if f < len(profile.features) else Group.PREDICTIONS
        own = _asked(profile, f) if profile.season else _questions(feature, coarse_edges)
        rows += [(f, place, cumulative, False, int(group)) for place, cumulative in own]
        rows += [(f, slot, False, True, int(Group.QUALITY)) for slot in QUALITY_SLOTS]
        statements += _families(own) + len(QUALITY_SLOTS)
    return _assemble(rows, features, statements * references)


def correlation_series(events: Events) -> NDArray[np.int64]:
    """The questions whose answers tell how long traffic is correlated: (s,).

    Of each feature three of its edges or categories, spread over it, since what swings
    may be its place or its width, and the share that is missing, since faults last.
    """
    chosen: list[int] = []
    for feature in np.unique(events.feature):
        own = np.flatnonzero((events.feature == feature) & ~events.of_all)
        chosen += own[np.unique(own.size * np.array([1, 2, 3]) // 4)].tolist() if own.size else []
    missing = np.flatnonzero(events.of_all & (events.place == MISSING))
    return np.array([*chosen, *missing], dtype=np.int64)


def _families(questions: list[tuple[int, bool]]) -> int:
    """All cumulative questions of a feature are one family; each other one is its own."""
    cumulative = any(is_cumulative for _, is_cumulative in questions)
    return sum(not is_cumulative for _, is_cumulative in questions) + int(cumulative)


def _asked(profile: ReferenceProfile, f: int) -> list[tuple[int, bool]]:
    """By the hours of its season."""
    assert profile.season is not None
    feature = (*profile.features, *profile.predictions)[f]
    is_cumulative = feature.kind is not FeatureKind.CATEGORICAL
    return [(place, is_cumulative) for place in profile.season.asked[f]]


def _questions(feature: FeatureProfile, coarse_edges: int) -> list[tuple[int, bool]]:
    size = feature.starts.size
    if feature.kind is FeatureKind.CATEGORICAL:
        # Not `other`: what is in it was chosen by the reference for being rare there,
        # so no bound holds for its share.
        named = size - 1 if feature.rare else size
        commonest = np.argsort(-feature.counts[:named], kind="stable")[:coarse_edges]
        return [(int(code), False) for code in sorted(commonest)]
    if size == 0:
        return []
    return [(place, True) for place in _edges(feature, coarse_edges)]


def _edges(feature: FeatureProfile, coarse_edges: int) -> list[int]:
    """Positions in the order (0 = below only); the outermost always, else near-equal mass."""
    size = feature.starts.size
    below = np.cumsum(ordered_counts(feature.counts))
    ends = [] if feature.exact else [0, size]
    inner = np.arange(1, size)
    count = max(coarse_edges - len(ends), 1)
    if inner.size <= count:
        return sorted({*ends, *inner.tolist()})
    wanted = below[-1] * np.arange(1, count + 1) / (count + 1)
    nearest = [int(inner[np.argmin(np.abs(below[inner] - target))]) for target in wanted]
    return sorted({*ends, *nearest})


def _assemble(
    rows: list[tuple[int, int, bool, bool, int]],
    features: tuple[FeatureProfile, ...],
    statements: int,
) -> Events:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    size = len(rows)
    bare = Events(
        np.array(columns[0], dtype=np.int64),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.bool_),
        np.array(columns[3], dtype=np.bool_),
        np.array(columns[4], dtype=np.int64),
        *(np.zeros(size) for _ in range(3)),
    )
    if not rows:
        return bare
    assert max(bare.place) <= BINS + len(QUALITY_SLOTS) + 1
    yes, totals = bare.answers(np.stack([feature.counts for feature in features]))
    share = yes / np.maximum(totals, 1)
    effective = np.array([feature.effective for feature in features])[bare.feature]
    error = np.array([share_error(int(rows), statements) for rows in totals * effective])
    lacks = np.array([_unseen(feature, statements) for feature in features])[bare.feature]
    is_unseen = bare.of_all & (bare.place == UNSEEN) & (lacks > 0)
    error = np.where(is_unseen, np.maximum(lacks - share, 0.0), error)
    lacks = np.where(bare.cumulative, lacks, 0.0)
    return replace(bare, share=share, error=error, unseen=lacks)


def _unseen(feature: FeatureProfile, statements: int) -> float:
    if not feature.exact:
        return 0.0
    return unseen_bound(
        feature.novel * feature.effective, feature.held * feature.effective, statements
    )
