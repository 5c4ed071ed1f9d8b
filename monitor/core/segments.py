"""Segments of a model's rows, one value or range of a feature or of two, and their answers.

Laws:
- groups of values and cells of answers follow from the reference's counts alone;
- live rows are a fair sample of at most about ROWS_PER_BLOCK of a block, by the hash of
  their numbers in the log, so neither order nor restarts show in it;
- what is kept is counts, bounded by the reference, and no row.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import (
    ABOVE,
    BELOW,
    BINS,
    SLOTS,
    UNSEEN,
    AnyArray,
    Counts,
    Floats,
    slots_of,
)
from monitor.core.block import Part
from monitor.core.counter import Counter
from monitor.core.mixing import mixed
from monitor.core.multivariate.row_sample import row_keys
from monitor.core.predictions import find_output, infer_spec, prediction_columns
from monitor.core.profile import FeatureProfile, ReferenceProfile, numbers_of
from monitor.core.segment_reference import (
    ANSWERS,
    CELLS,
    FEATURES_MAX,
    GROUPS,
    PAIRED_MAX,
    VALUE_GROUPS,
    SegmentReference,
)

ROWS_PER_BLOCK = 256  # live; half a millisecond of a core for 32 features
ROWS_FITTED = 100_000  # of the reference

Places = NDArray[np.int64]


def groups_of(feature: FeatureProfile, values: int) -> Places:
    """(SLOTS,): the group of each slot, 0 to `values`; the last is of slots without a place.

    Numbers in ranges of near-equal mass; categories by value, the commonest, and all others
    that are known or new as one.
    """
    found = np.full(SLOTS, values, dtype=np.int64)
    bins = feature.starts.size
    counts = feature.counts[:bins].astype(np.int64)
    if feature.exact:
        named = named_slots(feature, values)
        found[:BINS] = found[UNSEEN] = values - 1
        found[named] = np.arange(len(named))
        return found
    if bins:
        middle = 2 * np.cumsum(counts) - counts
        found[:bins] = np.minimum(middle * values // max(2 * int(counts.sum()), 1), values - 1)
        found[BELOW], found[ABOVE] = found[0], found[bins - 1]
    return found


def named_slots(feature: FeatureProfile, values: int) -> list[int]:
    """Of categories: those that are a group of their own, in their order."""
    counts = feature.counts[: feature.starts.size]
    ranked = sorted(range(counts.size), key=lambda slot: (-int(counts[slot]), slot))
    return sorted(ranked[: values - 1])


def segments_of_reference(
    columns: Sequence[AnyArray],
    features: Sequence[FeatureProfile],
    answers: Floats,
    answer: FeatureProfile,
) -> SegmentReference:
    """Count a reference's rows by segment and answer, and choose which are looked at.

    columns: (n,) of each feature; answers: (n,) as `answer` counts them.
    Features beyond FEATURES_MAX are left out, and pairs are of the PAIRED_MAX, that tell most
    of the answers, in nats of mutual information; of equal ones the first.
    """
    step = -(-len(answers) // ROWS_FITTED)
    rows = np.flatnonzero(mixed(np.arange(len(answers))) % np.uint64(step) == 0)
    cells = groups_of(answer, ANSWERS)[_slots(answers[rows], answer)]
    groups = [
        groups_of(feature, VALUE_GROUPS)[_slots(numbers_of(column[rows], feature), feature)]
        for column, feature in zip(columns, features, strict=True)
    ]
    told = [_information(_counted(group, cells, GROUPS)) for group in groups]
    ranked = sorted(range(len(groups)), key=lambda place: (-told[place], place))
    chosen = tuple(sorted(ranked[:FEATURES_MAX]))
    paired = sorted(chosen.index(place) for place in ranked[:PAIRED_MAX])
    pairs = tuple(combinations(paired, 2))
    counts = _count(pairs, [groups[place] for place in chosen], cells)
    return SegmentReference(chosen, pairs, counts)


class Segmenter:
    """Counts live rows by the segments of a profile; its own arrays are never changed."""

    def __init__(self, profile: ReferenceProfile, reference: SegmentReference) -> None:
        self._profile, self._reference = profile, reference
        self._features = [profile.features[place] for place in reference.features]
        self._groups = [groups_of(feature, VALUE_GROUPS) for feature in self._features]
        self._cells = groups_of(profile.predictions[0], ANSWERS)

    def empty(self) -> Counts:
        return np.zeros(self._reference.size, dtype=np.int64)

    def count(self, parts: Sequence[Part], counter: Counter) -> Counts:
        """A block's rows of one version; rows of no log, or without answers, are not counted.

        counter: that of the same profile.
        """
        counts = self.empty()
        numbered = [part for part in parts if len(part.sequences)]
        step = -(-sum(len(part.sequences) for part in numbered) // ROWS_PER_BLOCK)
        for part in numbered:
            keys = row_keys(part.producer, part.sequences)
            rows = np.flatnonzero(keys % np.uint64(step) == 0)
            cells = self._cells_of(part, rows) if len(rows) else None
            if cells is not None:
                counts += _count(self._reference.pairs, self._groups_in(part, counter, rows), cells)
        return counts

    def _cells_of(self, part: Part, rows: Places) -> Places | None:
        spec = self._profile.prediction or infer_spec(part.outputs)
        output = find_output(part.outputs, spec) if spec else None
        if spec is None or output is None or not len(output):
            return None
        answer = self._profile.predictions[0]
        values = prediction_columns(output[rows], spec, (answer,))[:, 0]
        return self._cells[_slots(values, answer)]

    def _groups_in(self, part: Part, counter: Counter, rows: Places) -> list[Places | None]:
        """Of each feature; None: the rows do not have it, or it is withheld."""
        tensors = dict.fromkeys(feature.tensor for feature in self._features)
        blocks = {name: counter.numbers(name, part.inputs, rows) for name in tensors}
        found: list[Places | None] = []
        for feature, groups in zip(self._features, self._groups, strict=True):
            block = blocks[feature.tensor]
            if block is None or counter.is_withheld(feature, part.inputs, part.withheld):
                found.append(None)
            else:
                values = block[:, feature.index].astype(np.float64)
                found.append(groups[_slots(values, feature)])
        return found


def _slots(values: Floats, feature: FeatureProfile) -> Places:
    return slots_of(values, feature.starts, feature.high, feature.exact)


def _count(
    pairs: Sequence[tuple[int, int]], groups: Sequence[Places | None], cells: Places
) -> Counts:
    """Flat, as `SegmentReference.counts`; of features that are not there: zeros."""
    found = [_counted(group, cells, GROUPS) for group in groups]
    for first, second in pairs:
        one, other = groups[first], groups[second]
        both = None if one is None or other is None else one * GROUPS + other
        found.append(_counted(both, cells, GROUPS * GROUPS))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _counted(groups: Places | None, cells: Places, size: int) -> Counts:
    if groups is None:
        return np.zeros(size * CELLS, dtype=np.int64)
    return np.bincount(groups * CELLS + cells, minlength=size * CELLS).astype(np.int64)


def _information(counts: Counts) -> float:
    """Mutual information of group and cell, in nats."""
    table = counts.reshape(-1, CELLS) / max(int(counts.sum()), 1)
    alone = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    used = table > 0
    return float((table[used] * np.log(table[used] / alone[used])).sum())
