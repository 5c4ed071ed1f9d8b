"""How good numbers are as a quantile of the truth, from the exact sums of the errors e."""

from fractions import Fraction
from functools import lru_cache

from monitor.core.performance.class_measures import SKLEARN
from monitor.core.performance.entry import Better, Estimate, Measure, Task
from monitor.core.performance.exact_sum import as_float
from monitor.core.performance.intervals import normal
from monitor.core.performance.tally import Tally


@lru_cache(maxsize=16)
def quantile_loss(level: float) -> Measure:
    """level: above 0, at most 1: the share of truths that are to lie below the answers."""

    def estimate(tally: Tally) -> Estimate | None:
        numbers = tally.numbers
        if not numbers.rows:
            return None
        # Of an answer that is too high by e > 0, and of one too low: parts of |e| and of e^2.
        size, error = numbers.mean_absolute, numbers.mean("e")
        square, signed = numbers.mean("ee"), numbers.mean("ea")
        below = Fraction(level)
        mean = ((1 - below) * (size + error) + below * (size - error)) / 2
        squares = ((1 - below) ** 2 * (square + signed) + below**2 * (square - signed)) / 2
        value = as_float(mean)
        low, high = normal(value, as_float(squares - mean**2), numbers.rows)
        return Estimate(value, numbers.rows, max(low, 0.0), high)

    return Measure(
        "quantile_loss",
        f"Quantile loss at {level:g}",
        Task.NUMBERS,
        Better.LOWER,
        f"mean of the error: {level:g} times what an answer is too low by, {1 - level:g} times "
        "what it is too high by",
        "normal",
        f"{SKLEARN}.mean_pinball_loss(alpha={level:g})",
        estimate,
    )
