"""The estimate of a version's performance over the last window, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from monitor.core.bins import Floats
from monitor.core.estimation.answered import UNIT, AnsweredScores
from monitor.core.estimation.calibration import Calibration
from monitor.core.estimation.disagreement import disagree
from monitor.core.estimation.estimation import Estimation, window_labels
from monitor.core.estimation.measures import ESTIMATED, Cells
from monitor.core.estimation.reason import Reason
from monitor.core.performance import Estimate
from monitor.core.performance.class_measures import positive_of
from monitor.core.performance.score_measures import agrees
from monitor.core.performance.spans import Spans

ROWS_MIN = 30  # of fewer, the number of positive ones is not like a normal
LEFT_OUT_MAX = 0.02  # of rows without scores, and of those with scores that no labels had


@dataclass(frozen=True, slots=True)
class Estimated:
    """rows: scored ones, that it is about; labels: that it is calibrated by.

    estimates: by the name of the measure; none with a reason.
    """

    rows: int
    labels: int
    reason: Reason | None = None
    estimates: Mapping[str, Estimate] = field(default_factory=dict)


def estimated(estimation: Estimation, spans: Spans, *, is_broken: bool) -> Estimated:
    """spans: of all the version's rows; is_broken: whether data was, for rows of the window."""
    window = estimation.window()
    labels = int(estimation.labelled.counts().sum())
    found = found_by(estimation, spans, window, is_broken=is_broken)
    if isinstance(found, Reason):
        return Estimated(window.scored, labels, found)
    cells = cells_of(window, found)
    estimates = {name: item.estimate(cells) for name, item in ESTIMATED.items()}
    return Estimated(window.scored, labels, None, estimates)


def found_by(
    estimation: Estimation, spans: Spans, window: AnsweredScores, *, is_broken: bool
) -> Calibration | Reason:
    """What the window's rows are estimated by, or why they are not; window: of `estimation`."""
    reason = _reason(window, spans)
    if reason is not None:
        return reason
    if is_broken:
        return Reason.BROKEN_DATA
    calibration = estimation.calibration()
    if calibration is None:
        return Reason.LABELS_DISAGREE if estimation.has_changed else Reason.TOO_FEW_LABELS
    if disagree(calibration, window_labels(spans)):
        return Reason.LABELS_DISAGREE
    if _is_beyond(cells_of(window, calibration), calibration):
        return Reason.BEYOND_LABELS
    return calibration


def _reason(window: AnsweredScores, spans: Spans) -> Reason | None:
    """What the answers alone say."""
    since, scored = spans.since, window.scored
    if spans.previous.answered + spans.current.answered < ROWS_MIN:
        return Reason.TOO_FEW_ROWS
    if scored < ROWS_MIN or window.unscored > LEFT_OUT_MAX * (scored + window.unscored):
        return Reason.NO_SCORES
    if not since.rows:
        return Reason.TOO_FEW_LABELS
    if not since.are_classes or positive_of(since.classes) is None:
        return Reason.NO_SCORES
    return None if agrees(since.classes.scores) else Reason.NAMES_UNKNOWN


def cells_of(window: AnsweredScores, calibration: Calibration) -> Cells:
    """window: with at least one row."""
    used = np.flatnonzero(window.rows.any(axis=1))
    rows = window.rows[used].astype(np.float64)
    scores: Floats = np.clip(window.units[used] * UNIT / rows.sum(axis=1), 0.0, 1.0)
    weights = calibration.weights(scores)
    return Cells(
        scores,
        rows,
        weights @ calibration.shares,
        weights @ calibration.cautious,
        weights,
        calibration.variances,
    )


def _is_beyond(cells: Cells, calibration: Calibration) -> bool:
    """Of all rows, or of those of one answer: precision rests on the few that have it."""
    outside = ~calibration.holds(cells.scores)
    of_answer, left_out = cells.rows.sum(axis=0), cells.rows[outside].sum(axis=0)
    return bool(np.any(left_out > LEFT_OUT_MAX * of_answer))
