"""Measures of numbers, from exact sums of the errors e and the truths t."""

from collections.abc import Callable
from math import nan, sqrt

from monitor.core.performance.class_measures import SKLEARN
from monitor.core.performance.entry import Better, Estimate, Measure, Task
from monitor.core.performance.exact_sum import as_float
from monitor.core.performance.intervals import Z, normal
from monitor.core.performance.log_histogram import RELATIVE_ERROR
from monitor.core.performance.number_tally import NumberTally
from monitor.core.performance.tally import Tally


def _of_numbers(make: Callable[[NumberTally], Estimate]) -> Callable[[Tally], Estimate | None]:
    return lambda tally: make(tally.numbers) if tally.numbers.rows else None


def _mae(numbers: NumberTally) -> Estimate:
    mean = numbers.mean_absolute
    value = as_float(mean)
    low, high = normal(value, as_float(numbers.mean("ee") - mean**2), numbers.rows)
    return Estimate(value, numbers.rows, max(low, 0.0), high)


def _rmse(numbers: NumberTally) -> Estimate:
    square = numbers.mean("ee")
    value = sqrt(as_float(square))
    if value == 0.0:
        return Estimate(0.0, numbers.rows)
    # Relative to the square itself, so that nothing overflows.
    spread = as_float(numbers.mean("eeee") / square**2 - 1)
    low, high = normal(value, value**2 * spread / 4, numbers.rows)
    return Estimate(value, numbers.rows, max(low, 0.0), high)


def _median_error(numbers: NumberTally) -> Estimate:
    errors, rows = numbers.errors, numbers.rows
    # Ranks of a median are those of a coin's heads, whatever the errors' law.
    reach = Z / (2 * sqrt(rows))
    value = errors.quantile(0.5)
    low, high = errors.quantile(max(0.5 - reach, 0.0)), errors.quantile(min(0.5 + reach, 1.0))
    if rows < 2:
        low = high = nan
    return Estimate(value, rows, low, high, binning=value * RELATIVE_ERROR)


def _r2(numbers: NumberTally) -> Estimate:
    a, mean = numbers.mean("ee"), numbers.mean("t")
    tt, ttt, tttt = numbers.mean("tt"), numbers.mean("ttt"), numbers.mean("tttt")
    b = tt - mean**2
    if b == 0:
        return Estimate(nan, numbers.rows)
    fourth = tttt - 4 * mean * ttt + 6 * mean**2 * tt - 3 * mean**4
    crossed = numbers.mean("eett") - 2 * mean * numbers.mean("eet") + mean**2 * a
    # The influence of a row on 1 - a / b is (a (t - mean)^2 / b - e^2) / b.
    ratio = a / b
    variance = numbers.mean("eeee") / b**2 - 2 * ratio * crossed / b**2 + ratio**2 * fourth / b**2
    value = as_float(1 - ratio)
    low, high = normal(value, as_float(variance), numbers.rows)
    return Estimate(value, numbers.rows, low, min(high, 1.0))


MAE = Measure(
    "mae",
    "Mean absolute error",
    Task.NUMBERS,
    Better.LOWER,
    "mean distance of the answer from the truth, in the answer's unit",
    "normal",
    f"{SKLEARN}.mean_absolute_error",
    _of_numbers(_mae),
)
RMSE = Measure(
    "rmse",
    "Root mean squared error",
    Task.NUMBERS,
    Better.LOWER,
    "root of the mean squared distance, in the answer's unit",
    "delta method",
    f"{SKLEARN}.root_mean_squared_error",
    _of_numbers(_rmse),
)
MEDIAN_ABSOLUTE_ERROR = Measure(
    "median_absolute_error",
    "Median absolute error",
    Task.NUMBERS,
    Better.LOWER,
    "median distance of the answer from the truth, to within 3.2 %",
    "ranks",
    f"{SKLEARN}.median_absolute_error",
    _of_numbers(_median_error),
)
R2 = Measure(
    "r2",
    "R²",
    Task.NUMBERS,
    Better.HIGHER,
    "1 - mean squared error / variance of the truth",
    "delta method",
    f"{SKLEARN}.r2_score",
    _of_numbers(_r2),
)
