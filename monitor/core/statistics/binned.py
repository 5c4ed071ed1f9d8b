"""What every statistic is computed from: the counts of both sides, and where the bins lie.

Laws:
- a `Layout` follows from the reference alone and never changes; live counts only
  fill it, so numbers of different windows may be compared;
- distances between shares are taken over *cells*: the reference's deciles for a
  continuous feature, each value or category for a discrete or categorical one, and
  the slots for missing, below, above, non-finite and unseen; finer cells would
  measure the noise of 256 bins;
- the outermost deciles are open: below joins the first and above the last, since
  the reference's own outermost rows are its range and hold nothing beyond it by
  construction. Only an end that is a lump of the data is closed (see `_closed`):
  there a value beyond it is news, and a constant column has no other cell to move to;
- what needs an order is computed over *places*: below, the bins, above. Missing,
  non-finite and unseen values have none and are left out of both sides;
- a place stands at the middle of its bin (a discrete one at its value); below and
  above stand at the ends of the reference's range, since counts do not say how far
  out a value was. So one value of 1e6 weighs as much as one at the range's end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import ABOVE, BELOW, BINS, SLOTS, Counts, Floats, ordered_counts
from monitor.core.profile import FeatureProfile

DECILES = 10
PLACES = BINS + 2
# Reference rows in a decile; with fewer it joins its neighbour. Its ends are rows of
# the reference, and where few lie between two of them that says little of how many
# live rows will: of windows in which nothing had moved a third fell below 0.05 with
# two rows a cell, and as many as should with ten.
CELL_ROWS_MIN = 10
# Winsorised numbers end at these quantiles of the reference ...
TAIL_SHARE = 0.001
# ... and, where the bin that holds one is a tail and no lump of the data, at its
# inner edge: how far out the reference's own outermost rows lie is an accident.
TAIL_BIN_SHARE_MAX = 0.01
# A lump at an end of the reference's range holds as many rows or more, and the share
# above: with fewer it may be an accident of rounding, and values beyond it are to be
# expected.
CLOSED_END_ROWS_MIN = 50


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Cells and places of f features.

    ends:    (f, C) how many bins stand before the end of each cell, rising.
    last:    (f,) the last bin in use.
    closed:  (f, 2) bool: below and above are cells of their own.
    places:  (f, PLACES) in the feature's unit, not falling.
    widths:  (f, PLACES) of the bins; 0 where a place is one value.
    inner:   (f, PLACES) the places, winsorised; inner_widths: (f, PLACES) what is left.
    spread:  (f,) standard deviation of the reference's winsorised places; 0: constant,
             NaN: the reference holds no value that has a place.
    """

    ends: NDArray[np.int64]
    last: NDArray[np.int64]
    closed: NDArray[np.bool_]
    places: Floats
    widths: Floats
    inner: Floats
    inner_widths: Floats
    spread: Floats

    @classmethod
    def of(cls, features: Sequence[FeatureProfile]) -> "Layout":
        exact = np.array([feature.exact for feature in features], dtype=np.bool_)
        counts = reference_counts(features)
        edges = np.array([_edges(feature) for feature in features]).reshape(-1, PLACES + 1)
        lower, upper = edges[:, :-1], np.where(exact[:, None], edges[:, :-1], edges[:, 1:])
        ordered = ordered_counts(counts)
        least, most = _limits(lower, upper, ordered)
        inner_lower = np.clip(lower, least, most)
        inner_upper = np.clip(upper, least, most)
        inner = _middle(inner_lower, inner_upper)
        last = np.array([max(feature.starts.size - 1, 0) for feature in features], dtype=np.int64)
        return cls(
            _ends(counts, exact),
            last,
            _closed(features, counts),
            _middle(lower, upper),
            _gap(lower, upper),
            inner,
            _gap(inner_lower, inner_upper),
            _spread(inner, ordered),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One side's counts, merged into cells and put in order.

    cells:   (..., C + 5) int64; rows:   (...) their sum; shares: cells / rows.
    ordered: (..., PLACES) int64; values: (...) their sum; below: cumulative shares.
    Where a side holds nothing its shares are NaN, and so is every number made of them.
    """

    cells: Counts
    rows: Floats
    shares: Floats
    ordered: Counts
    values: Floats
    below: Floats

    @classmethod
    def of(cls, layout: Layout, counts: Counts) -> "Side":
        cells = _cells(layout, counts)
        rows = cells.sum(axis=-1)
        ordered = ordered_counts(counts)
        cumulative = np.cumsum(ordered, axis=-1)
        values = cumulative[..., -1]
        return cls(
            cells,
            rows.astype(np.float64),
            _shares(cells, rows),
            ordered,
            values.astype(np.float64),
            _shares(cumulative, values),
        )

    @property
    def densities(self) -> Floats:
        """(..., PLACES): the share of each place."""
        return _shares(self.ordered, self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Reference and live counts of f features over one layout; leading axes are draws."""

    layout: Layout
    reference: Side
    live: Side

    @classmethod
    def of(cls, layout: Layout, reference: Counts, live: Counts) -> "Binned":
        """reference, live: (..., f, SLOTS)."""
        return cls(layout, Side.of(layout, reference), Side.of(layout, live))

    @classmethod
    def of_features(cls, features: Sequence[FeatureProfile], live: Counts) -> "Binned":
        """Features against their own reference; live: (f, SLOTS)."""
        return cls.of(Layout.of(features), reference_counts(features), live)

    @property
    def used(self) -> NDArray[np.bool_]:
        """(..., C + 5): cells that either side fills; the others do not exist."""
        return np.asarray((self.reference.cells + self.live.cells) > 0)

    @property
    def freedom(self) -> Floats:
        """(...): cells in use, less one."""
        return np.asarray(np.maximum(self.used.sum(axis=-1) - 1.0, 0.0))

    @property
    def row_noise(self) -> Floats:
        """(...): 1/n + 1/m over all rows; infinite where a side has none."""
        return _noise(self.reference.rows, self.live.rows)

    @property
    def value_noise(self) -> Floats:
        """(...): 1/n + 1/m over the values that have a place."""
        return _noise(self.reference.values, self.live.values)

    @property
    def pooled_shares(self) -> Floats:
        """(..., C + 5): shares of both sides' rows together."""
        total = self.reference.rows + self.live.rows
        return _shares(self.reference.cells + self.live.cells, total)

    @property
    def pooled_densities(self) -> Floats:
        """(..., PLACES): shares of both sides' values together."""
        total = self.reference.values + self.live.values
        return _shares(self.reference.ordered + self.live.ordered, total)

    @property
    def blurred(self) -> tuple[Floats, Floats]:
        """Reference and live shares of the places that hold more than one value.

        (..., PLACES) each. Within these nothing is known of the order.
        """
        wide = self.layout.widths > 0
        return (
            np.where(wide, self.reference.densities, 0.0),
            np.where(wide, self.live.densities, 0.0),
        )

    @property
    def differences(self) -> Floats:
        """(..., PLACES): reference minus live cumulative shares; the last is 0."""
        return np.asarray(self.reference.below - self.live.below)


def reference_counts(features: Sequence[FeatureProfile]) -> Counts:
    """(f, SLOTS); f may be 0."""
    counts = [feature.counts for feature in features]
    return np.array(counts, dtype=np.int64).reshape(-1, SLOTS)


def _noise(n: Floats, m: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / n + 1 / m)


def _shares(counts: Counts, total: Counts | Floats) -> Floats:
    """counts: (..., k), total: (...); NaN where there is nothing to share."""
    return np.asarray(counts / np.where(total > 0, total, np.nan)[..., None])


def _edges(feature: FeatureProfile) -> Floats:
    """(PLACES + 1,): the lower edge of each place; the last is the range's end."""
    starts, high = feature.starts, feature.high
    edges = np.full(PLACES + 1, high, dtype=np.float64)
    if starts.size:
        edges[0] = starts[0]
        edges[1 : starts.size + 1] = starts
    return edges


def _middle(lower: Floats, upper: Floats) -> Floats:
    return lower / 2 + upper / 2  # not (lower + upper) / 2, which overflows first


def _gap(lower: Floats, upper: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(upper - lower)


def _limits(lower: Floats, upper: Floats, ordered: Counts) -> tuple[Floats, Floats]:
    """Where winsorised values end: two of (f, 1)."""
    total = np.maximum(ordered.sum(axis=-1, keepdims=True), 1)
    cumulative = np.cumsum(ordered, axis=-1) / total
    first = np.argmax(cumulative >= TAIL_SHARE, axis=-1)[:, None]
    last = np.argmax(cumulative >= 1 - TAIL_SHARE, axis=-1)[:, None]
    share = ordered / total

    def at(values: Floats, place: NDArray[np.int64]) -> Floats:
        return np.asarray(np.take_along_axis(values, place, axis=-1))

    cut_low = at(share, first) < TAIL_BIN_SHARE_MAX
    cut_high = at(share, last) < TAIL_BIN_SHARE_MAX
    least = np.where(cut_low, at(upper, first), at(lower, first))
    most = np.where(cut_high, at(lower, last), at(upper, last))
    return np.minimum(least, most), np.maximum(least, most)


def _spread(inner: Floats, ordered: Counts) -> Floats:
    shares = _shares(ordered, ordered.sum(axis=-1))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = (shares * inner).sum(axis=-1, keepdims=True)
        return np.asarray(np.sqrt((shares * (inner - mean) ** 2).sum(axis=-1)))


def _ends(counts: Counts, exact: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(f, C): C is DECILES, or BINS where a feature needs one cell per value.

    A bin belongs to the decile in which the middle of its reference mass lies, so
    the cut depends on the reference alone. Deciles of too few rows join a neighbour,
    which leaves cells without bins behind.
    """
    inside = counts[:, :BINS]
    total = np.maximum(inside.sum(axis=-1, keepdims=True), 1)
    middle = np.cumsum(inside, axis=-1) - inside / 2
    decile = np.minimum((middle * DECILES / total).astype(np.int64), DECILES - 1)
    ends = np.full((len(counts), BINS if exact.any() else DECILES), BINS, dtype=np.int64)
    for k in range(DECILES):
        ends[:, k] = (decile <= k).sum(axis=-1)
    _join_small(ends[:, : DECILES - 1], inside)
    ends[exact] = np.arange(1, ends.shape[1] + 1)
    return ends


def _join_small(ends: NDArray[np.int64], inside: Counts) -> None:
    """Take back, in place, the ends of cells that hold fewer than CELL_ROWS_MIN rows.

    ends: (f, DECILES - 1), all but the last, which is that of the bins; inside: (f, BINS).
    """
    below = np.concatenate([np.zeros_like(inside[:, :1]), np.cumsum(inside, axis=-1)], axis=-1)
    feature = np.arange(len(ends))
    start = np.zeros(len(ends), dtype=np.int64)
    for k in range(ends.shape[1]):
        held = below[feature, ends[:, k]] - below[feature, start]
        ends[:, k] = start = np.where(held < CELL_ROWS_MIN, start, ends[:, k])
    small = below[:, -1] - below[feature, start] < CELL_ROWS_MIN
    ends[small[:, None] & (ends == start[:, None])] = BINS


def _closed(features: Sequence[FeatureProfile], counts: Counts) -> NDArray[np.bool_]:
    """Whether the reference's range ends in a lump, at the low and at the high end: (f, 2).

    At the low end more than a 256th in the first bin can only be rows of its start; at
    the high end a bin that starts where the range ends holds nothing else.
    """
    least = np.maximum(counts[:, :BINS].sum(axis=-1) * TAIL_BIN_SHARE_MAX, CLOSED_END_ROWS_MIN)
    closed = np.zeros((len(features), 2), dtype=np.bool_)
    for f, feature in enumerate(features):
        if feature.starts.size:
            rows = feature.counts[[0, feature.starts.size - 1]]
            closed[f] = (rows >= least[f]) & np.array([True, feature.starts[-1] == feature.high])
    return closed


def _cells(layout: Layout, counts: Counts) -> Counts:
    """(..., f, SLOTS) -> (..., f, C + 5)."""
    counts = _open(layout, counts)
    below = np.cumsum(counts[..., :BINS], axis=-1)
    ends = layout.ends.reshape((1,) * (counts.ndim - layout.ends.ndim) + layout.ends.shape)
    reached = np.where(ends > 0, np.take_along_axis(below, np.maximum(ends - 1, 0), axis=-1), 0)
    inside = np.diff(reached, axis=-1, prepend=0)
    return np.concatenate([inside, counts[..., BINS:SLOTS]], axis=-1)


def _open(layout: Layout, counts: Counts) -> Counts:
    """What lies beyond an end that is not closed, in the bin at that end."""
    beyond = np.where(layout.closed, 0, counts[..., BELOW : ABOVE + 1])
    opened = counts.copy()
    opened[..., 0] += beyond[..., 0]
    opened[..., np.arange(len(layout.last)), layout.last] += beyond[..., 1]
    opened[..., BELOW : ABOVE + 1] -= beyond
    return opened
