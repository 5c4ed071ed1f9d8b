"""A mean with its 95 % interval, from few measurements (Student's t)."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # of 2 to 10 values
T_95_MORE = 2.262  # of more than 10: a little too wide, never too narrow


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Raises: statistics.StatisticsError for fewer than two values."""
    count = len(values)
    t = T_95[count - 2] if count - 2 < len(T_95) else T_95_MORE
    mean = statistics.mean(values)
    half = t * statistics.stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def ratio(pairs: Sequence[tuple[float, float]]) -> Interval:
    """Of the second to the first of each pair; on the scale of logarithms."""
    found = interval([math.log(second / first) for first, second in pairs])
    return Interval(math.exp(found.mean), math.exp(found.low), math.exp(found.high))
