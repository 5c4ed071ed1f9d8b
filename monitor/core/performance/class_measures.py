"""Measures of classes: of all rows, of the positive one of two, and by class.

Of a class: `truth` rows are of it, `said` rows were answered with it, `both` rightly so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import nan, sqrt

from monitor.core.performance.class_tally import ClassCount, ClassTally
from monitor.core.performance.entry import Better, Estimate, Measure, Task
from monitor.core.performance.intervals import Z, shrunk_variance, wilson
from monitor.core.performance.tally import Tally

SKLEARN = "scikit-learn, sklearn.metrics"


def positive_of(tally: ClassTally) -> str | None:
    """The positive one of two classes; None where there are not two."""
    seen = tally.of_class.keys()
    if tally.others.truth or tally.others.said or len(seen) > 2:
        return None
    if tally.positive:
        # With another one beside two known ones it is not about two.
        return tally.positive if len(seen | {tally.positive}) <= 2 else None
    return "1" if seen <= {"0", "1"} else None


def share(hits: int, rows: int) -> Estimate:
    """Wilson's interval is right for few rows too, and for none or all of them hit."""
    if rows == 0:
        return Estimate(nan, 0)
    return Estimate(hits / rows, rows, *wilson(hits / rows, rows))


def f1(count: ClassCount) -> Estimate:
    """2 both / (truth + said), of the rows that are of the class or were answered with it.

    Among those `both` is a share J like any other, and F1 = 2 J / (1 + J) rises with it: so
    Wilson's interval of J gives that of F1.
    """
    either = count.truth + count.said - count.both
    of_either = share(count.both, either)
    low, high = (2 * end / (1 + end) for end in (of_either.low, of_either.high))
    value = 2 * count.both / (count.truth + count.said) if either else nan
    return Estimate(value, either, low, high)


def _of_classes(make: Callable[[ClassTally], Estimate]) -> Callable[[Tally], Estimate | None]:
    return lambda tally: make(tally.classes) if tally.are_classes else None


def _of_positive(make: Callable[[ClassCount], Estimate]) -> Callable[[Tally], Estimate | None]:
    def estimate(tally: Tally) -> Estimate | None:
        positive = positive_of(tally.classes) if tally.are_classes else None
        if positive is None:
            return None
        return make(tally.classes.of_class.get(positive, ClassCount()))

    return estimate


@dataclass(frozen=True, slots=True)
class _Part:
    """One class's part in a mean over classes."""

    value: float
    variance: float


def _macro(
    part: Callable[[ClassCount], _Part], inflation: float = 1.0
) -> Callable[[Tally], Estimate | None]:
    """The mean over classes that occur, as truth or as an answer."""

    def estimate(tally: Tally) -> Estimate | None:
        classes = tally.classes
        if not tally.are_classes or positive_of(classes) is not None:
            return None
        if classes.others.truth or classes.others.said:
            return Estimate(nan, classes.rows)  # which classes those are is not known
        return _mean([part(count) for count in classes.of_class.values()], classes.rows, inflation)

    return estimate


def _mean(parts: Iterable[_Part], rows: int, inflation: float) -> Estimate:
    parts = sorted(parts, key=lambda part: (part.value, part.variance))  # the order of no dict
    value = sum(part.value for part in parts) / len(parts)
    half = Z * sqrt(inflation * sum(part.variance for part in parts)) / len(parts)
    return Estimate(value, rows, max(value - half, 0.0), min(value + half, 1.0))


def _precision_part(count: ClassCount) -> _Part:
    if not count.said:
        return _Part(0.0, 0.0)
    return _Part(count.both / count.said, shrunk_variance(count.both, count.said))


def _recall_part(count: ClassCount) -> _Part:
    if not count.truth:
        return _Part(0.0, 0.0)
    return _Part(count.both / count.truth, shrunk_variance(count.both, count.truth))


def _f1_part(count: ClassCount) -> _Part:
    either = count.truth + count.said - count.both
    slope = 2 / (1 + count.both / either) ** 2
    value = 2 * count.both / (count.truth + count.said)
    return _Part(value, slope**2 * shrunk_variance(count.both, either))


ACCURACY = Measure(
    "accuracy",
    "Accuracy",
    Task.CLASSES,
    Better.HIGHER,
    "rows that were answered rightly, of all",
    "Wilson",
    f"{SKLEARN}.accuracy_score",
    _of_classes(lambda classes: share(classes.right, classes.rows)),
)
PRECISION = Measure(
    "precision",
    "Precision",
    Task.TWO_CLASSES,
    Better.HIGHER,
    "of the rows that were answered with the positive class, those that are of it",
    "Wilson",
    f"{SKLEARN}.precision_score",
    _of_positive(lambda count: share(count.both, count.said)),
)
RECALL = Measure(
    "recall",
    "Recall",
    Task.TWO_CLASSES,
    Better.HIGHER,
    "of the rows that are of the positive class, those that were answered with it",
    "Wilson",
    f"{SKLEARN}.recall_score",
    _of_positive(lambda count: share(count.both, count.truth)),
)
F1 = Measure(
    "f1",
    "F1",
    Task.TWO_CLASSES,
    Better.HIGHER,
    "harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)",
    "Wilson, of TP / (TP + FP + FN)",
    f"{SKLEARN}.f1_score",
    _of_positive(f1),
)
MACRO_PRECISION = Measure(
    "macro_precision",
    "Precision, macro",
    Task.CLASSES,
    Better.HIGHER,
    "mean of the precisions of all classes that occur; 0 for one that was never answered",
    "normal, Agresti-Coull by class",
    f'{SKLEARN}.precision_score(average="macro")',
    _macro(_precision_part),
)
MACRO_RECALL = Measure(
    "macro_recall",
    "Recall, macro",
    Task.CLASSES,
    Better.HIGHER,
    "mean of the recalls of all classes that occur; 0 for one that was never true",
    "normal, Agresti-Coull by class",
    f'{SKLEARN}.recall_score(average="macro")',
    _macro(_recall_part),
)
MACRO_F1 = Measure(
    "macro_f1",
    "F1, macro",
    Task.CLASSES,
    Better.HIGHER,
    "mean of the F1 of all classes that occur",
    # A wrong row counts in two classes, and (a + b)^2 <= 2 a^2 + 2 b^2.
    "delta method, Agresti-Coull by class, variance doubled",
    f'{SKLEARN}.f1_score(average="macro")',
    _macro(_f1_part, inflation=2.0),
)
