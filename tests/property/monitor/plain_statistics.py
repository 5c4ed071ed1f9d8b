"""The statistics once more, slow and obvious, from samples and by scipy where it has them.

Imports nothing of the code that it judges.
"""

import bisect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.spatial.distance
import scipy.stats


@dataclass
class Plain:
    """Two sides as a person would write them down.

    cells:   (reference, live) counts of every cell that either side uses.
    samples: (reference, live) number of the place of each value, in order.
    where:   places, then winsorised places, by number.
    """

    cells: tuple[list[int], list[int]]
    samples: tuple[list[int], list[int]]
    where: list[float]
    inner: list[float]

    @property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        reference, live = (np.array(side, dtype=float) for side in self.cells)
        return reference / reference.sum(), live / live.sum()

    @property
    def smoothed(self) -> tuple[np.ndarray, np.ndarray]:
        reference, live = (np.array(side) + 0.5 for side in self.cells)
        return reference / reference.sum(), live / live.sum()

    @property
    def table(self) -> np.ndarray:
        return np.array(self.cells)

    def at(self, positions: Sequence[float]) -> tuple[list[float], list[float]]:
        reference, live = ([positions[i] for i in side] for side in self.samples)
        return reference, live

    @property
    def spread(self) -> float:
        return float(np.std(self.at(self.inner)[0]))


def plain(
    starts: Sequence[float],
    high: float,
    exact: bool,
    reference: Sequence[int],
    live: Sequence[int],
) -> Plain:
    """Counts are of 256 bins, missing, below, above, non-finite, unseen."""
    cells = _cells(starts, high, exact, reference, live)
    order = [257, *range(256), 258]
    lower = [starts[0], *starts, *[high] * (257 - len(starts))]
    upper = [starts[0], *starts[1:], *[high] * (258 - len(starts))]
    if exact:
        upper = lower
    ordered = [reference[slot] for slot in order]
    inner = _winsorised(lower, upper, ordered)
    return Plain(
        cells,
        (_sample(reference, order), _sample(live, order)),
        [(a + b) / 2 for a, b in zip(lower, upper, strict=True)],
        inner,
    )


def _sample(counts: Sequence[int], order: Sequence[int]) -> list[int]:
    return [place for place, slot in enumerate(order) for _ in range(counts[slot])]


def _cells(
    starts: Sequence[float], high: float, exact: bool, reference: Sequence[int], live: Sequence[int]
) -> tuple[list[int], list[int]]:
    groups = [[slot] for slot in range(261)]
    if not exact:
        tenths = _tenths(reference)
        last = len(starts) - 1
        lump = max(50, sum(reference[:256]) / 100)
        beyond: list[list[int]] = []
        for slot, end, closed in (
            (257, 0, reference[0] >= lump),
            (258, last, reference[last] >= lump and starts[last] == high),
        ):
            if closed:
                beyond.append([slot])
            else:
                next(tenth for tenth in tenths if end in tenth).append(slot)
        groups = [*tenths, *beyond, [256], [259], [260]]
    cells = [
        (sum(reference[slot] for slot in group), sum(live[slot] for slot in group))
        for group in groups
    ]
    used = [pair for pair in cells if sum(pair) > 0]
    return [pair[0] for pair in used], [pair[1] for pair in used]


def _tenths(reference: Sequence[int]) -> list[list[int]]:
    """Bins by the tenth of the rows in which their middle lies; ten rows or more in each."""
    total, before = sum(reference[:256]), 0
    rough: list[list[int]] = [[] for _ in range(10)]
    for slot in range(256):
        middle = before + reference[slot] / 2
        rough[min(int(middle * 10 / max(total, 1)), 9)].append(slot)
        before += reference[slot]
    found: list[list[int]] = []
    gathered: list[int] = []
    for tenth in rough:
        gathered += tenth
        if sum(reference[slot] for slot in gathered) >= 10:
            found.append(gathered)
            gathered = []
    if found:
        found[-1] += gathered
        return found
    return [gathered]


def _winsorised(
    lower: Sequence[float], upper: Sequence[float], ordered: Sequence[int]
) -> list[float]:
    total = sum(ordered)

    def place(share_of_1000: int) -> int:
        seen = 0
        for number, count in enumerate(ordered):
            seen += count
            if seen * 1000 >= share_of_1000 * total:
                return number
        raise AssertionError("no value")

    first, last = place(1), place(999)
    low = upper[first] if ordered[first] * 100 < total else lower[first]
    top = lower[last] if ordered[last] * 100 < total else upper[last]
    low, top = min(low, top), max(low, top)
    return [
        (min(max(a, low), top) + min(max(b, low), top)) / 2
        for a, b in zip(lower, upper, strict=True)
    ]


def _noise(n: float, m: float) -> float:
    return 1 / n + 1 / m


def _contingency(data: Plain, lambda_: str) -> float:
    found = scipy.stats.chi2_contingency(data.table, correction=False, lambda_=lambda_)
    return float(found.statistic)


