"""What one labelled row says of a version: the answer beside the truth.

Laws:
- scores count only as far as they are probabilities: finite, within [0, 1], and 1 in
  sum to within SUM_ERROR; other rows are labelled all the same, and unscored;
- columns of scores are named by the answer's specification, else after the classes of
  the reference in their order, else 0, 1, ...; whether that is right is seen from
  whether the largest one is of the class that was answered.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

import numpy as np

from monitor.core.bins import AnyArray
from monitor.core.predictions import PREDICTION, Outputs, class_of, fits, rows_of
from monitor.core.profile import PredictionKind, PredictionSpec, ReferenceProfile, text_of

DIGITS_MAX = 18  # of a class that is ordered as a number
COLUMNS_MAX = 4096  # of scores; a wider output is a map or an embedding, and slow to read by row
SUM_ERROR = 0.01  # softmax in half precision is off by less


@dataclass(frozen=True, slots=True)
class Scores:
    """One row's probabilities, as far as measures need them.

    of_truth: of the true class; 0 if it has no column.
    top:      the largest; top_is_truth: whether it is of the true class.
    agrees:   whether it is of the class that was answered.
    squares:  Brier's score of the row: the sum over classes of (score - truth)^2, of two
              classes half of that, the square for one of them.
    positive: of the second class, where there are two.
    names, of_classes: every class and its probability, where there are more.
    """

    of_truth: float
    top: float
    top_is_truth: bool
    agrees: bool
    squares: float
    positive: float | None = None
    names: tuple[str, ...] = ()
    of_classes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassAnswer:
    """positive: the class that precision and recall of two classes are about; "": unknown."""

    said: str
    truth: str
    positive: str = ""
    scores: Scores | None = None


@dataclass(frozen=True, slots=True)
class NumberAnswer:
    """said: NaN and infinities too; truth: finite."""

    said: float
    truth: float


Answer = ClassAnswer | NumberAnswer


def class_order(name: str) -> tuple[int, int, str]:
    """Whole numbers by size before everything else, as libraries order their classes."""
    digits = name.removeprefix("-")
    is_number = digits.isdecimal() and len(digits) <= DIGITS_MAX
    return (0, int(name), name) if is_number else (1, 0, name)


def answer_of(
    output: AnyArray,
    outputs: Outputs,
    spec: PredictionSpec,
    profile: ReferenceProfile | None,
    row: int,
    label: float | str,
) -> Answer:
    """Row `row` of a record beside its label.

    output:  (n, ...) of `outputs`, the one that `spec` speaks of.
    Raises: ValueError when a number meets a label that is none.
    """
    if spec.kind is PredictionKind.NUMBER:
        return NumberAnswer(float(rows_of(output)[row, 0]), float(label))
    said, truth = class_of(output[row], spec), text_of(label)
    is_scores = spec.kind is PredictionKind.SCORES
    found = _probabilities([output] if is_scores else score_outputs(outputs), row)
    if found is None:
        named = _reference_classes(profile)
        return ClassAnswer(said, truth, named[1] if len(named) == 2 else "")
    names = column_names(spec, profile, len(found))
    positive = names[1] if len(names) == 2 else ""
    return ClassAnswer(said, truth, positive, scores_of(found, names, said, truth))


def of_probability(answer: NumberAnswer) -> ClassAnswer | None:
    """A probability of class 1 whose label is 0 or 1, cut at one half; None if it is not one."""
    if answer.truth not in (0.0, 1.0) or not 0.0 <= answer.said <= 1.0:
        return None
    said, truth = str(int(answer.said >= 0.5)), str(int(answer.truth))
    pair = [1.0 - answer.said, answer.said]
    return ClassAnswer(said, truth, "1", scores_of(pair, ("0", "1"), said, truth))


def scores_of(found: list[float], names: tuple[str, ...], said: str, truth: str) -> Scores:
    """found: one row's probabilities, by the classes in `names`."""
    top = max(found)
    top_class = names[found.index(top)]
    # Of equal ones the answered class may be any, so all of them agree.
    agrees = any(score == top and name == said for score, name in zip(found, names, strict=True))
    of_truth = found[names.index(truth)] if truth in names else 0.0
    squares = sum(score * score for score in found) - 2.0 * of_truth + 1.0
    is_pair, is_many = len(found) == 2, len(found) > 2
    return Scores(
        of_truth,
        top,
        top_is_truth=top_class == truth,
        agrees=agrees,
        squares=max(squares / 2.0 if is_pair else squares, 0.0),
        positive=found[1] if is_pair else None,
        names=names if is_many else (),
        of_classes=tuple(found) if is_many else (),
    )


def score_outputs(outputs: Outputs) -> list[AnyArray]:
    """Those beside a class that may be its scores."""
    return [outputs[name] for name in sorted(outputs) if fits(PredictionKind.SCORES, outputs[name])]


def _probabilities(candidates: list[AnyArray], row: int) -> list[float] | None:
    """Of the first that holds them in this row."""
    for output in candidates:
        flat = rows_of(output)
        if flat.shape[1] > COLUMNS_MAX:
            continue
        found: list[float] = flat[row].astype(np.float64).tolist()
        if _are_probabilities(found):
            return [min(max(score, 0.0), 1.0) for score in found]
    return None


def _are_probabilities(found: list[float]) -> bool:
    return (
        all(isfinite(score) and -SUM_ERROR <= score <= 1.0 + SUM_ERROR for score in found)
        and abs(sum(found) - 1.0) <= SUM_ERROR
    )


def column_names(
    spec: PredictionSpec, profile: ReferenceProfile | None, columns: int
) -> tuple[str, ...]:
    """The classes that the columns of scores are of."""
    if len(spec.classes) == columns:
        return spec.classes
    known = _reference_classes(profile) if spec.kind is PredictionKind.CLASS else ()
    return known if len(known) == columns else tuple(map(str, range(columns)))


@lru_cache(maxsize=64)
def _reference_classes(profile: ReferenceProfile | None) -> tuple[str, ...]:
    """The classes that a version's reference was answered with, in their order."""
    watched = profile.predictions if profile is not None else ()
    for feature in watched:
        if feature.name == PREDICTION and feature.is_text and not feature.rare:
            return tuple(sorted(feature.categories, key=class_order))
    return ()
