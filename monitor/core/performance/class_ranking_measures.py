"""ROC AUC of more than two classes: each class against the rest, then a mean over classes.

A row whose true class has no column of scores is one of the rest of each class.

Laws of the interval:
- a row is positive for one class and negative for all others, so what positives leave
  uncertain is independent between classes and adds up, and what negatives do is not known
  to be: their deviations are added, which no correlation exceeds;
- where the weights are the shares of the classes, those are uncertain too;
- a class that is ranked perfectly has no variance on its rows; it is given that of as many
  rows as the smaller side has, all right, with two hits and two misses added.
"""

from collections.abc import Callable, Mapping
from math import nan, sqrt

from monitor.core.performance.class_measures import SKLEARN, positive_of
from monitor.core.performance.class_rankings import RANKED_MAX
from monitor.core.performance.class_tally import ClassTally
from monitor.core.performance.entry import Better, Estimate, Measure, Task
from monitor.core.performance.intervals import Z, shrunk_variance
from monitor.core.performance.ranking import Ranking, ranking_of
from monitor.core.performance.score_measures import NO_NAMES, agrees
from monitor.core.performance.tally import Tally

NO_SCORES = "the answers come without scores of the classes"
NAME_SHOWN = 40  # characters of a class in a sentence

Rankings = Mapping[str, Ranking | None]  # by class; None: without a row of it, or of another


def _of_rankings(make: Callable[[Rankings], Estimate]) -> Callable[[Tally], Estimate | None]:
    def estimate(tally: Tally) -> Estimate | None:
        classes = tally.classes
        if not tally.are_classes or classes.histogram.bins:
            return None  # of two classes, ROC AUC says it all
        if not classes.scores.rows:
            no_scores = Estimate(nan, 0, undefined=NO_SCORES)
            return no_scores if positive_of(classes) is None else None
        reason = _undefined(classes)
        if reason:
            return Estimate(nan, classes.scores.rows, undefined=reason)
        rankings = classes.rankings
        return make({n: ranking_of(rankings.counts(n)) for n in sorted(rankings.of_class)})

    return estimate


def _undefined(classes: ClassTally) -> str:
    """Why there is no such measure of any of these rows; empty: there may be one."""
    if not agrees(classes.scores):
        return NO_NAMES
    of_class = classes.rankings.of_class
    if not of_class:
        return f"more than {RANKED_MAX} classes are not ranked"
    if any(int(classes.rankings.counts(name).sum()) != classes.scores.rows for name in of_class):
        return "the rows do not all have scores of the same classes"
    return ""


def _macro(rankings: Rankings) -> Estimate:
    known = {name: ranking for name, ranking in rankings.items() if ranking is not None}
    if len(known) < len(rankings):
        rows = max((r.negatives + r.positives for r in known.values()), default=0)
        first = next(name for name in rankings if name not in known)
        return Estimate(nan, rows, undefined=_alone(known, first))
    return _mean([(1 / len(known), ranking) for ranking in known.values()], 0.0)


def _weighted(rankings: Rankings) -> Estimate:
    known = {name: ranking for name, ranking in rankings.items() if ranking is not None}
    of_known = sum(ranking.positives for ranking in known.values())
    if not of_known:
        return Estimate(nan, 0, undefined=_alone(known, ""))
    weighted = [(ranking.positives / of_known, ranking) for ranking in known.values()]
    mean = sum(weight * ranking.value for weight, ranking in weighted)
    spread = sum(weight * (ranking.value - mean) ** 2 for weight, ranking in weighted)
    return _mean(weighted, spread / of_known)


def _alone(known: Mapping[str, Ranking], missing: str) -> str:
    if not known:
        return "the labelled rows with scores are all of one class"
    return f"no labelled row with scores is of class {missing[:NAME_SHOWN]!r}"


def _mean(weighted: list[tuple[float, Ranking]], of_weights: float) -> Estimate:
    """of_weights: variance of the mean that comes from weights which are estimates."""
    value = sum(weight * ranking.value for weight, ranking in weighted)
    independent, together = of_weights, 0.0
    for weight, ranking in weighted:
        of_positives = ranking.of_positives
        if ranking.variance == 0.0:
            least = min(ranking.negatives, ranking.positives)
            of_positives = shrunk_variance(round(ranking.value * least), least)
        independent += weight**2 * of_positives
        together += weight * sqrt(ranking.of_negatives)
    half = Z * (sqrt(independent) + together)
    rows = weighted[0][1].negatives + weighted[0][1].positives
    binning = sum(weight * ranking.binning for weight, ranking in weighted)
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    return Estimate(value, rows, low, high, binning=binning)


MACRO_ROC_AUC = Measure(
    "macro_roc_auc",
    "ROC AUC, macro",
    Task.MANY_SCORES,
    Better.HIGHER,
    "mean over all classes of ROC AUC of the class against the rest",
    "DeLong by class, deviations of negatives added",
    f'{SKLEARN}.roc_auc_score(multi_class="ovr", average="macro")',
    _of_rankings(_macro),
)
WEIGHTED_ROC_AUC = Measure(
    "weighted_roc_auc",
    "ROC AUC, weighted",
    Task.MANY_SCORES,
    Better.HIGHER,
    "the same mean, each class weighted by its share of the labelled rows",
    "DeLong by class, deviations of negatives added, and the weights' own",
    f'{SKLEARN}.roc_auc_score(multi_class="ovr", average="weighted")',
    _of_rankings(_weighted),
)