def _cramers_v(data: Plain) -> float:
    rows, columns = int(data.table.sum()), data.table.shape[1]
    phi2 = _contingency(data, "pearson") / rows
    phi2 = max(0.0, phi2 - (columns - 1) / (rows - 1))
    wide = columns - (columns - 1) ** 2 / (rows - 1)
    deep = 2 - 1 / (rows - 1)
    least = min(wide - 1, deep - 1)
    return float(np.sqrt(min(phi2 / least, 1.0))) if least > 0 else float("nan")


def squared_differences(reference: Sequence[float], live: Sequence[float], tails: bool) -> float:
    """Mean over all values of both sides of (F - G)², by H (1 - H) for the tails."""
    pooled = sorted([*reference, *live])
    reference, live = sorted(reference), sorted(live)
    total = 0.0
    for value in pooled:
        f = bisect.bisect_right(reference, value) / len(reference)
        g = bisect.bisect_right(live, value) / len(live)
        h = bisect.bisect_right(pooled, value) / len(pooled)
        if not tails:
            total += (f - g) ** 2
        elif h < 1:
            total += (f - g) ** 2 / (h * (1 - h))
    return total / len(pooled)


def _scaled(data: Plain) -> tuple[list[float], list[float]]:
    reference, live = data.at(data.inner)
    return [x / data.spread for x in reference], [x / data.spread for x in live]


def _quantile(values: Sequence[float], hundredths: int) -> float:
    ordered = sorted(values)
    for number, value in enumerate(ordered, start=1):
        if number * 100 >= hundredths * len(ordered):
            return value
    raise AssertionError("no value")


def _quantile_shift(hundredths: int) -> Callable[[Plain], float]:
    def shift(data: Plain) -> float:
        reference, live = data.at(data.where)
        moved = _quantile(live, hundredths) - _quantile(reference, hundredths)
        return moved / data.spread

    return shift


def _larger(data: Plain) -> float:
    reference, live = data.samples
    with warnings.catch_warnings():  # all values equal: no deviation to divide by
        warnings.simplefilter("ignore", RuntimeWarning)
        found = scipy.stats.mannwhitneyu(live, reference, method="asymptotic")
    return float(found.statistic) / len(reference) / len(live)


def _kolmogorov(data: Plain) -> float:
    with warnings.catch_warnings():  # one value a side: no p-value, which is not asked for
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(scipy.stats.ks_2samp(*data.samples, method="asymp").statistic)


def _ratio(data: Plain) -> float:
    reference, live = data.at(data.inner)
    return float(np.std(live) / np.std(reference))


def _skewness_shift(data: Plain) -> float:
    reference, live = data.at(data.inner)
    return float(scipy.stats.skew(live) - scipy.stats.skew(reference))


def _mean_shift(data: Plain) -> float:
    reference, live = data.at(data.inner)
    return float((np.mean(live) - np.mean(reference)) / data.spread)


def _row_noise(data: Plain) -> float:
    return _noise(sum(data.cells[0]), sum(data.cells[1]))


PLAIN: dict[str, Callable[[Plain], float]] = {
    "ks": _kolmogorov,
    "psi": lambda d: scipy.stats.entropy(*d.smoothed) + scipy.stats.entropy(*reversed(d.smoothed)),
    "js": lambda d: scipy.spatial.distance.jensenshannon(*d.shares, base=2),
    "kl": lambda d: scipy.stats.entropy(*reversed(d.smoothed)),
    "hellinger": lambda d: np.linalg.norm(np.sqrt(d.shares[0]) - np.sqrt(d.shares[1])) / np.sqrt(2),
    "total_variation": lambda d: scipy.spatial.distance.cityblock(*d.shares) / 2,
    "l_infinity": lambda d: scipy.spatial.distance.chebyshev(*d.shares),
    "chi_square": lambda d: _contingency(d, "pearson") * _row_noise(d),
    "g": lambda d: _contingency(d, "log-likelihood") * _row_noise(d),
    "cramers_v": _cramers_v,
    "wasserstein": lambda d: scipy.stats.wasserstein_distance(*d.at(d.where)),
    "wasserstein_winsorised": lambda d: scipy.stats.wasserstein_distance(*d.at(d.inner)),
    "wasserstein_scaled": lambda d: scipy.stats.wasserstein_distance(*_scaled(d)),
    "cramer_von_mises": lambda d: squared_differences(*d.samples, tails=False),
    "anderson_darling": lambda d: squared_differences(*d.samples, tails=True),
    "energy": lambda d: scipy.stats.energy_distance(*_scaled(d)),
    "mann_whitney": _larger,
    "mean_shift": _mean_shift,
    "deviation_ratio": _ratio,
    "skewness_shift": _skewness_shift,
    "p05_shift": _quantile_shift(5),
    "median_shift": _quantile_shift(50),
    "p95_shift": _quantile_shift(95),
}
