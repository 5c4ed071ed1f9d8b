"""What is kept of a version to estimate its performance without labels.

Laws:
- the scores of the rows that were answered in the last one to two windows of blocks, and
  what labels that came before said of scores; no row is in both;
- labels join the calibration when their window has passed. If they disagree with it, the
  concept has changed, and they take its place.
"""

from dataclasses import dataclass, field

from monitor.core.estimation.answered import AnsweredScores
from monitor.core.estimation.calibration import Calibration
from monitor.core.estimation.disagreement import disagree
from monitor.core.performance.score_histogram import ScoreHistogram
from monitor.core.performance.spans import Spans
from monitor.core.tree import Tree

LABELS_MIN = 200  # some groups of labelled rows
CLASS_MIN = 10  # labels of each class; of fewer, nothing follows for recall or a ranking


@dataclass(slots=True)
class Estimation:
    """Mutable.

    labelled:    the calibration's rows.
    has_changed: whether labels that disagreed have taken the place of others in it.
    """

    previous: AnsweredScores = field(default_factory=AnsweredScores)
    current: AnsweredScores = field(default_factory=AnsweredScores)
    labelled: ScoreHistogram = field(default_factory=ScoreHistogram)
    has_changed: bool = False
    _known: Calibration | None = field(default=None, compare=False, repr=False)  # of `labelled`

    def move_to(self, half: int, spans: Spans) -> None:
        """spans: of all the version's rows, not yet moved to this window."""
        steps = half - spans.half
        if steps <= 0:
            return
        passed = ScoreHistogram()
        passed.merge(spans.previous.classes.histogram)
        if steps > 1:
            passed.merge(spans.current.classes.histogram)
        self._learn(passed, window_labels(spans))
        self.previous = self.current if steps == 1 else AnsweredScores()
        self.current = AnsweredScores()

    def _learn(self, passed: ScoreHistogram, latest: ScoreHistogram) -> None:
        calibration = self.calibration()
        if calibration is not None and disagree(calibration, latest):
            self.labelled, self.has_changed = passed, True
        else:
            self.labelled.merge(passed)
        self._known = None

    def calibration(self) -> Calibration | None:
        """None: of too few labels."""
        if not self.labelled.bins:
            return None
        negatives, positives = self.labelled.counts().sum(axis=1)
        is_enough = negatives + positives >= LABELS_MIN and min(negatives, positives) >= CLASS_MIN
        if is_enough and self._known is None:
            self._known = Calibration.of(self.labelled)
        return self._known if is_enough else None

    def window(self) -> AnsweredScores:
        found = AnsweredScores()
        found.merge(self.previous)
        found.merge(self.current)
        return found

    def to_tree(self) -> Tree:
        return {
            "previous": self.previous.to_tree(),
            "current": self.current.to_tree(),
            "labelled": self.labelled.to_tree(),
            "has_changed": self.has_changed,
        }

    @classmethod
    def from_tree(cls, tree: Tree) -> "Estimation":
        return cls(
            AnsweredScores.from_tree(tree["previous"]),
            AnsweredScores.from_tree(tree["current"]),
            ScoreHistogram.from_tree(tree["labelled"]),
            tree["has_changed"],
        )


def window_labels(spans: Spans) -> ScoreHistogram:
    """Of labels that came in the last one to two windows."""
    found = ScoreHistogram()
    found.merge(spans.previous.classes.histogram)
    found.merge(spans.current.classes.histogram)
    return found
