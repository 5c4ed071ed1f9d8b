"""The scores of all answered rows, labelled or not, as mergeable counts.

Laws:
- everything is a sum of whole numbers, so the order of rows is immaterial, to the bit;
- which rows have scores, and what the columns are called, is as for labelled rows: see
  `monitor.core.performance.answers`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monitor.core.bins import AnyArray, Floats
from monitor.core.block import Part
from monitor.core.performance.answers import (
    COLUMNS_MAX,
    SUM_ERROR,
    column_names,
    score_outputs,
)
from monitor.core.performance.score_histogram import BINS, bins_of
from monitor.core.predictions import Outputs, class_texts, find_output, infer_spec, rows_of
from monitor.core.profile import PredictionKind, PredictionSpec, ReferenceProfile
from monitor.core.tree import Tree

UNIT = 2.0**-30  # of summed scores: a bin holds 2^33 rows before an int64 overflows

Counts = NDArray[np.int64]


def _counts() -> Counts:
    return np.zeros((BINS, 2), dtype=np.int64)


def _sums() -> Counts:
    return np.zeros(BINS, dtype=np.int64)


@dataclass(slots=True, eq=False)
class AnsweredScores:
    """Mutable.

    rows:     (BINS, 2) by the positive class's score: answered with the other class, with it.
    units:    (BINS,) sums of these scores, in UNIT.
    unscored: rows without probabilities of two classes of which one was answered.
    """

    rows: Counts = field(default_factory=_counts)
    units: Counts = field(default_factory=_sums)
    unscored: int = 0

    def add(self, scores: Floats, is_positive: NDArray[np.bool_], unscored: int = 0) -> None:
        """scores: (n,) in [0, 1]; is_positive: (n,) what was answered."""
        if len(scores):
            places = bins_of(scores)
            cells = np.bincount(2 * places + is_positive, minlength=2 * BINS)
            self.rows += cells.reshape(BINS, 2)
            np.add.at(self.units, places, np.rint(scores / UNIT).astype(np.int64))
        self.unscored += unscored

    def merge(self, other: "AnsweredScores") -> None:
        self.rows += other.rows
        self.units += other.units
        self.unscored += other.unscored

    @property
    def scored(self) -> int:
        return int(self.rows.sum())

    def to_tree(self) -> Tree:
        used = np.flatnonzero(self.rows.any(axis=1))
        bins = [[int(at), *self.rows[at].tolist(), int(self.units[at])] for at in used]
        return [self.unscored, bins]

    @classmethod
    def from_tree(cls, tree: Tree) -> "AnsweredScores":
        found = cls(unscored=tree[0])
        for place, others, positives, units in tree[1]:
            found.rows[place] = others, positives
            found.units[place] = units
        return found


def count_scores(parts: Iterable[Part], profile: ReferenceProfile | None) -> AnsweredScores:
    """The rows of one version in a block; parts: borrowed."""
    found = AnsweredScores()
    for part in parts:
        rows = max((len(tensor) for tensor in part.outputs.values()), default=0)
        spec = (profile.prediction if profile else None) or infer_spec(part.outputs)
        output = find_output(part.outputs, spec) if spec else None
        if spec is None or output is None:
            found.unscored += rows
            continue
        scores, is_positive = _scores(output, part.outputs, spec, profile)
        found.add(scores, is_positive, len(output) - len(scores))
    return found


def _scores(
    output: AnyArray, outputs: Outputs, spec: PredictionSpec, profile: ReferenceProfile | None
) -> tuple[Floats, NDArray[np.bool_]]:
    """Of the rows that have them."""
    if spec.kind is PredictionKind.NUMBER:
        numbers = rows_of(output)[:, 0].astype(np.float64)
        numbers = numbers[(numbers >= 0.0) & (numbers <= 1.0)]
        return numbers, numbers >= 0.5
    is_scores = spec.kind is PredictionKind.SCORES
    scores = _pairs([output] if is_scores else score_outputs(outputs), len(output))
    names = column_names(spec, profile, 2)
    has = ~np.isnan(scores)
    if not has.any():
        return scores[has], has[has]
    texts = class_texts(output, spec)
    has &= (texts == names[0]) | (texts == names[1])
    return scores[has], np.asarray(texts == names[1], dtype=np.bool_)[has]


def _pairs(candidates: list[AnyArray], rows: int) -> Floats:
    """(rows,) the second of two probabilities; NaN where the first output with any has not two."""
    found = np.full(rows, np.nan)
    is_open = np.ones(rows, dtype=np.bool_)
    for output in candidates:
        flat = rows_of(output)
        if flat.shape[1] > COLUMNS_MAX or len(flat) != rows:
            continue
        values = flat.astype(np.float64)
        # NaN is in no range, and neither is a sum with it.
        within = np.all((values >= -SUM_ERROR) & (values <= 1.0 + SUM_ERROR), axis=1)
        here = is_open & within & (np.abs(np.sum(values, axis=1) - 1.0) <= SUM_ERROR)
        if flat.shape[1] == 2:
            found[here] = np.clip(values[here, 1], 0.0, 1.0)
        is_open &= ~here
    return found
